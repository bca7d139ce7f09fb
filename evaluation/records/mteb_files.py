"""A run's results in mteb's own file layout, which `mteb.ResultCache` reads. Knows nothing of mteb's classes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import StoreError
from evaluation.records.job_record import JobRecord
from evaluation.records.store import MTEB_FILE, RunStore
from evaluation.system.atomic_files import check_file, json_text, set_aside, write_json
from evaluation.system.limited_reading import parse_json

_LOG = logging.getLogger(__name__)


def read_mteb_files(store: RunStore, record: JobRecord) -> dict[str, Mapping[str, Any]]:
    """Reads what a job exports to mteb: content by name below mteb/results; empty where it exports nothing.

    Raises:
        DamagedFileError: The stored file is not what the job wrote.
        StoreError: The file can't be read, or one of its names leads out of the folder.
    """
    if MTEB_FILE not in record.files:
        return {}
    file = store.job_folder(record.label, record.task, record.fingerprint) / MTEB_FILE
    check_file(file, record.files[MTEB_FILE])
    content: dict[str, Mapping[str, Any]] = parse_json(file.read_bytes())
    for name in content:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise StoreError(f"{file}: {name!r} leads out of the folder.")
    return content


def export_mteb_files(store: RunStore, records: Iterable[JobRecord], *, ran_now: bool) -> None:
    """Writes the results of jobs to mteb/results.

    Rows that mteb does not tell apart, such as one model in float32 by choice and by `auto`, export the same file.

    Args:
        records: The jobs; the last one counts where two export the same file.
        ran_now: Replaces existing files. Without it, a file that no job stored in this form is reported and set aside.

    Raises:
        DamagedFileError: What a job stored is damaged.
        StoreError: The folder can't be written.
    """
    wanted: dict[str, Mapping[str, Any]] = {}
    for record in records:
        wanted |= read_mteb_files(store, record)
    for name, content in wanted.items():
        file = store.folder / "mteb" / "results" / name
        if file.is_file() and not ran_now:
            if file.read_bytes() == _exported(content):
                continue
            if not _is_of_a_job(store, name, file):
                _LOG.warning("%s was not what its job stored; set aside as *.damaged and written again.", file)
                set_aside(file)
        write_json(file, content)


def _is_of_a_job(store: RunStore, name: str, file: Path) -> bool:
    """Whether any job of the run, whatever its label and fingerprint, stored an exported file in this form."""
    found = file.read_bytes()
    for stored in store.folder.glob(f"jobs/*/*/*/{MTEB_FILE}"):
        with contextlib.suppress(OSError, ValueError):
            content = parse_json(stored.read_bytes())
            if isinstance(content, dict) and name in content and _exported(content[name]) == found:
                return True
    return False


def _exported(content: Mapping[str, Any]) -> bytes:
    """The bytes that `write_json` writes for this content."""
    return json_text(content).encode("utf-8", "replace")
