"""Proof of what text reached the model: counts, lengths and exact strings, a side of a task at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.encoding.encoder import Encoded
from evaluation.errors import AuditError
from evaluation.protocols import PASSAGE, QUERY, Side, TaskRules

MAX_PREFIXED_SHARE = 0.01
_LENGTH_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_KNOWN_PREFIXES = (QUERY.strip(), PASSAGE.strip())


class InputAudit:
    """Collects what a job's encoding calls were given and checks it against the protocol.

    Args:
        rules: The protocol's rules for the task.
        vector_rules: What is recorded beside each side: pooling, maximum length, dtype and so on.
    """

    def __init__(self, rules: TaskRules, vector_rules: dict[str, Any]) -> None:
        self._rules, self._vector_rules = rules, vector_rules
        self._sides: dict[Side, dict[str, Any]] = {}
        self.warnings: list[str] = []

    def add(self, side: Side, texts: Sequence[str], encoded: Encoded) -> None:
        """Take note of one call of the encoder.

        Args:
            side: Which side of the task the texts are.
            texts: The dataset's texts, without prefix.
            encoded: What the encoder reports of the call.

        Raises:
            AuditError: A string at the tokenizer is not prefix + dataset text.
        """
        prefix = self._rules.prefix(side)
        for example in encoded.examples:
            if not example.startswith(prefix) or example[len(prefix) :] not in texts:
                raise AuditError(
                    f"the tokenizer received {example[:80]!r} on the {side} side, which is not the protocol's prefix "
                    f"{prefix!r} followed by a text of the dataset."
                )
        entry = self._sides.setdefault(side, _new_side(prefix, self._vector_rules))
        entry["examples"] = [*entry["examples"], *(text[:2_000] for text in encoded.examples)][:2]
        entry["texts"] += len(texts)
        entry["unique_texts"] += len(encoded.token_lengths)
        entry["truncated"] += encoded.n_truncated
        entry["characters"] += encoded.n_characters
        entry["tokens"] += int(encoded.token_lengths.sum())
        entry["tokens_kept"] += int(encoded.token_lengths.clip(max=self._vector_rules["max_length"]).sum())
        counts = np.histogram(encoded.token_lengths, bins=[*_LENGTH_EDGES, np.inf])[0]
        entry["token_lengths"]["counts"] = [
            before + int(now) for before, now in zip(entry["token_lengths"]["counts"], counts, strict=True)
        ]
        entry["longest"] = max(entry["longest"], int(encoded.token_lengths.max(initial=0)))
        entry["already_prefixed"] += sum(text.lstrip().lower().startswith(_KNOWN_PREFIXES) for text in texts)

    def finish(self) -> dict[str, Any]:
        """The audit of the whole job, a mapping a side.

        Raises:
            AuditError: More than 1 % of a side's texts already begin with a prefix, and the protocol forbids that.
        """
        for side, entry in self._sides.items():
            entry["truncated_share"] = entry["truncated"] / max(entry["unique_texts"], 1)
            found, total = entry["already_prefixed"], entry["texts"]
            if not found:
                continue
            known = " or ".join(map(repr, _KNOWN_PREFIXES))
            sentence = f"{found} of {total} texts of the {side} side already begin with {known}"
            if found > MAX_PREFIXED_SHARE * total and not self._rules.allow_prefixed_text:
                raise AuditError(
                    f"{sentence}: the dataset seems to be prefixed already, and the model would see a prefix twice. "
                    "Remove the prefixes, or set allow_prefixed_text: true in a protocol of your own."
                )
            self.warnings.append(sentence + ".")
        return {"rules": self._rules.as_dict(), "sides": dict(self._sides)}


def _new_side(prefix: str, vector_rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "examples": [],
        "texts": 0,
        "unique_texts": 0,
        "truncated": 0,
        "characters": 0,
        "tokens": 0,
        "tokens_kept": 0,
        "longest": 0,
        "already_prefixed": 0,
        "token_lengths": {"edges": list(_LENGTH_EDGES), "counts": [0] * len(_LENGTH_EDGES)},
        **vector_rules,
    }
