"""Identifies BM25, which ranks documents by their words: what stands for a checkpoint where there is none.

Knows packages and versions only; the ranking itself is mteb's (`adapters/bm25.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

BM25_NAME = "mteb/baseline-bm25s"
"""mteb's name of the model that runs."""
BM25_DISTRIBUTIONS = ("bm25s", "PyStemmer")
"""The packages of the extra bm25, whose versions can move a score."""


@dataclass(frozen=True, slots=True)
class Bm25:
    """BM25 as it is installed here.

    Attributes:
        versions: Distribution -> version. Stop words, stemmer and constants are those of the installed mteb.
    """

    versions: tuple[tuple[str, str], ...]

    def identity_for(self, language: str | None) -> dict[str, Any]:
        """Returns everything that can move a score in a language, besides mteb, whose version fingerprints hold."""
        return {"model": BM25_NAME, **dict(self.versions), "language": language}


def installed_bm25() -> Bm25 | None:
    """Returns BM25 as it is installed here; None where one of its packages is missing."""
    try:
        return Bm25(tuple((name, metadata.version(name)) for name in BM25_DISTRIBUTIONS))
    except metadata.PackageNotFoundError:
        return None
