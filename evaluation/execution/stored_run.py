"""Finds out for a plan which jobs are stored, without a network and without the machines that ran them.

A start of the run decides in `runner.py` and `live_manifest.py`, with the models resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError, StoreError
from evaluation.execution.provenance import metric_versions, versions
from evaluation.hub.cache import snapshot_folder
from evaluation.jobs import Job, fingerprint
from evaluation.models.bm25 import installed_bm25
from evaluation.models.finding import find_checkpoint
from evaluation.models.names import is_bm25, is_builtin, is_folder_name, lasting_name
from evaluation.models.proof_store import library_versions, own_code_hash
from evaluation.records.store import RunStore
from evaluation.system.machine import devices_here, place_name

if TYPE_CHECKING:
    from evaluation.execution.job_running import JobOutcome


def stored_states(
    config: RunConfig, jobs: Sequence[Job], identify: Callable[[Job], str]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Returns the states of jobs that are not waiting, and a sentence for each stored file that is damaged.

    A job is done if a score is stored under its fingerprint. That needs the model's files: without them the state is
    "unknown until fetched".

    Args:
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
    """Stands in for the executor of a run whose jobs are all stored, so that neither libraries nor a cluster start.

    Args:
        identities: Label -> identity of the model, as it ran; BM25 has none.
    """

    def __init__(self, identities: Mapping[str, Mapping[str, Any]]) -> None:
        self._identities = identities

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint, its model as it ran."""
        bm25 = installed_bm25() if is_bm25(job.model.model) else None
        identity = self._identities[job.model.label] if bm25 is None else bm25.identity_for(job.task.language)
        return fingerprint(job, identity, metric_versions())

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields nothing, because all jobs are stored."""
        assert not jobs, jobs
        yield from ()

    def facts(self) -> dict[str, Any]:
        """Returns nothing: what run.json says of the executor stays."""
        return {}

    def close(self) -> None:
        """Does nothing."""


def facts_of_models(config: RunConfig, identities: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what run.json keeps for `find_stored_run`: how models were run, and what that depends on.

    Args:
        identities: Label -> identity of the model, as it ran.
    """
    models = {
        model.label: {"declared": _declared(config, model), "identity": identities[model.label]}
        for model in config.models
        if model.label in identities
    }
    return {"models": models, **_conditions(config)}


def find_stored_run(config: RunConfig, jobs: Sequence[Job]) -> StoredRun | None:
    """Returns a stand-in for the executor, if run.json lists all jobs as done under their present fingerprints.

    Fingerprints hold settings that are resolved where a job runs, such as the dtype. run.json keeps those; they hold as
    long as the config, the model's files, the installed libraries and, without a cluster, the machine stay as they are.
    Whether the records are sound is for the caller to find out.
    """
    try:
        manifest = RunStore(config.run_folder).read_run()
    except StoreError:
        return None
    done = {job.key: job.fingerprint for job in manifest.jobs if job.state == "done"}
    facts = manifest.executor or {}
    if any(facts.get(name) != value for name, value in _conditions(config).items()):
        return None
    if not all(job.key in done for job in jobs):
        return None
    known: Mapping[str, Mapping[str, Any]] = facts.get("models", {})
    models = {job.model.label: job.model for job in jobs if not is_bm25(job.model.model)}
    if not all(_is_unchanged(config, model, known.get(label, {})) for label, model in models.items()):
        return None
    stored = StoredRun({label: known[label]["identity"] for label in models})
    return stored if all(done[job.key] == stored.fingerprint(job) for job in jobs) else None


def _conditions(config: RunConfig) -> dict[str, Any]:
    """Returns what decides how a model is run, besides its files and the config."""
    found = {
        "kind": config.runtime.executor,
        "versions": {**versions(), **library_versions()},
        "own_code": own_code_hash(),
    }
    if config.runtime.executor == "local":
        found["machine"] = f"{place_name(config.runtime.device)} {devices_here()}"
    return found


def _declared(config: RunConfig, model: ModelConfig) -> dict[str, Any]:
    """Returns all that a config says about how a model runs."""
    return {**model.model_dump(mode="json"), "model": lasting_name(model.model), "device": config.runtime.device}


def _is_unchanged(config: RunConfig, model: ModelConfig, known: Mapping[str, Any]) -> bool:
    here = model if config.runtime.executor == "local" else _on_this_machine(config, model)
    if here is None or known.get("declared") != _declared(config, model):
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
