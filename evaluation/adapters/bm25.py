"""Ranks a task's documents by their words with mteb's own BM25 (mteb 2.26, `mteb/baseline-bm25s`), for both adapters.

In reranking tasks mteb ranks only those candidates that are among its best 1,000 of all documents. Here the same index
scores every candidate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import mteb
import numpy as np
from datasets import Dataset
from mteb.models.model_implementations.bm25 import BM25Search
from mteb.models.model_meta import ModelMeta
from numpy.typing import NDArray

from evaluation.adapters.mteb_tables import column, query_texts
from evaluation.adapters.rankings import RankedRun, Ties
from evaluation.adapters.self_contained import SelfContainedModel
from evaluation.errors import EncodingError
from evaluation.jobs import Job
from evaluation.models.bm25 import BM25_NAME
from evaluation.records.origin import WordSettings
from evaluation.tasks.types import RERANKING_TYPES

NOT_MTEBS: Final = (
    "not mteb's score: BM25 ranks every candidate here, mteb only those among its best 1,000 of all documents."
)
_NO_WORDS: Final = (
    "BM25 has nothing to index: no document has a word left after stop words and stemming; check the documents and the "
    "task's language, or remove the row of bm25."
)
_ENGLISH: Final = "eng"


class _Languages(NamedTuple):
    """What mteb's BM25 reads of a task's metadata: languages such as eng-Latn."""

    eval_langs: Any


class Bm25Ranker(SelfContainedModel):
    """mteb's BM25 as the model of one job: indexes a corpus, then ranks it, or the candidates, for each query.

    Attributes:
        settings: How it ranked, with the language of each subset.
    """

    def __init__(self, job: Job) -> None:
        is_reranking = job.task.type in RERANKING_TYPES
        super().__init__(job, _meta(is_reranking=is_reranking))
        self._language = job.task.language
        self._own_warnings = [NOT_MTEBS] if is_reranking and job.task.via != "beir" else []
        self._search = BM25Search()
        self._languages: dict[str, str] = {}
        self._ties = Ties()
        self._n_queries = self._n_without_match = 0

    @property
    def warnings(self) -> list[str]:
        """The audit's warnings, what sets the score apart from mteb's, and queries whose order says nothing."""
        unmatched = (
            f"{self._n_without_match} of {self._n_queries} queries share no word with any ranked document: all their "
            "scores are 0, and ids decide the order."
        )
        return [
            *self.audit.warnings,
            *self._own_warnings,
            *[unmatched] * (self._n_without_match > 0),
            *self._ties.warnings,
        ]

    @property
    def settings(self) -> WordSettings:
        """How it ranked."""
        search = self._search
        return WordSettings(method=search.method, k1=search.k1, b=search.b, languages=self._languages)

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **kwargs: Any) -> None:
        """Indexes a corpus: an iterable of documents with id, text and, where there is one, title."""
        self.corpora[hf_split, hf_subset] = corpus
        languages = task_metadata.eval_langs if self._language is None else [f"{self._language}-Zyyy"]
        texts = ["\n".join([document.get("title", ""), document["text"]]) for document in corpus]
        self._search = BM25Search()
        try:
            self._search.index(
                corpus,
                task_metadata=_Languages(languages),  # type: ignore[arg-type]  # it reads only the languages
                hf_split=hf_split,
                hf_subset=hf_subset,
                encode_kwargs={},
            )
        except ValueError as error:
            if any(self._words(texts)):
                raise
            raise EncodingError(_NO_WORDS) from error
        tokenizer, retriever = self._search._tokenizer, self._search.retriever
        assert tokenizer is not None and retriever is not None, "index sets both"
        if not retriever.scores["data"].any():
            raise EncodingError(_NO_WORDS)
        stemmed = tokenizer.stemmer is not None
        self._languages[hf_subset] = f"stop words: {tokenizer.stopwords_key or 'frequent words'}, stemmer: " + (
            _stemmer_name(languages, hf_subset) if stemmed else "none"
        )
        words = np.bincount(retriever.scores["indices"], minlength=len(texts))
        self.note("passage", texts, dict(zip(texts, words.tolist(), strict=True)))

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
        """Ranks the indexed documents, or the `top_ranked` candidates; returns query id -> document id -> score."""
        ids, texts = column(queries, "id"), query_texts(queries)
        self.query_texts[hf_split, hf_subset] = dict(zip(ids, texts, strict=True))
        words = self._words(texts)
        self.note("query", texts, {text: len(set(found)) for text, found in zip(texts, words, strict=True)})
        if top_ranked is None:
            found = self._search.search(
                Dataset.from_dict({"id": ids, "text": texts}),
                task_metadata=task_metadata,
                hf_split=hf_split,
                hf_subset=hf_subset,
                top_k=top_k,
                encode_kwargs={},
            )
        else:
            found = self._rerank(ids, words, top_ranked)
        run = self.runs[hf_split, hf_subset] = RankedRun.of_results(found)
        self._note_order(run.scores.values())
        return found

    def _note_order(self, ranked: Collection[NDArray[np.float32]]) -> None:
        """Counts queries without a match, and those among the others whose documents tie; scores best first."""
        self._n_queries += len(ranked)
        for scores in ranked:
            if scores.any():
                self._ties.add(scores[None])
            else:
                self._n_without_match += 1

    def encode(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: BM25 has no vectors, and its jobs are planned for retrieval and reranking only."""
        raise EncodingError("BM25 has no vectors; it scores retrieval and reranking tasks only.")

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns each text's words, stemmed and without stop words."""
        from bm25s.tokenization import convert_tokenized_to_string_list  # of the extra bm25

        assert self._search._tokenizer is not None, "a corpus was indexed"
        words: list[list[str]] = convert_tokenized_to_string_list(self._search._tokenizer.transform(list(texts)))
        return words

    def _rerank(
        self, ids: Sequence[str], words: Sequence[list[str]], candidates: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float]]:
        assert self._search.retriever is not None, "a corpus was indexed"
        position = {document: row for row, document in self._search.corpus_idx_to_id.items()}
        found: dict[str, dict[str, float]] = {}
        for query, own in zip(ids, words, strict=True):
            wanted = candidates.get(query, ())
            missing = next((document for document in wanted if document not in position), None)
            if missing is not None:
                raise EncodingError(f"candidate document {missing!r} is not in the corpus.")
            if wanted:
                scores = self._search.retriever.get_scores(own) if own else np.zeros(len(position), np.float32)
                found[query] = {document: float(scores[position[document]]) for document in wanted}
        return found


def rank_beir(
    ranker: Bm25Ranker, corpus: Mapping[str, Mapping[str, str]], queries: Mapping[str, str], split: str, top_k: int
) -> dict[str, dict[str, float]]:
    """Ranks a corpus as beir holds it; BEIR's datasets are English.

    Args:
        corpus: document id -> title and text.
        queries: query id -> text.
        split: The split, under which the ranker keeps its run.
    """
    documents = [{"id": id_, "title": doc.get("title") or "", "text": doc["text"]} for id_, doc in corpus.items()]
    languages = _Languages([f"{_ENGLISH}-Latn"])
    ranker.index(documents, task_metadata=languages, hf_split=split, hf_subset="default")
    return ranker.search(
        Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
        task_metadata=languages,
        hf_split=split,
        hf_subset="default",
        top_k=top_k,
        encode_kwargs={},
    )


def _meta(*, is_reranking: bool) -> ModelMeta:
    """Returns mteb's description of BM25; a score that is not mteb's is an experiment."""
    known = mteb.get_model_meta(BM25_NAME, fetch_from_hf=False)
    return known.model_copy(update={"experiment_kwargs": {"candidates": "all"} if is_reranking else None})


def _stemmer_name(languages: Any, subset: str) -> str:
    from mteb.models.model_implementations.bm25 import _ISO3_TO_LANG, _get_language

    language = _get_language(_Languages(languages), subset) or _ENGLISH  # type: ignore[arg-type]  # as in index
    return _ISO3_TO_LANG.get(language, (None, None, None))[1] or "none"
