"""The rule of a gate, its verdicts (which of them fail) and its report. `verdicts.py` judges with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from evaluation.analysis.statistics.paired_tests import MIN_UNITS
from evaluation.analysis.statistics.rare_losses import FEW_CHANGED
from evaluation.errors import UsageError

NEGLIGIBLE = 0.1
"""Points. A smaller change of a mean is not worth a verdict, however significant: two processors sum in different
orders, and a paired test finds the tiniest difference that always points one way."""
NOISE_ERRORS = 4.0
"""Clustering: a drop counts from four standard errors of the paired runs. If their differences were normal, ten runs
would go that far by chance once in 600 times, five once in 120."""
MIN_ALPHA, MAX_ALPHA = 0.001, 0.5


class Verdict(StrEnum):
    """The verdict on a task or on a mean over tasks; the value is what people read."""

    REGRESSION = "REGRESSION"
    MISSING = "MISSING"
    FAILED = "FAILED"
    CHANGED = "CHANGED"
    INCONCLUSIVE = "inconclusive"
    NO_DROP = "no drop beyond max-drop"
    NEW = "new"

    @property
    def fails(self) -> bool:
        """Whether this verdict fails the gate under any rule."""
        return self in {Verdict.REGRESSION, Verdict.MISSING, Verdict.FAILED, Verdict.CHANGED}


@dataclass(frozen=True, slots=True)
class GateRule:
    """What counts as a regression.

    Args:
        max_drop: Points that a task may lose.
        alpha: The share of gates on equal models that may find a regression by chance.
        require_conclusive: Whether an inconclusive verdict fails the gate.

    Raises:
        UsageError: A value is out of range.
    """

    max_drop: float = 1.0
    alpha: float = 0.05
    require_conclusive: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < math.inf:
            raise UsageError(f"--max-drop {self.max_drop:g}: give points, 0 or more.")
        if not MIN_ALPHA <= self.alpha < MAX_ALPHA:
            raise UsageError(f"--alpha {self.alpha:g}: give a level from {MIN_ALPHA} to less than {MAX_ALPHA}.")

    @property
    def inconclusive(self) -> str:
        """How the sentence on inconclusive verdicts begins."""
        effect = "fails (--require-conclusive)" if self.require_conclusive else "passes (--require-conclusive fails it)"
        return f"Inconclusive, {effect}"

    def sentences(self) -> tuple[str, ...]:
        """The rule in words, in the order in which it is applied."""
        drop, alpha = f"{self.max_drop:.2f} points", f"{self.alpha:g}"
        return (
            "Fails: a task that is missing or failed, or whose protocol, dataset, splits or metric changed.",
            f"Regression, fails: a task dropped by more than {drop}, and chance does not explain the drop: its "
            f"one-sided p, Holm-corrected over all tasks of this gate, is below {alpha}. A mean over tasks that "
            f"drops by more than {NEGLIGIBLE:g} points with such a p is a regression too, since small drops add up.",
            f"A drop by more than {drop} that no test can call chance fails as well: fewer than {MIN_UNITS} "
            "independent examples (of a pair task: with the rarer label), too few for this gate's number of tests, "
            "or nothing but the score is stored. So does a collapse: the loss of two thirds of what the baseline had "
            "above a model that gives every example the same answer.",
            f"No drop beyond max-drop, passes: the 95 % interval of the change lies above -{drop}. "
            f"Where fewer than {FEW_CHANGED} examples of a task, a subset or a mean's task changed, a drop must be "
            "ruled out as well if as many more lose as the number of examples allows, each the most seen there, or "
            f"all of its score where none changed. Of a task without any change, {MIN_UNITS} examples are enough.",
            f"{self.inconclusive}: neither of the two is shown; the number of examples that would rule out a drop is "
            "given.",
            f"Clustering has runs of an algorithm instead of examples: a drop by more than {drop} and by more than "
            f"{NOISE_ERRORS:g} standard errors of its paired runs is a regression. It has no p and is in no mean.",
        )

    def fails(self, verdict: Verdict) -> bool:
        """Whether this verdict fails the gate."""
        return verdict.fails or (self.require_conclusive and verdict is Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on a task, or on the mean of a model's tasks. All numbers are in points.

    Attributes:
        name: The task, or "mean of 7 tasks".
        change: The run's score - the baseline's.
        p: One-sided for a drop, corrected; None where there is no test.
        reason: A sentence for people; empty where there is nothing to add.
        unchanged: Whether not a single example differs, not only the score.
    """

    label: str
    name: str
    verdict: Verdict
    baseline: float | None = None
    score: float | None = None
    change: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    reason: str = ""
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class GateReport:
    """All verdicts of a gate.

    Attributes:
        tasks: One check per task and model.
        suites: One check per model with two or more tested tasks.
        notes: What else differs between baseline and run: weights, settings, versions.
    """

    run: str
    baseline: str
    rule: GateRule
    tasks: tuple[Check, ...]
    suites: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Tasks and suites."""
        return (*self.tasks, *self.suites)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that fail the gate."""
        return tuple(check for check in self.checks if self.rule.fails(check.verdict))

    @property
    def passed(self) -> bool:
        """Whether no check fails the gate."""
        return not self.failures
