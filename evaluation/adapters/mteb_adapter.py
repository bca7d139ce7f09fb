"""Puts our encoder and search behind mteb's EncoderProtocol and SearchProtocol (mteb 2.26)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mteb.models.model_meta import ModelMeta
from mteb.similarity_functions import cos_sim, dot_score, pairwise_cos_sim, pairwise_dot_score
from mteb.types import PromptType
from numpy.typing import NDArray

from evaluation.adapters.embedding import TaskEmbedder
from evaluation.adapters.mteb_tables import column, corpus_blocks, documents_of, query_texts
from evaluation.adapters.rankings import KeptSearches
from evaluation.adapters.stored_texts import StoredTexts
from evaluation.adapters.task_search import TaskSearch
from evaluation.protocols import Side
from evaluation.stored_forms.fitting import plain_size
from evaluation.tasks.types import TRAINED_TYPES

SIDES: dict[PromptType | None, Side] = {
    None: "text",
    PromptType.query: "query",
    PromptType.document: "passage",
}
"""mteb's prompt type -> the side of the task."""


class MtebModel(KeptSearches):
    """The model that an mteb task calls. One object serves one job and keeps the rankings of its searches.

    Attributes:
        mteb_model_meta: The model's metadata, with the protocol in experiment_kwargs.
        form: The form that vectors are stored in; None: as the model gives them.
        stored: Gives texts their stored form, in tasks without a corpus; None where vectors stay as they are.
    """

    def __init__(self, embedder: TaskEmbedder, meta: ModelMeta, task_type: str) -> None:
        super().__init__()
        self._embedder, self._search = embedder, TaskSearch(embedder)
        self.form = embedder.form
        self.stored = None if embedder.form is None else StoredTexts(embedder.form, task_type, embedder)
        self.mteb_model_meta = meta

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,  # mteb's EncoderProtocol passes its encode_kwargs
    ) -> NDArray[np.float32] | NDArray[np.float64]:
        """Returns (N, D) vectors of the texts of an mteb data loader, in input order.

        float32, but float64 where scikit-learn fits a model on them: in float32 the processor's rounding decides some
        predictions (4 of 10,500 between AVX2 and AVX-512), in float64 none.
        """
        texts, side = column(inputs.dataset, "text"), SIDES[prompt_type]
        if self.stored is not None:
            vectors = self.stored.vectors_of(texts, side)
        else:
            vectors = self._embedder.embed(texts, side)
            self._embedder.note_stored(len(texts), plain_size(vectors))
        return vectors.astype(np.float64) if task_metadata.type in TRAINED_TYPES else vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Returns the (N, M) similarity of all pairs, by the checkpoint's similarity function."""
        pairs = cos_sim if self._embedder.similarity == "cosine" else dot_score
        return torch.as_tensor(pairs(embeddings1, embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Returns the (N,) similarity of corresponding rows."""
        pairwise = pairwise_cos_sim if self._embedder.similarity == "cosine" else pairwise_dot_score
        return torch.as_tensor(pairwise(embeddings1, embeddings2))

    def index(self, corpus: Any, *, hf_split: str, hf_subset: str, **kwargs: Any) -> None:
        """Keeps the corpus, which is encoded block by block while searching."""
        self.corpora[hf_split, hf_subset] = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,  # mteb's SearchProtocol passes num_proc and reserves others
    ) -> dict[str, dict[str, float]]:
        """Searches exactly, or ranks the `top_ranked` candidates; returns query id -> document id -> score."""
        key = (hf_split, hf_subset)
        ids, texts = column(queries, "id"), query_texts(queries)
        vectors = self._embedder.embed(texts, "query")
        join_title = self._embedder.rules.join_title
        if top_ranked is None:
            blocks = corpus_blocks(self.corpora[key], join_title=join_title)
            run = self._search.search(ids, vectors, blocks, top_k)
        else:
            needed = {document for query in ids for document in top_ranked.get(query, ())}
            documents = documents_of(self.corpora[key], needed, join_title=join_title)
            run = self._search.rerank(ids, vectors, documents, top_ranked)
        self.runs[key] = run
        self.query_texts[key] = dict(zip(ids, texts, strict=True))
        return run.as_results()
