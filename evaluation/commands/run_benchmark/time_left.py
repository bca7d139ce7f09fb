"""Estimates how far a run is and how long it will still take, from the tokens that its jobs are expected to encode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class TimeLeft:
    """Follows a run. Jobs whose tokens are unknown count like the average job.

    The rate is measured from the first batch on, so that loading the first model does not count for all that follow.

    Args:
        planned: (label, task) -> tokens that a job is expected to encode, where that is known.
        clock: Returns the time in seconds.

    >>> left = TimeLeft(1, {("e5", "SciFact"): 1_000}, clock=iter([0.0, 5.0, 15.0]).__next__)
    >>> left.add(250)
    >>> left.seconds()
    >>> left.add(250)
    >>> left.seconds()
    20.0
    """

    def __init__(
        self, n_jobs: int, planned: Mapping[tuple[str, str], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._n_jobs, self._planned, self._clock = n_jobs, planned, clock
        self._average = sum(planned.values()) / len(planned) if planned else 0.0
        self._started = clock()
        self._n_ended = 0
        self._ended_planned = 0.0
        self._ended_encoded = self._encoded = 0
        self._first_batch: tuple[float, int] | None = None  # when it ended, and what was done then

    @property
    def total(self) -> int:
        """Tokens that all jobs are expected to encode; 0 if unknown."""
        return round(sum(self._planned.values()) + self._average * (self._n_jobs - len(self._planned)))

    @property
    def done(self) -> int:
        """Tokens of `total` that are done, those that were planned for ended jobs included."""
        return min(self.total, round(self._ended_planned + max(0, self._encoded - self._ended_encoded)))

    def add(self, tokens: int) -> None:
        """Counts tokens that went through a model."""
        self._encoded += tokens
        if tokens and self._first_batch is None:
            self._first_batch = (self._clock(), self.done)

    def job_ended(self, key: tuple[str, str], encoded: int) -> None:
        """Counts a job as done, with the tokens that it did encode."""
        self._n_ended += 1
        self._ended_planned += self._planned.get(key, self._average)
        self._ended_encoded += encoded

    def seconds(self) -> float | None:
        """Returns the expected time left; None before the second batch or, where no tokens are known, the first job."""
        if not self.total:
            elapsed = self._clock() - self._started
            return elapsed * (self._n_jobs - self._n_ended) / self._n_ended if self._n_ended else None
        since, already = self._first_batch or (0.0, self.done)
        if self.done == already:
            return None
        return (self._clock() - since) * (self.total - self.done) / (self.done - already)
