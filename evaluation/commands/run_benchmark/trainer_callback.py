"""Scores a model while it trains: a TrainerCallback that runs a config every n steps and can stop on a drop."""

from __future__ import annotations

import logging
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evaluation.commands.run_benchmark.in_python import run
from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError
from evaluation.execution.reporting import RunOutcome
from evaluation.execution.runner import RunOptions

_LOG = logging.getLogger(__name__)
_DIGITS: Final = 8


class EvaluationCallback(TrainerCallback):
    """Runs a config on the model in training, for sentence-transformers' trainer.

    Each evaluation is a run of its own, in a folder with the step in its name (`<name>-step-00000500`), so that
    `compare-results results/<name>-step-*`, `write-report` and `check-regression` read the series. Faults of an
    evaluation are logged, and training goes on.

    Args:
        config: The config. The row with this label gives the options, such as the protocol; no other row runs.
        every_steps: Steps between evaluations; the last step of the training is always evaluated.
        label: The row of the model.
        stop_on_drop: Ends the training when the newest model is significantly worse than an earlier one.
        alpha: Level of that test, after Holm's correction over all pairs of evaluated steps, so that having picked the
            best one is paid for.

    Attributes:
        outcomes: Step -> its run.

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
        self._config, self._every, self._label = config, every_steps, label
        self._stops, self._alpha = stop_on_drop, alpha
        self.outcomes: dict[int, RunOutcome] = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Evaluates every n steps."""
        if state.global_step % self._every == 0:
            self._evaluate(state, control, given.get("model"))
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Evaluates the last step, unless it was evaluated."""
        if state.global_step not in self.outcomes:
            self._evaluate(state, control, given.get("model"))
        return control

    def _evaluate(self, state: TrainerState, control: TrainerControl, model: object) -> None:
        if not state.is_world_process_zero:
            return
        step = state.global_step
        name = f"{self._config.name}-step-{step:0{_DIGITS}}"
        config = self._config.model_copy(update={"name": name})
        try:
            outcome = run(config, RunOptions(models=(self._label,)), models={self._label: model})
            self.outcomes[step] = outcome
            better = self._better_before(step)
        except EvaluationError as error:
            _LOG.warning("step %d was not evaluated: %s", step, error)
            return
        if better is not None:
            _LOG.warning("step %d is significantly worse than step %d.", step, better)
            control.should_training_stop = control.should_training_stop or self._stops

    def _better_before(self, step: int) -> int | None:
        """The best earlier step that is significantly better than this one; None if none is."""
        from evaluation.analysis.comparison.compare import compare

        runs = {str(outcome.folder.name): earlier for earlier, outcome in self.outcomes.items()}
        if len(runs) < 2:
            return None
        found = compare([outcome.folder for outcome in self.outcomes.values()])
        steps = {column.label: runs[column.run] for column in found.columns}
        pairs = found.standings.pairs if found.standings is not None else ()
        better = [pair.first for pair in pairs if steps[pair.second] == step and pair.p < self._alpha]
        order = [one.label for one in found.standings.models] if found.standings is not None else []
        return next((steps[label] for label in order if label in better), None)
