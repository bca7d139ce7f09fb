"""Finds out which jobs are stored, without a network and without the machines that ran them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluation.config.models import ModelConfig, RunConfig
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import StoreError
from evaluation.execution.local_executor import LocalExecutor
from evaluation.hub.client import snapshot_folder
from evaluation.jobs import Job
from evaluation.models.checkpoint import is_folder_name
from evaluation.models.sizes import is_builtin
from evaluation.records.store import RunStore


def stored_states(
    config: RunConfig, jobs: Sequence[Job], executor: LocalExecutor
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Returns the states of jobs that are not waiting, and a sentence for each stored file that is damaged.

    A job is done if a score is stored under its fingerprint. That needs the model's files: without them the state is
    "unknown until fetched".

    Args:
        config: The run's config.
        jobs: The jobs.
        executor: Identifies the jobs.
    """
    store = RunStore(config.run_folder)
    states, notes = dict[tuple[str, str], str](), []
    for job in jobs:
        model = _on_this_machine(config, job.model)
        if model is None:
            states[job.key] = "unknown until fetched"
            continue
        try:
            record = store.load(*job.key, executor.fingerprint(replace(job, model=model)))
        except StoreError as error:
            states[job.key] = "damaged"
            notes.append(f"{error} {job.name} counts as not done.")
            continue
        if record is not None and record.state == "done":
            states[job.key] = "done"
    return states, notes


def executor_of_stored_run(config: RunConfig, jobs: Sequence[Job], manifest: Mapping[str, Any]) -> LocalExecutor | None:
    """Returns an executor that identifies the jobs as the cluster of an earlier start did, if all of them are stored.

    Fingerprints hold settings that are resolved where a job runs, such as the dtype; run.json keeps those of a cluster.
    With them a start that has nothing to run needs no cluster.

    Args:
        config: The run's config.
        jobs: The jobs of this start.
        manifest: The content of run.json.
    """
    known = manifest.get("executor", {}).get("models", {})
    wanted = {job.model.label: declared_model(config, job.model) for job in jobs}
    if any(known.get(label, {}).get("declared") != declared for label, declared in wanted.items()):
        return None
    try:
        settings = {label: EncoderSettings(**known[label]["settings"]) for label in wanted}
    except TypeError:  # written by another version
        return None
    executor = LocalExecutor(config, settings=settings)
    states, _ = stored_states(config, jobs, executor)
    return executor if all(states.get(job.key) == "done" for job in jobs) else None


def declared_model(config: RunConfig, model: ModelConfig) -> dict[str, Any]:
    """Returns all that a config says about how a model runs."""
    return {**model.model_dump(mode="json"), "device": config.runtime.device}


def _on_this_machine(config: RunConfig, model: ModelConfig) -> ModelConfig | None:
    """Returns the model in a form that needs no network: a Hub model as its cached folder, or None if not cached."""
    name = model.model
    is_local = is_builtin(name) or is_folder_name(name) or config.resolve_path(name).is_dir()
    if is_local or model.endpoint is not None:
        return model
    folder = snapshot_folder("model", name, model.revision)
    return None if folder is None else model.model_copy(update={"model": str(folder), "revision": None})
