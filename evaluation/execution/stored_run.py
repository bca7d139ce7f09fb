"""Finds out which jobs are stored, without a network and without the machines that ran them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError, StoreError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.provenance import metric_versions, versions
from evaluation.execution.resolving import find_checkpoint
from evaluation.hub.cache import snapshot_folder
from evaluation.jobs import Job, fingerprint
from evaluation.models.names import is_builtin, is_folder_name
from evaluation.records.run_manifest import RunManifest
from evaluation.records.store import RunStore


def stored_states(
    config: RunConfig, jobs: Sequence[Job], identify: Callable[[Job], str]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Returns the states of jobs that are not waiting, and a sentence for each stored file that is damaged.

    A job is done if a score is stored under its fingerprint. That needs the model's files: without them the state is
    "unknown until fetched".

    Args:
        config: The run's config.
        jobs: The jobs.
        identify: Returns the fingerprint of a job, whose model is given in a form that needs no network.
    """
    store = RunStore(config.run_folder)
    states, notes = dict[tuple[str, str], str](), []
    for job in jobs:
        model = _on_this_machine(config, job.model)
        if model is None:
            states[job.key] = "unknown until fetched"
            continue
        try:
            record = store.load(*job.key, identify(replace(job, model=model)))
        except StoreError as error:
            states[job.key] = "damaged"
            notes.append(f"{error} {job.name} counts as not done.")
            continue
        if record is not None and record.state == "done":
            states[job.key] = "done"
    return states, notes


class StoredRun:
    """Stands in for the cluster of a run whose jobs are all stored, so that no cluster has to be started.

    Args:
        identities: Label -> identity of the model, as the cluster ran it.
    """

    def __init__(self, identities: Mapping[str, Mapping[str, Any]]) -> None:
        self._identities = identities

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint, its model as the cluster ran it."""
        return fingerprint(job, self._identities[job.model.label], metric_versions())

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields nothing, because all jobs are stored."""
        assert not jobs, jobs
        yield from ()

    def facts(self) -> dict[str, Any]:
        """Returns nothing: what run.json says of the cluster stays."""
        return {}

    def close(self) -> None:
        """Does nothing."""


def find_stored_run(config: RunConfig, jobs: Sequence[Job], manifest: RunManifest) -> StoredRun | None:
    """Returns a stand-in for the cluster of an earlier start, if all jobs are stored as that start ran them.

    Fingerprints hold settings that are resolved where a job runs, such as the dtype. run.json keeps those of a cluster;
    they hold as long as neither the config, the model's files nor the installed libraries change.

    Args:
        config: The run's config.
        jobs: The jobs of this start.
        manifest: run.json after the last start.
    """
    facts = manifest.executor or {}
    known: Mapping[str, Mapping[str, Any]] = facts.get("models", {})
    models = {job.model.label: job.model for job in jobs}
    if facts.get("versions") != versions() or not all(
        _is_unchanged(config, model, known.get(label, {})) for label, model in models.items()
    ):
        return None
    stored = StoredRun({label: known[label]["identity"] for label in models})
    states, _ = stored_states(config, jobs, stored.fingerprint)
    return stored if all(states.get(job.key) == "done" for job in jobs) else None


def declared_model(config: RunConfig, model: ModelConfig) -> dict[str, Any]:
    """Returns all that a config says about how a model runs."""
    return {**model.model_dump(mode="json"), "device": config.runtime.device}


def _is_unchanged(config: RunConfig, model: ModelConfig, known: Mapping[str, Any]) -> bool:
    here = _on_this_machine(config, model)
    if here is None or known.get("declared") != declared_model(config, model):
        return False
    try:
        found = find_checkpoint(config, here)
    except EvaluationError:
        return False
    identity = known["identity"]
    return (found.weights_hash, found.tokenizer_hash) == (identity["weights"], identity["tokenizer"])


def _on_this_machine(config: RunConfig, model: ModelConfig) -> ModelConfig | None:
    """Returns the model in a form that needs no network: a Hub model as its cached folder, or None if not cached."""
    name = model.model
    is_local = is_builtin(name) or is_folder_name(name) or config.resolve_path(name).is_dir()
    if is_local or model.endpoint is not None:
        return model
    folder = snapshot_folder("model", name, model.revision)
    return None if folder is None else model.model_copy(update={"model": str(folder), "revision": None})
