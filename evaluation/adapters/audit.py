"""Collects what text reached the model, per side of a task, and checks it against the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.encoding.encoder import Encoded
from evaluation.errors import AuditError
from evaluation.protocols import PASSAGE, QUERY, Side, TaskRules
from evaluation.records.job_audit import JobAudit, SideAudit, TokenLengths, VectorRules

MAX_PREFIXED_SHARE = 0.01
_LENGTH_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_KNOWN_PREFIXES = (QUERY.strip(), PASSAGE.strip())
_EXAMPLES, _EXAMPLE_CHARACTERS = 2, 2_000


class InputAudit:
    """Collects what the encoding calls of a job were given.

    Args:
        vectors: How texts become vectors, which is recorded as it is; None where they become none.
    """

    def __init__(self, rules: TaskRules, vectors: VectorRules | None) -> None:
        self._rules, self._vectors = rules, vectors
        self._max_length = np.iinfo(np.int64).max if vectors is None else vectors.max_length
        self._sides: dict[Side, SideAudit] = {}
        self.warnings: list[str] = []

    def add(self, side: Side, texts: Sequence[str], encoded: Encoded) -> None:
        """Adds one call of the encoder.

        Args:
            texts: The dataset's texts, without prefix.

        Raises:
            AuditError: A string at the tokenizer is not the prefix followed by a dataset text.
        """
        prefix = self._rules.prefix(side)
        for example in encoded.examples:
            if not example.startswith(prefix) or example[len(prefix) :] not in texts:
                raise AuditError(
                    f"the tokenizer received {example[:80]!r} on the {side} side, which is not the protocol's prefix "
                    f"{prefix!r} followed by a text of the dataset."
                )
        before, lengths = self._sides.get(side) or _nothing(prefix), encoded.token_lengths
        counts = np.histogram(lengths, bins=[*_LENGTH_EDGES, np.inf])[0]
        truncated, unique = before.truncated + encoded.n_truncated, before.unique_texts + len(lengths)
        self._sides[side] = SideAudit(
            prefix=prefix,
            examples=(*before.examples, *(text[:_EXAMPLE_CHARACTERS] for text in encoded.examples))[:_EXAMPLES],
            texts=before.texts + len(texts),
            unique_texts=unique,
            truncated=truncated,
            truncated_share=truncated / max(unique, 1),
            characters=before.characters + encoded.n_characters,
            tokens=before.tokens + int(lengths.sum()),
            tokens_kept=before.tokens_kept + int(lengths.clip(max=self._max_length).sum()),
            longest=max(before.longest, int(lengths.max(initial=0))),
            already_prefixed=before.already_prefixed
            + sum(text.lstrip().lower().startswith(_KNOWN_PREFIXES) for text in texts),
            token_lengths=TokenLengths(
                edges=_LENGTH_EDGES,
                counts=tuple(old + int(new) for old, new in zip(before.token_lengths.counts, counts, strict=True)),
            ),
        )

    def finish(self) -> JobAudit:
        """The audit of the whole job.

        Raises:
            AuditError: More than 1 % of a side's texts already begin with a prefix, and the protocol forbids that.
        """
        for side, audit in self._sides.items():
            if not audit.already_prefixed:
                continue
            known = " or ".join(map(repr, _KNOWN_PREFIXES))
            sentence = f"{audit.already_prefixed} of {audit.texts} texts of the {side} side already begin with {known}"
            if audit.already_prefixed > MAX_PREFIXED_SHARE * audit.texts and not self._rules.allow_prefixed_text:
                raise AuditError(
                    f"{sentence}: the dataset seems to be prefixed already, and the model would see a prefix twice. "
                    "Remove the prefixes, or set allow_prefixed_text: true in a protocol of your own."
                )
            self.warnings.append(sentence + ".")
        return JobAudit(rules=self._rules, vectors=self._vectors, sides=dict(self._sides))


def _nothing(prefix: str) -> SideAudit:
    """A side before its first call."""
    return SideAudit(
        prefix=prefix,
        examples=(),
        texts=0,
        unique_texts=0,
        truncated=0,
        truncated_share=0.0,
        characters=0,
        tokens=0,
        tokens_kept=0,
        longest=0,
        already_prefixed=0,
        token_lengths=TokenLengths(edges=_LENGTH_EDGES, counts=(0,) * len(_LENGTH_EDGES)),
    )
