"""The record of one job: its scores, what text reached the model, and where all of it comes from. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from evaluation.config.limit import Limit
from evaluation.config.stored_forms import PLAIN
from evaluation.records.job_audit import JobAudit
from evaluation.records.origin import Provenance
from evaluation.records.sealed_models import SCHEMA_VERSION, StoredModel


class JobError(StoredModel):
    """Why a job has no score."""

    kind: str
    """Name of the exception."""
    message: str
    """One or more sentences for people."""
    traceback: str | None = None
    """Traceback or worker log, where the error is not one that the program raises on purpose."""


class Timing(StoredModel):
    """Seconds by phase, and the tokens that went through the model."""

    total_s: float
    """The whole job."""
    loading_s: float
    """Loading the data."""
    encoding_s: float
    """Encoding texts, reading cached vectors included."""
    scoring_s: float
    """Everything else: search, classifiers, metrics."""
    tokens: int
    """Tokens that went through the model; cached vectors cost none."""


class PeakMemory(StoredModel):
    """The most memory that was in use while a job ran."""

    where: Literal["process", "gpu"]
    """process: resident memory of the whole process, Python, libraries, model and data; gpu: what torch allocated."""
    bytes: int
    """How much."""
    at_most: bool = False
    """Whether the process had needed as much before, so that this job may have needed less."""


class SubsetScores(StoredModel):
    """mteb's scores of one split and subset, 0-1."""

    subset: str
    """mteb's hf_subset."""
    languages: tuple[str, ...] = ()
    """mteb's language codes of the subset."""
    main_score: float | None
    """The task's main metric; None where it is not a number."""
    metrics: dict[str, float | None]
    """Every metric by mteb's name; None where it is not a number."""
    details: dict[str, Any] = {}
    """What mteb stores beside single numbers, such as the scores of each experiment."""

    @classmethod
    def from_mteb(cls, entry: Mapping[str, Any]) -> Self:
        """The scores of one entry of mteb's result files; no value is lost or changed."""
        known = {"hf_subset", "languages", "main_score"}
        rest = {name: _plain(value) for name, value in entry.items() if name not in known}
        metrics = {name: value for name, value in rest.items() if _is_number(value)}
        return cls(
            subset=entry["hf_subset"],
            languages=tuple(entry.get("languages", ())),
            main_score=entry["main_score"],
            metrics=metrics,
            details={name: value for name, value in rest.items() if name not in metrics},
        )


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python."""
    return value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


class StoredVectors(StoredModel):
    """What a deployment of the model on this data has to store."""

    bytes_per_vector: int
    """Of each document, or of each text of tasks without documents."""
    vectors: int
    """Documents, or texts."""
    bytes: int
    """Of all of them, with what the form needs once."""


class JobRecord(StoredModel):
    """One job's result. A failed job has an error and no score; scores are 0-1, as mteb gives them."""

    schema_version: Literal[2] = SCHEMA_VERSION
    """Version of the file's format."""
    state: Literal["done", "failed"]
    """Whether the job has a score."""
    fingerprint: str
    """Hash of everything that can move a number of the job, 64 hex digits."""
    label: str
    """The model's label in the config."""
    protocol: str
    """The protocol's name."""
    task: str
    """The task's name."""
    type: str
    """mteb's type of the task."""
    via: str
    """What ran the task: mteb, beir or local."""
    stored: str = PLAIN
    """The form that vectors are stored in, such as int8."""
    vectors: StoredVectors | None = None
    """What storing the vectors takes; None for a failed job, and in records from before it was measured."""
    aggregate: str | None = None
    """The task that this one is a part of, such as CQADupstackRetrieval."""
    splits: tuple[str, ...]
    """Splits that were scored."""
    subsets: tuple[str, ...]
    """Subsets that were scored."""
    metric: str
    """Name of the main metric."""
    main_score: float | None = None
    """Mean of the main metric over splits and subsets."""
    scores: dict[str, tuple[SubsetScores, ...]] = {}
    """Split -> scores of each subset."""
    audit: JobAudit | None = None
    """What text reached the model; None for a failed job."""
    warnings: tuple[str, ...] = ()
    """What looked wrong about the input."""
    notices: tuple[str, ...] = ()
    """What must be read beside the score."""
    counts: dict[str, int] = {}
    """What was dropped or noticed in the data."""
    limit: Limit | None = None
    """Cuts of a smoke run, whose scores are not to be reported."""
    timing: Timing | None = None
    """Seconds by phase; None for a failed job."""
    peak_memory: PeakMemory | None = None
    """While the job ran; None where it was not measured."""
    provenance: Provenance = Provenance()
    """Model, data, versions, commit, hardware."""
    files: dict[str, str] = {}
    """sha256 of each file beside the record."""
    error: JobError | None = None
    """Why there is no score."""

    @model_validator(mode="after")
    def _has_score_or_error(self) -> Self:
        if (self.state == "done") != (self.main_score is not None) or (self.state == "failed") != bool(self.error):
            raise ValueError("a done job has a main score and no error, a failed one an error and no score")
        return self
