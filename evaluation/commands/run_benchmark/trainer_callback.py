"""Scores a model while it trains: a TrainerCallback that runs a config every n steps and can stop on a drop."""

from __future__ import annotations

import logging
from typing import Any, Final

from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evaluation.commands.run_benchmark.in_python import run
from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError, UsageError
from evaluation.execution.reporting import RunOutcome
from evaluation.execution.runner import RunOptions
from evaluation.models.names import IN_MEMORY
from evaluation.records.store import RunStore

_LOG = logging.getLogger(__name__)
_SUFFIX: Final = "training"


class EvaluationCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Runs a config on the model in training, for the trainers of transformers and sentence-transformers.

    The evaluations are the rows of one run, `<name>-training`, and one series, as `folders:` makes it of checkpoints:
    `compare-results`, `write-report` and `check-regression --series` read it. A training that resumes from a checkpoint
    keeps the rows of earlier steps; one that starts at step 0 is refused where the series has rows already. Faults of
    an evaluation are logged, and training goes on.

    Args:
        config: The config. The row with this label gives the options, such as the protocol; no other row runs.
        every_steps: Steps between evaluations; the last step of the training is always evaluated.
        label: The row of the model, and the name of the series; its rows are `<label>-step-<step>`.
        stop_on_drop: Ends the training when the newest model is significantly worse than an earlier one.
        alpha: Level of that test, after Holm's correction over all pairs of evaluated steps, so that having picked the
            best one is paid for.

    Attributes:
        outcomes: Step -> what its evaluation did.

    Example:
        >>> callback = EvaluationCallback(load_config("dev.yaml"), every_steps=500, stop_on_drop=True)
        >>> SentenceTransformerTrainer(model=model, callbacks=[callback], ...).train()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        every_steps: int,
        label: str = "model",
        stop_on_drop: bool = False,
        alpha: float = 0.05,
    ) -> None:
        row = next((model for model in config.models if model.label == label), None)
        if row is None:
            labels = ", ".join(model.label for model in config.models)
            raise UsageError(f"label={label!r}: no model of the config has this label (labels: {labels}).")
        self._config = config.model_copy(update={"name": f"{config.name}-{_SUFFIX}"})
        self._row, self._every, self._stops, self._alpha = row, every_steps, stop_on_drop, alpha
        self.outcomes: dict[int, RunOutcome] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Refuses to mix the series of two trainings.

        Raises:
            UsageError: The training starts at step 0, and the run has rows of this series.
        """
        series = self._row.label
        steps = [f"{row.step:g}" for row in self._stored_rows() if row.series == series and row.step is not None]
        if state.is_world_process_zero and state.global_step == 0 and steps:
            raise UsageError(
                f"{self._config.run_folder} holds the series {series!r} of another training, up to step {steps[-1]}; "
                "resume that training from a checkpoint, give the config another name, or delete the folder."
            )
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Evaluates every n steps."""
        if state.global_step % self._every == 0:
            self._evaluate(state, control, given)
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Evaluates the last step, unless it was evaluated."""
        if state.global_step not in self.outcomes:
            self._evaluate(state, control, given)
        return control

    def _evaluate(self, state: TrainerState, control: TrainerControl, given: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        step, model = state.global_step, given.get("model")
        is_training = isinstance(model, nn.Module) and model.training
        try:
            if isinstance(model, nn.Module):
                model.eval()
            self.outcomes[step] = self._run(step, model, given.get("processing_class"))
            better = self._better_before(step)
        except EvaluationError as error:
            _LOG.warning("step %d was not evaluated: %s", step, error)
            return
        finally:
            if isinstance(model, nn.Module):
                model.train(is_training)
        if better is not None:
            _LOG.warning("step %d is significantly worse than step %d.", step, better)
            control.should_training_stop = control.should_training_stop or self._stops

    def _run(self, step: int, model: object, tokenizer: object) -> RunOutcome:
        series = self._row.label
        row = self._row.model_copy(
            update={"label": f"{series}-step-{step}", "series": series, "step": float(step), "stored": None}
        )
        config = self._config.with_models((*self._earlier_rows(step), row))
        if isinstance(model, PreTrainedModel) and tokenizer is not None:
            model = (model, tokenizer)
        return run(config, RunOptions(models=(row.label,)), models={row.label: model})

    def _stored_rows(self) -> list[ModelConfig]:
        """Returns the rows of the run, whose models are gone."""
        stored = RunStore(self._config.run_folder).read_run_or_set_aside()
        entries = [] if stored is None else stored.config["models"]
        return [self._row.model_copy(update={**entry, "model": IN_MEMORY, "stored": None}) for entry in entries]

    def _earlier_rows(self, step: int) -> list[ModelConfig]:
        return [row for row in self._stored_rows() if row.series != self._row.label or (row.step or 0) < step]

    def _better_before(self, step: int) -> int | None:
        """The best earlier step that is significantly better than this one; None if none is."""
        from evaluation.analysis.comparison.compare import compare
        from evaluation.analysis.comparison.series import find_series

        if len(self._earlier_rows(step)) == 0:
            return None
        found = next(
            (one for one in find_series(compare(self._config.run_folder)) if one.name == self._row.label), None
        )
        if found is None or found.checkpoints[-1].step != step:
            return None
        *earlier, newest = found.checkpoints
        pairs = {one.step: found.pair(newest, one) for one in earlier if one.mean > newest.mean}
        better = [one for one in earlier if (pair := pairs.get(one.step)) is not None and pair.p < self._alpha]
        return int(max(better, key=lambda one: one.mean).step) if better else None
