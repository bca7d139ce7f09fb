"""What a run stores, and how: one record a job beside the files its score can be recomputed from.

Layout: design in CONTRIBUTING.md, "A run on disk". The record is written last, so that a job without one never ran. It
holds the checksum of each file beside it and, like run.json, one of itself; whatever is read here is checked first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.errors import DamagedFileError, StoreError
from evaluation.system.atomic_files import (
    TEMPORARY_SUFFIX,
    check_file,
    json_text,
    read_sealed_json,
    set_aside,
    write_atomically,
    write_json,
    write_sealed_json,
)

if TYPE_CHECKING:
    import pyarrow as pa

_LOG = logging.getLogger(__name__)
RECORD_FILE, RUN_FILE, MTEB_FILE = "record.json", "run.json", "mteb.json"


class JobError(BaseModel):
    """Why a job has no score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    message: str
    traceback: str | None = None


class JobRecord(BaseModel):
    """One job's result. Scores are 0-1, as mteb gives them; a failed job has an error and no score.

    Attributes:
        scores: Split -> a mapping of metrics for each subset (key hf_subset), as in mteb's result files.
        main_score: Mean of the main metric over splits and subsets.
        audit: What text reached the model, a side at a time, and the protocol's rules.
        counts: What was dropped or noticed in the data.
        timing: Seconds by phase, texts and tokens.
        provenance: Model, dataset, versions, hardware, resolved settings.
        files: sha256 of each file beside the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    state: Literal["done", "failed"]
    fingerprint: str
    label: str
    protocol: str
    task: str
    type: str
    via: str
    aggregate: str | None = None
    splits: tuple[str, ...]
    subsets: tuple[str, ...]
    metric: str
    main_score: float | None = None
    scores: dict[str, list[dict[str, Any]]] = {}
    audit: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    limit: dict[str, Any] | None = None
    timing: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    files: dict[str, str] = {}
    error: JobError | None = None


class RunStore:
    """The folder of one run.

    Args:
        folder: results/<config name>; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job_folder(self, label: str, task: str, fingerprint: str) -> Path:
        """Where a job's files lie.

        Raises:
            StoreError: A name that would lead elsewhere, which only a run.json that was tampered with holds.
        """
        names = label, task.replace("/", "__"), fingerprint[:12]
        for name in names:
            if not name or name.startswith(".") or set(name) & set("/\\\0"):
                raise StoreError(f"{self.folder}: {name!r} can't be the name of a job's folder.")
        return self.folder.joinpath("jobs", *names)

    def save(
        self,
        record: JobRecord,
        tables: Mapping[str, pa.Table] | None = None,
        mteb_files: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> JobRecord:
        """Store a job: its tables as <name>.parquet, what it exports to mteb, then its record with their hashes.

        Args:
            record: Without `files`.
            tables: By name.
            mteb_files: Content by name below mteb/results, where `export` puts it.

        Raises:
            StoreError: The folder can't be written.
        """
        import pyarrow.parquet as pq

        folder = self.job_folder(record.label, record.task, record.fingerprint)
        names = []
        for name, table in (tables or {}).items():
            names.append(f"{name}.parquet")
            write_atomically(
                folder / names[-1],
                lambda path, table=table: pq.write_table(table, path, compression="zstd"),  # type: ignore[misc]
            )
        if mteb_files:
            names.append(MTEB_FILE)
            write_json(folder / MTEB_FILE, mteb_files)
        for file in folder.glob("*.parquet"):  # of an earlier start that stored more, texts say
            if file.name not in names:
                file.unlink()
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
        stored = record.model_copy(update={"files": files})
        write_sealed_json(folder / RECORD_FILE, stored.model_dump(mode="python"))
        return stored

    def load(self, label: str, task: str, fingerprint: str, *, complete: bool = True) -> JobRecord | None:
        """The stored record of a job; None where it never ended.

        Args:
            label: The job's model.
            task: The job's task.
            fingerprint: The job's.
            complete: Check the files beside the record too; else they may even be gone.

        Raises:
            DamagedFileError: The record, or a file beside it, is not what was written.
            StoreError: One can't be read.
        """
        folder = self.job_folder(label, task, fingerprint)
        record = read_record(folder / RECORD_FILE)
        if record is not None and complete:
            for name, sha256 in record.files.items():
                check_file(folder / Path(name).name, sha256)
        return record

    def load_or_set_aside(self, label: str, task: str, fingerprint: str) -> JobRecord | None:
        """The same for who can run the job again: a damaged file is reported and set aside."""
        try:
            return self.load(label, task, fingerprint)
        except DamagedFileError as error:
            _LOG.warning("%s Set aside as *.damaged; %s runs again.", error, task)
            set_aside(error.file)
            return None

    def mteb_files(self, record: JobRecord) -> dict[str, Mapping[str, Any]]:
        """What a job exports to mteb: content by name below mteb/results; empty where it exports nothing.

        Raises:
            DamagedFileError: It is not what the job stored.
            StoreError: It can't be read, or would lead out of the folder.
        """
        if MTEB_FILE not in record.files:
            return {}
        file = self.job_folder(record.label, record.task, record.fingerprint) / MTEB_FILE
        check_file(file, record.files[MTEB_FILE])
        content: dict[str, Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        for name in content:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise StoreError(f"{file}: {name!r} leads out of the folder.")
        return content

    def export(self, records: Iterable[JobRecord], *, ran_now: bool) -> None:
        """Lay jobs' results out in mteb's own files.

        Rows that mteb does not tell apart, such as one model in float32 by choice and by `auto`, export the same file.

        Args:
            records: Of the jobs; the last one counts where two export the same file.
            ran_now: Replace what is there; else a file that no job stored so is reported and set aside.

        Raises:
            DamagedFileError: What a job stored is damaged.
            StoreError: The folder can't be written.
        """
        wanted: dict[str, Mapping[str, Any]] = {}
        for record in records:
            wanted |= self.mteb_files(record)
        for name, content in wanted.items():
            file = self.folder / "mteb" / "results" / name
            if file.is_file() and not ran_now:
                if file.read_bytes() == _exported(content):
                    continue
                if not self._is_of_a_job(name, file):
                    _LOG.warning("%s was not what its job stored; set aside as *.damaged and written again.", file)
                    set_aside(file)
            write_json(file, content)

    def _is_of_a_job(self, name: str, file: Path) -> bool:
        """Whether any job of this folder stored an exported file as it is, whatever its label and fingerprint."""
        found = file.read_bytes()
        for stored in self.folder.glob(f"jobs/*/*/*/{MTEB_FILE}"):
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(stored.read_text(encoding="utf-8"))
                if isinstance(content, dict) and name in content and _exported(content[name]) == found:
                    return True
        return False

    def remove_leftovers(self) -> None:
        """Delete what killed processes left half-written. Only for who holds the folder's lock."""
        written = [self.folder / folder for folder in ("jobs", "mteb")]
        leftovers = [file for folder in written for file in folder.rglob(f".*{TEMPORARY_SUFFIX}")]
        leftovers += self.folder.glob(f".{RUN_FILE}.*{TEMPORARY_SUFFIX}")
        leftovers += self.folder.glob(f".summary.*{TEMPORARY_SUFFIX}")
        for file in leftovers:
            file.unlink(missing_ok=True)
        if leftovers:
            _LOG.info("%d half-written files of a killed process were removed from %s", len(leftovers), self.folder)

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Store run.json."""
        write_sealed_json(self.folder / RUN_FILE, content)

    def read_run(self) -> dict[str, Any]:
        """run.json.

        Raises:
            StoreError: It is missing or can't be read.
            DamagedFileError: It is not what was written.
        """
        try:
            return read_sealed_json(self.folder / RUN_FILE)
        except FileNotFoundError:
            raise StoreError(f"{self.folder} is no run folder: it holds no {RUN_FILE}.") from None

    def read_run_or_set_aside(self) -> dict[str, Any] | None:
        """The same for who writes it anew: None where there is none; a damaged one is reported and set aside."""
        if not (self.folder / RUN_FILE).exists():
            return None
        try:
            return self.read_run()
        except DamagedFileError as error:
            _LOG.warning("%s Set aside as *.damaged; jobs that are not chosen now come back once they are.", error)
            set_aside(error.file)
            return None

    def current_records(self, *, skip_damaged: bool = False) -> list[JobRecord]:
        """The records that run.json names, in its order; jobs that never ended are left out.

        Args:
            skip_damaged: Leave out damaged ones with a warning, for who shows what there is.

        Raises:
            StoreError: run.json is missing.
            DamagedFileError: A file is not what was written, or gone although run.json calls the job done.
        """
        records = []
        for job in self.read_run()["jobs"]:
            try:
                record = self.load(job["label"], job["task"], job["fingerprint"])
                if record is None and job["state"] == "done":
                    folder = self.job_folder(job["label"], job["task"], job["fingerprint"])
                    raise DamagedFileError(folder / RECORD_FILE, "it is missing")
            except DamagedFileError as error:
                if not skip_damaged:
                    raise
                _LOG.warning("%s It is left out.", error)
                continue
            if record is not None:
                records.append(record)
        return records


def _exported(content: Mapping[str, Any]) -> bytes:
    """The bytes that `write_json` makes of it."""
    return json_text(content).encode("utf-8", "replace")


def stored_file(folder: Path, record: JobRecord, name: str) -> Path | None:
    """One of the files beside a record; None where the job stored none, or it is gone.

    Args:
        folder: The job's folder (`RunStore.job_folder`).
        record: Its record, which holds the file's checksum.
        name: Such as "samples.parquet".

    Raises:
        DamagedFileError: It is not what was written.
        StoreError: It can't be read.
    """
    file = folder / name
    if name not in record.files or not file.is_file():
        return None
    check_file(file, record.files[name])
    return file


def read_record(file: Path) -> JobRecord | None:
    """A record from its file; None where there is none.

    Raises:
        DamagedFileError: It is not what was written, or of another version of this package.
        StoreError: It can't be read.
    """
    try:
        return JobRecord.model_validate(read_sealed_json(file))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DamagedFileError(file, "it is no record that this version understands") from error
