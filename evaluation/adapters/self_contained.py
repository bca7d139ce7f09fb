"""What models that embed or rank by themselves have in common: BM25, and models with their own encode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
from mteb.models.model_meta import ModelMeta

from evaluation.adapters.audit import InputAudit
from evaluation.adapters.rankings import KeptSearches
from evaluation.encoding.encoder import Encoded
from evaluation.jobs import Job
from evaluation.protocols import Side

_NO_VECTORS: Final = np.zeros((0, 0), np.float32)


class SelfContainedModel(KeptSearches):
    """A model that gets its texts from mteb or beir itself. It has what the adapters read of a `TaskEmbedder`.

    Attributes:
        audit, counts: As those of a `TaskEmbedder`.
        encoding_time_s, tokens_encoded: As those of an encoder; no tokens are counted.
        form, stored: None, because no vectors are stored.
        mteb_model_meta: As that of `MtebModel`.
    """

    form: Final = None
    stored: Final = None

    def __init__(self, job: Job, meta: ModelMeta) -> None:
        super().__init__()
        self.audit = InputAudit(job.rules, None)
        self.counts: Counter[str] = Counter()
        self.encoding_time_s, self.tokens_encoded = 0.0, 0
        self.mteb_model_meta = meta

    @property
    def warnings(self) -> list[str]:
        """The audit's warnings."""
        return self.audit.warnings

    def note(self, side: Side, texts: list[str], words: Mapping[str, int]) -> None:
        """Tells the audit which texts the model was given.

        Args:
            side: The side of the task.
            texts: All of them.
            words: Distinct text -> number of its words, in the place of tokens.
        """
        distinct, lengths = list(words), np.array(list(words.values()), np.int64)
        self.audit.add(side, texts, Encoded(_NO_VECTORS, lengths, 0, tuple(distinct[:2]), sum(map(len, distinct))))
