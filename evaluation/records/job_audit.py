"""The stored proof of what text reached a model, and how its vectors were treated. Data only."""

from __future__ import annotations

from typing import Literal

from evaluation.models.proof_store import Proof
from evaluation.protocols import Side, TaskRules
from evaluation.records.sealed_models import StoredModel


class TokenLengths(StoredModel):
    """A histogram of the token counts of distinct texts, prefix included, before truncation."""

    edges: tuple[int, ...]
    """Lower ends of the bins, in tokens; bin i ends before edges[i + 1], the last one is open."""
    counts: tuple[int, ...]
    """Distinct texts per bin."""


class SideAudit(StoredModel):
    """One side of a task as it reached the tokenizer."""

    prefix: str
    """What the protocol puts before every text of this side."""
    examples: tuple[str, ...]
    """Up to two strings exactly as the tokenizer received them, at most 2,000 characters each."""
    texts: int
    """Texts that the task asked for, repeated ones included."""
    unique_texts: int
    """Distinct texts per call of the encoder, summed over calls."""
    truncated: int
    """Distinct texts longer than the maximum length."""
    truncated_share: float
    """`truncated` as a share of `unique_texts`, 0-1."""
    characters: int
    """Characters of the distinct texts."""
    tokens: int
    """Tokens of the distinct texts before truncation."""
    tokens_kept: int
    """Tokens of the distinct texts after truncation."""
    longest: int
    """Tokens of the longest text before truncation."""
    already_prefixed: int
    """Dataset texts that begin with a known prefix before one is added."""
    token_lengths: TokenLengths
    """Histogram of the lengths before truncation."""


class VectorRules(StoredModel):
    """How texts became vectors; the same for all sides of a job."""

    pooling: str
    """How token vectors became one vector."""
    normalize: bool
    """Whether vectors were brought to length one before the task saw them."""
    max_length: int
    """Tokens that the model reads of a text, special ones included."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Precision of weights and activations."""
    truncate_dim: int | None = None
    """Dimensions kept of a vector; None: all."""


class JobAudit(StoredModel):
    """What text reached the model in a job, and under which rules."""

    rules: TaskRules
    """The protocol's rules for the task."""
    vectors: VectorRules | None
    """How texts became vectors; None for BM25, which counts the distinct words of a text as its tokens, and for a model
    with its own encode, which decides that and counts all words."""
    sides: dict[Side, SideAudit]
    """Each side that was encoded."""
    proof: Proof | None = None
    """Comparison with the reference library; None where there was none."""
