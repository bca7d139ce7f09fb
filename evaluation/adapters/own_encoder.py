"""Scores a model by its own `encode`, as mteb itself would: mteb's search, mteb's batches, no prefix of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from mteb.models import SearchEncoderWrapper
from mteb.models.model_meta import ModelMeta
from mteb.models.models_protocols import SearchProtocol
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from mteb.types import PromptType

from evaluation.adapters.mteb_adapter import SIDES
from evaluation.adapters.mteb_tables import column, query_texts
from evaluation.adapters.rankings import RankedRun
from evaluation.adapters.self_contained import SelfContainedModel
from evaluation.encoding.vector_checks import check_vectors
from evaluation.jobs import Job
from evaluation.models.own_encoder import OwnEncoder


class OwnEncoderModel(SelfContainedModel):
    """A model with mteb's `encode` as the model of one job; notes what it is given and passes everything on."""

    def __init__(self, job: Job, own: OwnEncoder) -> None:
        super().__init__(job, _meta(job.model.label, own))
        self._model: Any = own.model
        self._search: Any = self._model if isinstance(self._model, SearchProtocol) else SearchEncoderWrapper(self)

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **given: Any) -> Any:
        """Returns what the model's own `encode` returns; notes the texts, and refuses vectors that are not finite."""
        started = time.perf_counter()
        vectors = self._model.encode(inputs, prompt_type=prompt_type, **given)
        self.encoding_time_s += time.perf_counter() - started
        texts = column(inputs.dataset, "text")
        noted = torch.as_tensor(vectors).detach().to("cpu", torch.float32).numpy()
        self.counts["texts whose vector is zero"] += check_vectors(noted, texts, allow_zero=True)
        self.note(SIDES[prompt_type], texts, {text: len(text.split()) for text in dict.fromkeys(texts)})
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of all pairs, by the model's own function, or cosine where it has none."""
        return getattr(self._model, "similarity", cos_sim)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the similarity of corresponding rows, likewise."""
        return getattr(self._model, "similarity_pairwise", pairwise_cos_sim)(embeddings1, embeddings2)

    def index(self, corpus: Any, *, hf_split: str, hf_subset: str, **given: Any) -> None:
        """Hands a corpus to the search."""
        self.corpora[hf_split, hf_subset] = corpus
        self._search.index(corpus, hf_split=hf_split, hf_subset=hf_subset, **given)

    def search(self, queries: Any, *, hf_split: str, hf_subset: str, **given: Any) -> Mapping[str, Mapping[str, float]]:
        """Searches the corpus, or ranks candidates; returns query id -> document id -> score."""
        ids, texts = column(queries, "id"), query_texts(queries)
        self.query_texts[hf_split, hf_subset] = dict(zip(ids, texts, strict=True))
        found: dict[str, dict[str, float]] = self._search.search(
            queries, hf_split=hf_split, hf_subset=hf_subset, **given
        )
        self.runs[hf_split, hf_subset] = RankedRun.of_results(found)
        return found


def _meta(label: str, own: OwnEncoder) -> ModelMeta:
    """Returns the model's own description, under a revision that no published model has."""
    described = getattr(own.model, "mteb_model_meta", None)
    if not isinstance(described, ModelMeta):
        described = ModelMeta.create_empty(overwrites={"name": f"in-memory/{label.replace(' ', '-')}"})
    return described.model_copy(update={"revision": own.revision})
