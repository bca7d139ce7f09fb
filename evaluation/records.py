"""What a run stores, and how: one record a job beside the files its score can be recomputed from. Atomic writes.

Layout: design in CONTRIBUTING.md, "A run on disk". The record is written last, so that a job without one never ran.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
RECORD_FILE, RUN_FILE = "record.json", "run.json"


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
        """Where a job's files lie."""
        return self.folder / "jobs" / label / task.replace("/", "__") / fingerprint[:12]

    def save(self, record: JobRecord, tables: Mapping[str, pa.Table] | None = None) -> JobRecord:
        """Store a job: its tables as <name>.parquet, then its record with their hashes.

        Raises:
            StoreError: The folder can't be written.
        """
        import pyarrow.parquet as pq

        folder = self.job_folder(record.label, record.task, record.fingerprint)
        files = {}
        for name, table in (tables or {}).items():
            file = folder / f"{name}.parquet"
            write_atomically(file, lambda path, table=table: pq.write_table(table, path, compression="zstd"))  # type: ignore[misc]
            files[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        stored = record.model_copy(update={"files": files})
        write_json(folder / RECORD_FILE, stored.model_dump(mode="python"))
        return stored

    def load(self, label: str, task: str, fingerprint: str, *, complete: bool = True) -> JobRecord | None:
        """The stored record of a job; None where it never ran or its record is gone.

        Args:
            label: The job's model.
            task: The job's task.
            fingerprint: The job's.
            complete: None also where a file beside the record is gone, its samples say.
        """
        folder = self.job_folder(label, task, fingerprint)
        record = read_record(folder / RECORD_FILE)
        if record is None or (complete and not all((folder / name).is_file() for name in record.files)):
            return None
        return record

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Store run.json."""
        write_json(self.folder / RUN_FILE, content)

    def read_run(self) -> dict[str, Any]:
        """run.json.

        Raises:
            StoreError: It is missing or can't be read.
        """
        file = self.folder / RUN_FILE
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{self.folder} is no run folder: it holds no {RUN_FILE}.") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{file} can't be read: {error}.") from error
        return content

    def current_records(self) -> list[JobRecord]:
        """The records that run.json names, in its order; jobs that never ended are left out."""
        found = (self.load(job["label"], job["task"], job["fingerprint"]) for job in self.read_run()["jobs"])
        return [record for record in found if record is not None]


def read_record(file: Path) -> JobRecord | None:
    """A record from its file; None where there is none or it can't be understood."""
    try:
        return JobRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    text = json.dumps(_finite(content), ensure_ascii=False, indent=1, default=_plain, allow_nan=False)
    write_text(file, text + "\n")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text atomically; lone surrogates become U+FFFD."""
    write_atomically(file, lambda path: path.write_bytes(text.encode("utf-8", "replace")))


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, sync it and move it into place.

    Raises:
        StoreError: The folder can't be made or written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".tmp", dir=file.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{file} can't be written: {error.strerror or error}.") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    item = getattr(value, "item", None)
    return _finite(item()) if callable(item) and not hasattr(value, "__len__") else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return str(value)
