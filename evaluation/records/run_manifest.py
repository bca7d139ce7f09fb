"""run.json: what a run was asked to do, where it ran, and the state of each of its jobs. Data only.

`execution.live_manifest` fills it in; `records.store` reads and writes the file.
"""

from __future__ import annotations

from typing import Any, Literal

from evaluation.records.origin import Checkout, Hardware
from evaluation.records.sealed_models import SCHEMA_VERSION, StoredModel

JobState = Literal["waiting", "done", "failed"]


class Cost(StoredModel):
    """What a job takes, expected or measured; None where that is not known."""

    texts: int | None = None
    """Texts that the task asks for."""
    unique_texts: int | None = None
    """Distinct texts."""
    tokens: int | None = None
    """Tokens of the distinct texts after truncation."""
    new_tokens: int | None = None
    """Tokens that go through the model; cached vectors cost none."""
    seconds: float | None = None
    """The whole job."""


class PlanAndTruth(StoredModel):
    """A job's cost before and after."""

    plan: Cost
    """As expected before the run."""
    truth: Cost | None = None
    """As measured; None before the job ended with a score."""


class ListedJob(StoredModel):
    """A job of the run, whether it has a record or not."""

    label: str
    """The model's label."""
    task: str
    """The task's name."""
    type: str
    """mteb's type of the task."""
    protocol: str
    """The protocol's name."""
    fingerprint: str
    """The job's fingerprint, which leads to its record; empty for a job of a part that has not started yet."""
    state: JobState
    """How far the job has come."""
    cost: PlanAndTruth | None = None
    """Expected and measured cost; None where it is not known."""

    @property
    def key(self) -> tuple[str, str]:
        """Label and task: unique within a run."""
        return self.label, self.task


class RunManifest(StoredModel):
    """Content of run.json."""

    schema_version: Literal[2] = SCHEMA_VERSION
    """Version of the file's format."""
    name: str
    """The run's name."""
    config: dict[str, Any]
    """The config with every default, as the version that ran it understood it."""
    config_file: str | None = None
    """The file that the config was read from."""
    versions: dict[str, str] = {}
    """Distribution -> installed version, python included."""
    source: Checkout = Checkout()
    """The program's own commit."""
    hardware: Hardware | None = None
    """The machine of the last start that ran jobs."""
    started: str | None = None
    """When the last start began, ISO 8601."""
    ended: str | None = None
    """When it ended; None while it runs, or where it was stopped."""
    executor: dict[str, Any] | None = None
    """What the executor says of where jobs ran; None before the end."""
    jobs: tuple[ListedJob, ...]
    """In the config's order."""
