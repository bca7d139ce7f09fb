"""Scores that others published, and whether ours reproduce them. Reads CSV files with a source a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PublishedMatch:
    """A published score beside ours, in points.

    Attributes:
        protocol: Of the table it stands in: e5 (the authors' own rules) or mteb (MTEB's reruns).
        delta: Ours - published.
        verdict: reproduced: within tolerance and within our interval, where there is one.
        causes: Likely causes of a difference that the audit shows, most telling first.
    """

    score: float
    source: str
    protocol: str
    delta: float
    verdict: Literal["reproduced", "differs"]
    causes: tuple[str, ...] = ()
