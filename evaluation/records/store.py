"""Writes and reads the files of one run's folder. docs/run-folder.md has the layout.

A record is written last, so that a job without one never ended. It holds the checksum of each file beside it and, like
run.json, one of itself; everything is checked when it is read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.errors import DamagedFileError, SchemaVersionError, StoreError
from evaluation.records.job_record import JobRecord
from evaluation.records.parquet_tables import write_tables
from evaluation.records.run_manifest import ListedJob, RunManifest
from evaluation.records.sealed_models import read_model
from evaluation.system.atomic_files import check_file, is_temporary, set_aside, write_json, write_sealed_json

if TYPE_CHECKING:
    import pyarrow as pa

_LOG = logging.getLogger(__name__)
_FOLDER_NAME = re.compile(r"[^./\\\0][^/\\\0]*")
RECORD_FILE, RUN_FILE, MTEB_FILE = "record.json", "run.json", "mteb.json"


class RunStore:
    """Writes and reads the files of one run.

    Args:
        folder: results/<config name>; made when first written to.

    Example:
        >>> for record in RunStore(Path("results/quickstart")).current_records():
        ...     print(record.label, record.task, record.main_score)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job_folder(self, label: str, task: str, fingerprint: str) -> Path:
        """The folder of a job's files.

        Raises:
            StoreError: A name that would lead elsewhere, which only a forged run.json holds.
        """
        names = label, task.replace("/", "__"), fingerprint[:12]
        for name in names:
            if not _FOLDER_NAME.fullmatch(name):
                raise StoreError(f"{self.folder}: {name!r} can't be the name of a job's folder.")
        return self.folder / f"jobs/{'/'.join(names)}"

    # -------------------------------------------------------------------------------------------------------- records

    def save(
        self,
        record: JobRecord,
        tables: Mapping[str, pa.Table] | None = None,
        mteb_files: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> JobRecord:
        """Stores a job: its tables, what it exports to mteb, then its record with their checksums.

        Args:
            record: Without `files`.
            tables: Table by name; each is stored as <name>.parquet.
            mteb_files: Content by name below mteb/results, where `export_mteb_files` writes it.

        Returns:
            The record with `files`.

        Raises:
            StoreError: The folder can't be written.
        """
        folder = self.job_folder(record.label, record.task, record.fingerprint)
        names = write_tables(folder, tables or {})
        if mteb_files:
            names.append(MTEB_FILE)
            write_json(folder / MTEB_FILE, mteb_files)
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
        stored = record.model_copy(update={"files": files})
        write_sealed_json(folder / RECORD_FILE, stored.model_dump())
        return stored

    def load(self, label: str, task: str, fingerprint: str, *, complete: bool = True) -> JobRecord | None:
        """Reads the record of a job; None where the job never ended.

        Args:
            complete: Checks the content of the files beside the record too; else their presence alone.

        Raises:
            DamagedFileError: The record, or a file beside it, is missing or is not what was written.
            SchemaVersionError: The record was written by another version.
            StoreError: A file can't be read.
        """
        if not fingerprint:
            return None  # not known yet
        folder = self.job_folder(label, task, fingerprint)
        record = read_record(folder / RECORD_FILE)
        if record is None:
            return None
        if complete:
            for name, sha256 in record.files.items():
                check_file(folder / Path(name).name, sha256)
            return record
        with os.scandir(folder) as entries:  # one look at the folder for all files
            present = {entry.name for entry in entries if entry.is_file()}
        for name in record.files:
            if name not in present:
                raise DamagedFileError(folder / Path(name).name, "it is missing")
        return record

    def load_or_set_aside(self, label: str, task: str, fingerprint: str) -> JobRecord | None:
        """Reads the record of a job that can run again: what can't be used is reported, and damage is set aside."""
        try:
            return self.load(label, task, fingerprint)
        except SchemaVersionError as error:
            _LOG.warning("%s %s runs again.", error, task)
        except DamagedFileError as error:
            _LOG.warning("%s Set aside as *.damaged; %s runs again.", error, task)
            set_aside(error.file)
        return None

    def current_records(self) -> list[JobRecord]:
        """Reads the records that run.json names, in its order; jobs that never ended are left out.

        Raises:
            StoreError: run.json is missing.
            DamagedFileError: A file is not what was written, or is missing although run.json calls the job done.
            SchemaVersionError: A file was written by another version.
        """
        records = []
        for job in self.read_run().jobs:
            record = self.load(job.label, job.task, job.fingerprint)
            if record is not None:
                records.append(record)
            elif job.state == "done":
                raise self.lost_record(job)
        return records

    def lost_record(self, job: ListedJob) -> DamagedFileError:
        """Makes the error for a job that run.json calls done and that has no record."""
        return DamagedFileError(self.job_folder(job.label, job.task, job.fingerprint) / RECORD_FILE, "it is missing")

    # ------------------------------------------------------------------------------------------------------- run.json

    def write_run(self, manifest: RunManifest) -> None:
        """Writes run.json."""
        write_sealed_json(self.folder / RUN_FILE, manifest.model_dump())

    def read_run(self) -> RunManifest:
        """Reads run.json.

        Raises:
            StoreError: The file is missing or can't be read.
            SchemaVersionError: The file was written by another version.
            DamagedFileError: The file is not what was written.
        """
        try:
            return read_model(self.folder / RUN_FILE, RunManifest)
        except FileNotFoundError:
            raise StoreError(f"{self.folder} is not a run folder: it holds no {RUN_FILE}.") from None

    def read_run_or_set_aside(self) -> RunManifest | None:
        """Reads run.json before it is written anew; None where there is none, or none that can be used."""
        if not (self.folder / RUN_FILE).exists():
            return None
        try:
            return self.read_run()
        except SchemaVersionError as error:
            _LOG.warning("%s It is replaced now.", error)
        except DamagedFileError as error:
            _LOG.warning("%s Set aside as *.damaged; jobs that are not selected now reappear once they are.", error)
            set_aside(error.file)
        return None


def read_record(file: Path) -> JobRecord | None:
    """Reads a record from its file; None where there is none.

    Raises:
        DamagedFileError: The file is not what was written.
        SchemaVersionError: The file was written by another version.
        StoreError: The file can't be read.
    """
    try:
        return read_model(file, JobRecord)
    except FileNotFoundError:
        return None


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed processes left half-written in a run. Only for the process that holds the folder's lock."""
    walked = [found for top in ("jobs", "mteb") for found in os.walk(folder / top)]
    leftovers = [Path(place) / name for place, _, names in walked for name in names if is_temporary(name)]
    own = (f".{RUN_FILE}.", ".summary.")
    leftovers += [file for file in folder.glob(".*") if file.name.startswith(own) and is_temporary(file.name)]
    for file in leftovers:
        file.unlink(missing_ok=True)
    if leftovers:
        _LOG.info("Removed %d half-written files of a killed process from %s", len(leftovers), folder)
