"""A run's results as a folder for MTEB's results repository, validated with mteb's own classes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mteb
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from pydantic import ValidationError

from evaluation.errors import UsageError
from evaluation.files import write_json
from evaluation.records import JobRecord, RunStore

_COMMIT = re.compile(r"[0-9a-f]{40}")
_META = "model_meta.json"


@dataclass(slots=True)
class Exported:
    """What an export wrote, and what a person should know of it."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export_for_mteb(run: Path, output: Path, *, experiment: bool) -> Exported:
    """Lay a run's results out as embeddings-benchmark/results has them: results/<org>__<model>/<commit>/<Task>.json.

    Args:
        run: The run's folder.
        output: Root of the laid-out folder; a checkout of that repository will do.
        experiment: Also take protocols other than mteb's, which lie below experiments/.

    Raises:
        UsageError: Results that must not be handed on: local data, weights that are no Hub model's, limited runs, other
            protocols without `experiment`, files that mteb refuses. All faults at once; nothing is written then.
    """
    store, found = RunStore(run), Exported()
    taken: list[tuple[JobRecord, Path]] = []
    faults: list[str] = []
    for record in store.current_records():
        if record.state != "done":
            found.notes.append(f"{record.label} on {record.task} has no score and is left out.")
        elif record.via == "beir":
            found.notes.append(f"{record.label} on {record.task} ran through beir, which is not mteb's; left out.")
        else:
            reasons = _refusals(record, experiment=experiment)
            faults += [f"{record.label} on {record.task}: {reason}" for reason in reasons]
            if not reasons:
                taken.append((record, _file_of(run, record)))
    for record, file in taken:
        faults += _validated(record, file, found.notes)
    if faults:
        raise UsageError("\n".join(dict.fromkeys(faults)))
    if not taken:
        raise UsageError(f"{run} holds no result that could be handed on.")
    root = run / "mteb"
    for source in dict.fromkeys(part for _, file in taken for part in (file, file.with_name(_META))):
        target = output / source.relative_to(root)
        write_json(target, json.loads(source.read_text(encoding="utf-8")))
        found.files.append(target)
    return found


def _refusals(record: JobRecord, *, experiment: bool) -> list[str]:
    """Why a result must not be handed on as MTEB's."""
    model, dataset = record.provenance["model"], record.provenance["dataset"]
    reasons = []
    if record.limit is not None:
        reasons.append("a limited run is never exported.")
    if record.via == "local" or str(dataset["revision"]).startswith("local-"):
        reasons.append("it ran on local data; run it on the Hub's dataset.")
    if model["name"].endswith("-q4"):
        reasons.append(f"{model['name']} are 4-bit weights, not the published model.")
    elif model["name"].startswith(("builtin/", "local/", "endpoint/")):
        reasons.append(f"{model['name']} is no model of the Hub; name the model by its Hub name.")
    elif not _COMMIT.fullmatch(str(model["revision"])):
        reasons.append(f"the model's revision {model['revision']!r} is no full commit.")
    if record.protocol != "mteb" and not experiment:
        reasons.append(f"protocol {record.protocol!r} is not mteb's; --experiment exports it as an experiment.")
    return reasons


def _file_of(run: Path, record: JobRecord) -> Path:
    """The job's result in mteb's own form: of its model and revision, the file that holds its scores.

    Raises:
        UsageError: It is missing.
    """
    model = record.provenance["model"]
    folder: Path = run / "mteb" / "results" / model["name"].replace("/", "__") / model["revision"]
    for file in sorted(folder.rglob(f"{record.task}.json")):
        meta = json.loads(file.with_name(_META).read_text(encoding="utf-8"))
        protocol = (meta.get("experiment_kwargs") or {}).get("protocol", "mteb")
        if protocol == record.protocol and _same_scores(json.loads(file.read_text(encoding="utf-8")), record):
            return file
    raise UsageError(f"{record.label} on {record.task}: its file is missing below {folder}; run it with --fresh.")


def _same_scores(content: Mapping[str, Any], record: JobRecord) -> bool:
    return {split: _main_scores(entries) for split, entries in content["scores"].items()} == {
        split: _main_scores(entries) for split, entries in record.scores.items()
    }


def _main_scores(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["hf_subset"]: entry["main_score"] for entry in entries}


def _validated(record: JobRecord, file: Path, notes: list[str]) -> list[str]:
    """What mteb has against a result and its model; splits and subsets that are missing are noted."""
    try:
        result = TaskResult.from_disk(file, load_historic_data=False)
        checked = result.validate_and_filter_scores(mteb.get_task(record.task))
        meta = ModelMeta.model_validate_json(file.with_name(_META).read_bytes())
    except (ValidationError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        return [f"{record.label} on {record.task}: mteb refuses {file}: {reason}."]
    faults = []
    if meta.revision is None or not _COMMIT.fullmatch(meta.revision) or meta.name is None or "/" not in meta.name:
        faults.append(f"{file.with_name(_META)} names no model with a full revision.")
    missing = [
        f"{split}/{entry['hf_subset']}"
        for split, entries in checked.scores.items()
        for entry in entries
        if entry["main_score"] is None or math.isnan(entry["main_score"])
    ]
    if missing:
        shown = ", ".join(missing[:4]) + (" ..." if len(missing) > 4 else "")
        notes.append(f"{record.label} on {record.task} lacks {len(missing)} of the task's splits and subsets: {shown}.")
    if len(missing) == sum(len(entries) for entries in checked.scores.values()):
        faults.append(f"{record.label} on {record.task}: none of its splits and subsets is one that mteb scores.")
    return faults
