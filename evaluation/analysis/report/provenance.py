"""Where a run's scores come from, and the one command that reproduces them. Reads run.json and records."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.analysis.run_view import RunView
from evaluation.config.run_config import RunConfig
from evaluation.models.names import is_builtin, is_folder_name
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import Checkout, Hardware
from evaluation.records.run_manifest import ListedJob, RunManifest
from evaluation.system.inert_text import printable


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """One model of a run: what was declared and what was found."""

    label: str
    declared: str
    name: str
    revision: str
    protocol: str
    settings: str
    weights: str
    tokenizer: str


@dataclass(frozen=True, slots=True)
class DatasetOrigin:
    """One task's data."""

    task: str
    name: str
    revision: str
    splits: str
    subsets: str


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """Everything that says where a run's scores come from.

    Attributes:
        config_file: The file that the config was read from, where known.
        command: One shell command that writes the config and runs it.
        is_rooted: The command works in any folder of this machine, because it holds no relative path.
        trusted_code: Labels of the models whose own code the command would run.
        failures: Label, task and error of each job without a score.
        warnings: What stands in the way of reproducing the run.
    """

    name: str
    config_file: str | None
    command: str
    is_rooted: bool
    trusted_code: tuple[str, ...]
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    commit: str
    started: str
    ended: str
    models: tuple[ModelOrigin, ...]
    datasets: tuple[DatasetOrigin, ...]
    jobs: tuple[ListedJob, ...]
    failures: tuple[tuple[str, str, str], ...]
    warnings: tuple[str, ...]


def run_origin(view: RunView) -> RunOrigin:
    """Returns the provenance of a run."""
    run, records = view.manifest, view.records
    config, is_rooted = rooted_config(pinned_config(run.config, records), run.config_file)
    return RunOrigin(
        name=run.name,
        config_file=run.config_file,
        command=reproduction_command(config, run.source.commit),
        is_rooted=is_rooted,
        trusted_code=tuple(str(m.get("label")) for m in _entries(config, "models") if m.get("trust_remote_code")),
        versions=run.versions,
        hardware=_hardware(run.hardware),
        commit=_commit(run.source),
        started=run.started or "unknown",
        ended=run.ended or "not finished",
        models=_models(records),
        datasets=_datasets(records),
        jobs=run.jobs,
        failures=_failures(run, records),
        warnings=tuple(_warnings(run, records)),
    )


def pinned_config(config: Mapping[str, Any], records: Sequence[JobRecord]) -> dict[str, Any]:
    """Returns the stored config with the Hub revisions that its jobs resolved, without values at their defaults."""
    pinned = copy.deepcopy(dict(config))
    revisions = {record.label: record.provenance.model and record.provenance.model.revision for record in records}
    for model in _entries(pinned, "models"):
        found, name = revisions.get(str(model.get("label"))), str(model.get("model"))
        from_hub = "/" in name and not is_builtin(name) and not is_folder_name(name)
        if model.get("revision") is None and found and from_hub:
            model["revision"] = found
    return _without_defaults(pinned)


def rooted_config(config: Mapping[str, Any], config_file: str | None) -> tuple[dict[str, Any], bool]:
    """Returns the config with absolute input paths, and whether all of them are absolute.

    Args:
        config: The config as a run stored it.
        config_file: The file that its paths are relative to. If it does not exist, relative paths stay.
    """
    rooted = copy.deepcopy(dict(config))
    data = [str(task["data"]) for task in _entries(rooted, "tasks") if task.get("data")]
    places = [model for model in _entries(rooted, "models") if str(model.get("model")).startswith(".")]
    root = str(rooted.get("data_root") or ".")
    relative = any(not _is_absolute(path) for path in data) and not _is_absolute(root)
    if not places and not relative:
        return rooted, True
    if config_file is None or not Path(config_file).is_file():
        return rooted, False
    folder = Path(config_file).resolve().parent
    for model in places:
        model["model"] = str((folder / model["model"]).resolve())
    if relative:
        rooted["data_root"] = str((folder / root).resolve())
    return rooted, True


def _entries(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The mappings of a list in a stored config, which may have any shape."""
    found = config.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list | tuple) else []


def _is_absolute(path: str) -> bool:
    return Path(path).expanduser().is_absolute()


def _without_defaults(config: dict[str, Any]) -> dict[str, Any]:
    try:
        plain = RunConfig.model_validate_json(json.dumps(config)).model_dump(mode="json", exclude_defaults=True)
    except ValueError:  # written by another version: shown as it is
        return config
    return dict(plain)


def config_yaml(config: Mapping[str, Any]) -> str:
    """Returns a config as YAML with its keys in order; characters that a terminal would act on are escaped."""
    import yaml

    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=110)
    if printable(text) != text:
        text = yaml.safe_dump(dict(config), sort_keys=False, width=110)
    return text


def reproduction_command(config: Mapping[str, Any], commit: str | None) -> str:
    """Returns one shell command that writes the config and runs it into a new folder.

    Args:
        config: Any stored config: all of it is quoted, whatever it holds.
        commit: Named in a comment if it looks like a commit.
    """
    name = re.sub(r"[^\w.-]+", "-", str(config.get("name", "run")), flags=re.ASCII).strip("-") or "run"
    file = f"reproduce-{name}.yaml"
    head = f"# at commit {commit}\n" if commit and re.fullmatch(r"[0-9a-f]{4,64}", commit) else ""
    text = shlex.quote(config_yaml({name: value for name, value in config.items() if name != "output"}))
    return f"{head}printf %s {text} > {file} && run-benchmark {file} --output reproduced"


def _commit(source: Checkout) -> str:
    if not source.commit:
        return "unknown (not run from a checkout)"
    return f"{source.commit} with uncommitted changes" if source.dirty else source.commit


def _hardware(found: Hardware | None) -> dict[str, str]:
    if found is None:
        return {}
    told = {
        "System": found.system,
        "Processor": found.cpu,
        "Cores": found.cores,
        "Threads": found.threads,
        "Memory": f"{found.memory_gib} GiB" if found.memory_gib else None,
        "GPU": ", ".join(found.cuda) or "none",
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _models(records: Sequence[JobRecord]) -> tuple[ModelOrigin, ...]:
    found: dict[str, ModelOrigin] = {}
    for record in records:
        model = record.provenance.model
        if model is None or record.label in found:
            continue
        settings = (model.settings or model.words or model).model_dump()
        told = [f"{key.replace('_', ' ')} {settings[key]}" for key in sorted(settings)]
        found[record.label] = ModelOrigin(
            label=record.label,
            declared=model.declared,
            name=model.name,
            revision=model.revision or "unknown",
            protocol=record.protocol,
            settings=", ".join(told),
            weights=model.weights_sha256,
            tokenizer=model.tokenizer_sha256,
        )
    return tuple(found.values())


def _datasets(records: Sequence[JobRecord]) -> tuple[DatasetOrigin, ...]:
    found: dict[tuple[str, str], DatasetOrigin] = {}
    for record in records:
        dataset = record.provenance.dataset
        if dataset is not None:
            revision = dataset.revision or "unknown"
            found[record.task, revision] = DatasetOrigin(
                record.task, dataset.name, revision, ", ".join(record.splits), ", ".join(record.subsets)
            )
    return tuple(found.values())


def _failures(run: RunManifest, records: Sequence[JobRecord]) -> tuple[tuple[str, str, str], ...]:
    errors = {(r.label, r.task): r.error.message for r in records if r.error is not None}
    ended = {(record.label, record.task) for record in records if record.state == "done"}
    return tuple(
        (job.label, job.task, errors.get((job.label, job.task), "it did not finish"))
        for job in run.jobs
        if (job.label, job.task) not in ended
    )


def _warnings(run: RunManifest, records: Sequence[JobRecord]) -> list[str]:
    found = []
    if run.source.dirty:
        found.append("The checkout had uncommitted changes, so the commit alone does not say what ran.")
    commits = {record.provenance.source.commit for record in records if record.state == "done"}
    if len(commits) > 1:
        found.append(f"Its jobs ran at {len(commits)} different commits.")
    metric_versions = {str(record.provenance.versions.get("mteb")) for record in records if record.audit}
    if len(metric_versions) > 1:
        found.append(f"Its jobs were scored by different versions of mteb: {', '.join(sorted(metric_versions))}.")
    if run.config.get("limit"):
        found.append("The run was limited: do not report these scores.")
    return found
