"""Stores a snapshot as one small JSON file that is reviewed like code: a readable head, then the units, compressed.

The same snapshot always gives the same bytes. A checksum over the content finds damage and manual edits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.analysis.gate.detectable_drops import Pilot
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.units import units_from_bytes, units_to_bytes
from evaluation.analysis.task_scores import ScoredJob
from evaluation.errors import StoreError, UsageError
from evaluation.system.limited_reading import parse_json

FORMAT, SCHEMA_VERSION = "e5-evaluation baseline", 1
_REMEDY = "restore it from version control, or write it again with --update-baseline"


class _Job(BaseModel):
    """A job of the file; `score` is 0-1."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    label: str
    task: str
    type: str
    metric: str
    score: float
    aggregate: str | None
    conditions: dict[str, Any]


class _Pilot(BaseModel):
    """Another checkpoint's run; `spread` is in points, by task."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    run: str
    spread: dict[str, float]


class _Document(BaseModel):
    """The file. `units` holds, by label and task, base64 of `units_to_bytes`."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    format: str
    schema_version: int
    checksum: str
    run: str
    models: dict[str, dict[str, Any]]
    versions: dict[str, str]
    jobs: list[_Job]
    units: dict[str, dict[str, str]]
    pilot: _Pilot | None = None


def baseline_bytes(snapshot: Snapshot, pilot: Pilot | None = None) -> bytes:
    """Returns the file of a complete snapshot (`check_complete`), jobs sorted by label and task.

    Args:
        snapshot: The baseline.
        pilot: How far another checkpoint's examples differ from it, for planning.
    """
    jobs = sorted(snapshot.jobs, key=lambda job: (job.label, job.task))
    units: dict[str, dict[str, str]] = {}
    for job in jobs:
        if job.units is not None:
            units.setdefault(job.label, {})[job.task] = base64.b64encode(units_to_bytes(job.units)).decode("ascii")
    content: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "checksum": "",
        "run": snapshot.name,
        "models": {label: snapshot.models[label] for label in sorted(snapshot.models)},
        "versions": dict(snapshot.versions),
        "jobs": [{name: getattr(job, name) for name in _Job.model_fields} for job in jobs],
        "units": units,
    }
    if pilot is not None:
        content["pilot"] = {"run": pilot.run, "spread": pilot.spread}
    content["checksum"] = _checksum(content)
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def parse_baseline(data: bytes, name: str) -> Snapshot:
    """Reads the snapshot from a file's bytes.

    Args:
        data: The whole file.
        name: Its name in errors.

    Raises:
        UsageError: It is damaged, edited, foreign, or of a newer schema.
    """
    return _snapshot(_document(data, name), name)


def _document(data: bytes, name: str) -> _Document:
    content = _content(data, name)
    version = content.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UsageError(
            f"{name} is a baseline of schema {version!r}, and this version of e5-evaluation reads up to "
            f"{SCHEMA_VERSION}: update it."
        )
    if content.get("checksum") != _checksum(content):
        raise UsageError(f"{name} is damaged or was edited (its checksum does not match its content): {_REMEDY}.")
    try:
        return _Document.model_validate(content)
    except ValidationError as error:
        raise _incomplete(name, error) from error


def _snapshot(document: _Document, name: str) -> Snapshot:
    try:
        jobs = tuple(_scored(job, document.units) for job in document.jobs)
    except (StoreError, binascii.Error) as error:
        raise _incomplete(name, error) from error
    return Snapshot(document.run, jobs, document.models, document.versions)


def _incomplete(name: str, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0].rstrip(".")
    return UsageError(f"{name} is not a complete baseline ({reason}): {_REMEDY}.")


def is_baseline(file: Path) -> bool:
    """Returns whether a file was written as a baseline, even if it has been damaged since.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        _content(_read(file), str(file))
    except _ForeignFile:
        return False
    return True


def load_baseline(file: Path) -> Snapshot:
    """Reads the snapshot of a baseline file.

    Raises:
        UsageError: It is missing, damaged, edited, foreign, or of a newer schema.
    """
    return parse_baseline(_read(file), str(file))


def load_pilot(file: Path) -> Pilot | None:
    """Reads the pilot that a baseline file holds; None without one.

    Raises:
        UsageError: The file is missing, damaged, edited, foreign, or of a newer schema.
    """
    pilot = _document(_read(file), str(file)).pilot
    return None if pilot is None else Pilot(pilot.run, pilot.spread)


class _ForeignFile(UsageError):
    """The file is not a baseline of this package."""


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from error


def _content(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = parse_json(data.decode("utf-8-sig"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _ForeignFile(
            f"{name} is not a baseline file: give a run's folder, or a file that check-regression wrote with "
            "--update-baseline."
        )
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """sha256 of everything but the checksum, however the file is laid out."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _scored(job: _Job, units: Mapping[str, Mapping[str, str]]) -> ScoredJob:
    stored = units.get(job.label, {}).get(job.task)
    read = None if stored is None else units_from_bytes(base64.b64decode(stored, validate=True))
    return ScoredJob(**dict(job), fault="", units=read)
