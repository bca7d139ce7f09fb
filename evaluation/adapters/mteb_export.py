"""Exports a run's results as a folder for MTEB's results repository, validated with mteb's own classes."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mteb
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from pydantic import ValidationError

from evaluation.config.stored_forms import PLAIN
from evaluation.errors import UsageError
from evaluation.models.names import is_published, is_quantized
from evaluation.records.job_record import JobRecord
from evaluation.records.mteb_files import read_mteb_files
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import write_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
_META = "model_meta.json"
_NAMED = 3  # jobs that a message about many names
Files = Mapping[str, Mapping[str, Any]]
"""File name below mteb/results -> content: a job's result and its model's description."""


@dataclass(slots=True)
class Exported:
    """What an export wrote, and what its user should know about it."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export_for_mteb(run: Path, output: Path, *, experiment: bool) -> Exported:
    """Lays a run's results out as embeddings-benchmark/results has them: results/<org>__<model>/<commit>/<Task>.json.

    Args:
        output: Root of the laid-out folder; a checkout of that repository will do.
        experiment: Also export protocols other than mteb's, below experiments/.

    Raises:
        UsageError: Results that must not be exported: local data, weights that are not a Hub model's, limited runs,
            other protocols without `experiment`, files that mteb refuses. Names all faults; then nothing is written.
        DamagedFileError: What a job stored is damaged.
    """
    store, found = RunStore(run), Exported()
    taken: list[tuple[JobRecord, Files]] = []
    faults: list[str] = []
    refused: dict[str, list[str]] = {}
    for record in store.current_records():
        if record.state != "done":
            found.notes.append(f"{record.label} on {record.task} has no score and is left out.")
        elif record.via == "beir":
            found.notes.append(f"{record.label} on {record.task} ran through beir, which is not mteb's; left out.")
        else:
            reasons = _refusals(record, experiment=experiment)
            for reason in reasons:
                refused.setdefault(reason, []).append(f"{record.label} on {record.task}")
            if not reasons:
                taken.append((record, read_mteb_files(store, record)))
    faults += [f"{_some(names)}: {reason}" for reason, names in refused.items()]
    faults += _clashes(taken)
    with tempfile.TemporaryDirectory() as folder:
        for record, files in taken:
            _write(files, Path(folder))
            faults += _validated(record, files, Path(folder), found.notes)
    if faults:
        raise UsageError("\n".join(dict.fromkeys(faults)))
    if not taken:
        raise UsageError(f"{run} has no result that can be exported.")
    for _, files in taken:
        found.files += _write(files, output / "results")
    found.files = list(dict.fromkeys(found.files))
    return found


def _some(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _write(files: Files, folder: Path) -> list[Path]:
    for name, content in files.items():
        write_json(folder / name, content)
    return [folder / name for name in files]


def _clashes(taken: Iterable[tuple[JobRecord, Files]]) -> list[str]:
    """Returns a sentence for each pair of jobs that differ although mteb stores them in one file."""
    first: dict[str, tuple[JobRecord, Mapping[str, Any]]] = {}
    clashes = []
    for record, files in taken:
        for name, content in files.items():
            before, known = first.setdefault(name, (record, content))
            if known.get("scores") != content.get("scores"):
                clashes.append(
                    f"{before.label} and {record.label} differ on {record.task}, but mteb stores them in one file "
                    f"(results/{name}); export a run that has only one of them."
                )
    return clashes


def _refusals(record: JobRecord, *, experiment: bool) -> list[str]:
    """Returns the reasons why a result must not be exported as MTEB's."""
    model, dataset = record.provenance.model, record.provenance.dataset
    if model is None or dataset is None:
        return ["its record names no model or no dataset; run it again."]
    reasons = []
    if record.limit is not None:
        reasons.append("a limited run is never exported.")
    if record.via == "local" or str(dataset.revision).startswith("local-"):
        reasons.append("it ran on local data; run it on the Hub's dataset.")
    if is_quantized(model.name):
        reasons.append(f"{model.name} has 4-bit weights, not those of the published model.")
    elif not is_published(model.name):
        reasons.append(f"{model.name} is not a model of the Hub; name the model by its Hub name.")
    elif not _COMMIT.fullmatch(str(model.revision)):
        reasons.append(f"the model's revision {model.revision!r} is not a full commit.")
    if record.stored != PLAIN and not experiment:
        reasons.append(f"its vectors are stored as {record.stored}; --experiment exports it as an experiment.")
    if record.protocol != "mteb" and not experiment:
        reasons.append(f"protocol {record.protocol!r} is not mteb's; --experiment exports it as an experiment.")
    return reasons


def _validated(record: JobRecord, files: Files, folder: Path, notes: list[str]) -> list[str]:
    """Returns what mteb objects to in a result and its model; missing splits and subsets go to `notes`."""
    file = next(folder / name for name in files if Path(name).name != _META)
    try:
        result = TaskResult.from_disk(file, load_historic_data=False)
        checked = result.validate_and_filter_scores(mteb.get_task(record.task))
        meta = ModelMeta.model_validate_json(file.with_name(_META).read_bytes())
    except (ValidationError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        return [f"{record.label} on {record.task}: mteb refuses {file.name}: {reason}."]
    faults = []
    if meta.revision is None or not _COMMIT.fullmatch(meta.revision) or meta.name is None or "/" not in meta.name:
        faults.append(f"{record.label} on {record.task}: {_META} names no model with a full revision.")
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
