"""Plans a config's jobs: one model under one protocol on one task, with all its chosen splits and subsets.

Checks everything before anything is loaded; imports neither mteb nor torch.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.config.limit import Limit
from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import ConfigPath, RunConfig
from evaluation.config.stored_forms import SCHEMES_VERSION, metric_depth
from evaluation.errors import ConfigError, ModelError
from evaluation.models.bm25 import installed_bm25
from evaluation.models.builtin import BUILTIN_MODELS
from evaluation.models.default_protocol import protocol_of
from evaluation.models.folder_checks import check_model_folder
from evaluation.models.names import BUILTIN_PREFIX, is_bm25, is_builtin, is_folder_name
from evaluation.protocols import ModelProtocol, TaskRules
from evaluation.tasks.choosing import TaskChooser
from evaluation.tasks.selection import TaskChoice
from evaluation.tasks.types import RERANKING_TYPES, RETRIEVAL_TYPES, TASK_TYPES


@dataclass(frozen=True, slots=True)
class Job:
    """One model under one protocol on one task."""

    model: ModelConfig
    task: TaskChoice
    rules: TaskRules
    limit: Limit | None
    seed: int

    @property
    def key(self) -> tuple[str, str]:
        """Label and task name, which identify the job within its run."""
        return self.model.label, self.task.name

    @property
    def name(self) -> str:
        """Label and task, for people."""
        return f"{self.model.label} on {self.task.name}"


def fingerprint(job: Job, model_identity: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Hashes everything that can move a number of a job, to 64 hex digits.

    Args:
        model_identity: Content hashes of weights and tokenizer, resolved pooling, maximum length, dtype and backend.
        versions: Versions of the libraries that compute the metrics.
    """
    task = job.task
    identity: dict[str, Any] = {
        "model": dict(model_identity),
        "rules": job.rules.as_dict(),
        "task": [task.name, task.type, task.via, task.source, task.dataset, task.dataset_revision, task.main_score],
        "splits": task.splits,
        "subsets": task.subsets,
        "options": dict(task.options),
        "limit": job.limit.model_dump() if job.limit else None,
        "seed": job.seed,
        "versions": dict(versions),
    }
    if job.model.form is not None:
        identity["stored"] = [SCHEMES_VERSION, job.model.form.model_dump()]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def build_jobs(config: RunConfig, *, only: Sequence[str] = (), models: Sequence[str] = ()) -> list[Job]:
    """Returns all jobs of a config, model by model.

    Args:
        only: Globs; keep tasks whose name matches one of them.
        models: Labels; keep these models.

    Raises:
        ConfigError: Has a sentence per unknown task, missing folder, broken data file and so on.

    Example:
        >>> [job.name for job in build_jobs(load_config("configs/quickstart.yaml"), only=["SciFact*"])]
    """
    problems = _model_problems(config, models)
    protocols = {} if problems else _protocols(config, problems)
    chooser = TaskChooser(config)
    jobs: dict[tuple[str, str], Job] = {}
    for position in range(len(config.tasks)):
        for model in config.models:
            for task, rules in chooser.choices(position, protocols.get(model.label, ModelProtocol("none"))):
                if task.type not in _scored_types(model):
                    continue
                fault = _shallow(model, task)
                if fault:
                    problems.append(config.place(("models", config.models.index(model), "stored")) + fault)
                job = jobs.setdefault(
                    (model.label, task.name), Job(model, task, rules, config.limit, config.runtime.seed)
                )
                if job.task != task:
                    place = config.place(("tasks", position))
                    problems.append(
                        f"{place}task {task.name!r} is chosen twice, with different options; "
                        "remove one of them (for a benchmark, with exclude: [...])."
                    )
    problems += chooser.problems or _unscored(config, {label for label, _ in jobs})
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _narrowed(config, list(jobs.values()), only, models)


def _scored_types(model: ModelConfig) -> Collection[str]:
    """Returns the task types that a row has a score on: BM25 ranks, and rescoring needs a corpus that is searched."""
    if is_bm25(model.model):
        return RETRIEVAL_TYPES
    return TASK_TYPES if model.form is None or model.form.rescore is None else RETRIEVAL_TYPES - RERANKING_TYPES


def _unscored(config: RunConfig, scored: Collection[str]) -> list[str]:
    """Returns a sentence per row that no task of the config can score."""
    return [
        f"{config.place(('models', position, 'model' if model.form is None else 'stored'))}{model.label} scores only "
        f"tasks of types {', '.join(sorted(_scored_types(model)))}; the config has none: add one, or remove this row."
        for position, model in enumerate(config.models)
        if model.label not in scored
    ]


def _shallow(model: ModelConfig, task: TaskChoice) -> str | None:
    """Returns why a row can't have a score on a task: rescoring keeps fewer documents than the main metric looks at."""
    rescore, depth = model.form and model.form.rescore, metric_depth(task.main_score)
    if not rescore or rescore.candidates >= depth:
        return None
    return (
        f"{model.label}: rescore.candidates {rescore.candidates} is less than the {depth} documents that "
        f"{task.main_score} of {task.name} looks at; raise candidates."
    )


def _protocols(config: RunConfig, problems: list[str]) -> dict[str, ModelProtocol]:
    """Returns each label's protocol; models whose files can't be understood go to `problems`."""
    protocols = {}
    for position, model in enumerate(config.models):
        try:
            protocols[model.label] = protocol_of(config, model)
        except ModelError as error:
            problems.append(f"{config.place(('models', position, 'model'))}{error}")
    return protocols


def _narrowed(config: RunConfig, jobs: list[Job], only: Sequence[str], models: Sequence[str]) -> list[Job]:
    """Returns the jobs that the command line chose, model by model."""
    order = {model.label: position for position, model in enumerate(config.models)}
    kept = [
        job
        for job in sorted(jobs, key=lambda job: order[job.model.label])
        if (not models or job.model.label in models)
        and (not only or any(fnmatch.fnmatchcase(job.task.name, glob) for glob in only))
    ]
    if not kept:
        names = ", ".join(sorted({job.task.name for job in jobs if not models or job.model.label in models})[:20])
        chosen = f" of {', '.join(models)}" if models else ""
        raise ConfigError([f"nothing is left to run: no task{chosen} matches {', '.join(only)} (tasks: {names})."])
    return kept


def _bm25_fault(config: RunConfig) -> str | None:
    """Returns why BM25 can't run, as a sentence; None if it can."""
    if config.runtime.executor != "local":
        return (
            f"model bm25 runs in this process, not under runtime.executor: {config.runtime.executor}; give it a config "
            "of its own with executor: local."
        )
    if installed_bm25() is None:
        return "model bm25 needs the packages bm25s and PyStemmer; install them with: pip install 'e5-evaluation[bm25]'"
    return None


def _model_problems(config: RunConfig, chosen: Sequence[str]) -> list[str]:
    """Returns a sentence per model that can't exist, and per chosen label that no model has."""
    problems = []
    labels = [model.label for model in config.models]
    for label in chosen:
        if label not in labels:
            problems.append(f"--model {label!r}: no model has this label (labels: {', '.join(labels)}).")
    for position, model in enumerate(config.models):
        path: ConfigPath = ("models", position, "model")
        fault = None if model.endpoint is not None else _model_fault(config, model.model)
        if fault:
            problems.append(config.place(path) + fault)
        builtin = BUILTIN_MODELS.get(model.model.removeprefix(BUILTIN_PREFIX)) if is_builtin(model.model) else None
        misfit = builtin and model.form and model.form.misfit(builtin.width)
        if misfit:
            problems.append(f"{config.place(('models', position, 'stored'))}{model.label}: {misfit}.")
    return problems


def _model_fault(config: RunConfig, name: str) -> str | None:
    if is_bm25(name):
        return _bm25_fault(config)
    if is_builtin(name):
        if name.removeprefix(BUILTIN_PREFIX) in BUILTIN_MODELS:
            return None
        allowed = ", ".join(BUILTIN_PREFIX + known for known in BUILTIN_MODELS)
        return f"unknown builtin model {name!r} (allowed: {allowed})."
    if not is_folder_name(name):
        return None
    folder = config.resolve_path(name)
    if not folder.is_dir():
        return f"model {name!r}: there is no folder {folder}."
    if not any((folder / file).is_file() for file in ("config.json", "modules.json", "adapter_config.json")):
        return f"model {name!r}: {folder} holds neither config.json nor modules.json, so it is not a checkpoint."
    try:
        check_model_folder(folder, f"model {name!r}")
    except ModelError as error:
        return str(error)
    return None
