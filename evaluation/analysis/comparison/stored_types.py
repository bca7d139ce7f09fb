"""The data of the comparison of stored forms, in points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.records.job_record import StoredVectors

if TYPE_CHECKING:
    from evaluation.analysis.statistics.loss_verdicts import LossVerdict


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One form of a model's vectors on one task, or on the mean over the tasks that can be tested. In points.

    Attributes:
        model: Label of the row of the model's own vectors.
        label: Label of this row.
        stored: The form, such as int8; float32 for the model's own vectors.
        task: None for the mean.
        vectors: What storing takes; None for the mean and where it was not measured.
        verdict: Against the model's own vectors; None for those, and where nothing can be tested.
        change: The change against them; None for those.
        note: Why there is no verdict; empty otherwise.
    """

    model: str
    label: str
    stored: str
    task: str | None
    score: float | None
    vectors: StoredVectors | None
    verdict: LossVerdict | None = None
    change: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The task, or what the mean is over."""
        return self.task or "Mean over tested tasks"


@dataclass(frozen=True, slots=True)
class StoredComparison:
    """All stored forms of a comparison.

    Attributes:
        rows: Model by model, task by task.
        margin: The loss that matters, in points.
        is_tested: Whether losses were tested; they are not where no intervals were wanted.
        sentences: Per model the smallest form that is shown to lose less than the margin, or that none is.
    """

    rows: tuple[StoredRow, ...]
    margin: float
    is_tested: bool
    sentences: tuple[str, ...]
