"""Declares how much of a task a smoke run takes."""

from __future__ import annotations

from pydantic import Field

from evaluation.config.declared import Declared


class Limit(Declared):
    """Limits for smoke runs. Judged documents are always kept; results are marked and never exported."""

    documents: int | None = Field(None, ge=1, description="Documents per retrieval corpus.")
    queries: int | None = Field(None, ge=1, description="Queries per retrieval split.")
    examples: int | None = Field(None, ge=1, description="Rows per split of any other task.")
