"""beir on our encoder and search: the same scores as through mteb, as beir's own pipeline, and as beir's own search."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

pytest.importorskip("beir")
pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]

from beir.datasets.data_loader import GenericDataLoader  # noqa: E402
from beir.retrieval.evaluation import EvaluateRetrieval  # noqa: E402
from beir.retrieval.models import SentenceBERT  # noqa: E402
from beir.retrieval.search.dense import DenseRetrievalExactSearch  # noqa: E402

from evaluation.adapters.beir_adapter import BeirSearch, evaluate_beir  # noqa: E402
from evaluation.adapters.embedding import TaskEmbedder  # noqa: E402
from evaluation.encoding.cache import EmbeddingCache  # noqa: E402
from evaluation.jobs import build_jobs  # noqa: E402
from evaluation.protocols import document_text  # noqa: E402

CUTS = (1, 3, 5, 10, 100)
KEYS = [f"{metric}_at_{k}" for metric in ("ndcg", "map", "recall", "precision") for k in CUTS]
MINILM = "builtin:all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def load_encoder(open_encoder, tmp_path_factory):
    """Encoders with a cache of this module's own: the public data go through the model once."""
    folder = tmp_path_factory.mktemp("embeddings")
    return cache(
        lambda model: open_encoder(model, cache=EmbeddingCache({"model": str(model)}, folder, max_bytes=2**30))
    )


def beir_files(pool, *, query_id: str = "q{}") -> dict[str, list[Any]]:
    """150 documents, some without title; the second half of a text is the query for it. Judgements are graded."""
    texts = pool[:: len(pool) // 150][:150]
    halves = [(" ".join(text.split()[::2]), " ".join(text.split()[1::2]) or text) for text in texts]
    return {
        "corpus.jsonl": [
            {"_id": f"d{row}", "title": halves[row][0] if row % 3 else "", "text": text}
            for row, text in enumerate(texts)
        ],
        "queries.jsonl": [{"_id": query_id.format(row), "text": halves[row][1]} for row in range(105)],
        "qrels/test.tsv": [
            (query_id.format(row), document, grade)
            for row in range(105)
            for document, grade in ((f"d{row}", 2), (f"d{row * 7 % 150}", 1), (f"d{(row * 11 + 1) % 150}", 0))
            if grade == 2 or document != f"d{row}"
        ],
    }


def scores_of(result) -> dict[str, float]:
    (entry,) = result.scores["test"]
    return {key: entry.metrics[key] for key in KEYS}


def embedder_of(make_config, load_encoder, data, model, protocol="e5") -> TaskEmbedder:
    (job,) = build_jobs(make_config([{"beir": "own", "data": data}], model, protocol))
    return TaskEmbedder(load_encoder(model), job.rules)


# Small numbers first


def test_scores_of_a_ranking_checked_by_hand():
    qrels = {"a": {"x": 1}, "b": {"y": 1, "z": 1}}
    results = {"a": {"x": 0.9, "y": 0.5}, "b": {"b": 0.9, "x": 0.8, "y": 0.7}}
    found = evaluate_beir(qrels, {query: dict(ranked) for query, ranked in results.items()}, ignore_identical_ids=False)
    # a: first of one. b: one of two, at rank 3, behind the document that is named like the query.
    assert found.means["recall_at_3"] == 0.75
    assert found.means["precision_at_3"] == pytest.approx((1 / 3 + 1 / 3) / 2, abs=1e-5)
    assert found.means["map_at_3"] == pytest.approx((1 + 1 / 3 / 2) / 2, abs=1e-5)
    dropped = evaluate_beir(qrels, results, ignore_identical_ids=True)
    assert dropped.means["map_at_3"] == pytest.approx((1 + 1 / 2 / 2) / 2, abs=1e-5)
    assert dropped.per_query["b"]["map_cut_3"] == 0.25


# The same data through beir and through mteb


@pytest.mark.parametrize("protocol", ["e5", "mteb", "none"])
def test_scores_equal_those_through_mteb(protocol, text_pool, write_data, run_job, tiny_checkpoint):
    data = write_data("data", beir_files(text_pool))
    through_beir = run_job({"beir": "own", "data": data}, tiny_checkpoint, protocol)
    through_mteb = run_job({"local": "Own", "type": "Retrieval", "data": data}, tiny_checkpoint, protocol)
    assert scores_of(through_beir) == pytest.approx(scores_of(through_mteb), abs=1e-4)
    assert 0.05 < scores_of(through_beir)["ndcg_at_10"] < 0.99


def test_rankings_equal_those_through_mteb(text_pool, write_data, run_job, tiny_checkpoint):
    data = write_data("data", beir_files(text_pool))
    through_beir = run_job({"beir": "own", "data": data}, tiny_checkpoint, "e5")
    through_mteb = run_job({"local": "Own", "type": "Retrieval", "data": data}, tiny_checkpoint, "e5")
    assert through_beir.tables["run"].equals(through_mteb.tables["run"])
    by_query = [
        {row["query_id"]: row["ndcg_cut_10"] for row in result.tables["samples"].to_pylist()}
        for result in (through_beir, through_mteb)
    ]
    assert by_query[0] == pytest.approx(by_query[1], abs=1e-6)
    assert len(by_query[0]) == 105


@pytest.mark.parametrize("protocol", ["e5", "mteb", "none"])
@pytest.mark.parametrize(
    ("beir_name", "mteb_name"), [("arguana", "ArguAna"), ("fiqa", "FiQA2018"), ("scifact", "SciFact")]
)
def test_identical_ids_are_treated_as_through_mteb(
    beir_name, mteb_name, protocol, text_pool, write_data, run_job, tiny_checkpoint
):
    data = write_data("data", beir_files(text_pool, query_id="d{}"))
    through_beir = run_job({"beir": beir_name, "data": data}, tiny_checkpoint, protocol)
    through_mteb = run_job({"mteb": mteb_name, "data": data}, tiny_checkpoint, protocol)
    assert scores_of(through_beir) == pytest.approx(scores_of(through_mteb), abs=1e-4)


def test_default_of_beir_drops_documents_that_have_the_querys_id(
    text_pool, write_data, run_job, make_config, load_encoder, tiny_checkpoint
):
    """The judged document of every query has its id: beir's default would lose them all."""
    data = write_data("data", beir_files(text_pool, query_id="d{}"))
    ours = scores_of(run_job({"beir": "own", "data": data}, tiny_checkpoint, "e5"))
    corpus, queries, qrels = GenericDataLoader(str(data)).load(split="test")
    search = BeirSearch(embedder_of(make_config, load_encoder, data, tiny_checkpoint), "test")
    results = search.search(corpus, queries, 1000)
    kept = EvaluateRetrieval.evaluate(qrels, results, list(CUTS), ignore_identical_ids=False)[0]
    assert ours["ndcg_at_10"] == pytest.approx(kept["NDCG@10"], abs=1e-4)
    default = EvaluateRetrieval.evaluate(qrels, results, list(CUTS))[0]
    assert default["NDCG@10"] < ours["ndcg_at_10"] - 0.1


# Against beir's own parts


@pytest.mark.parametrize(
    ("protocol", "prompts"), [("e5", {"query": "query: ", "passage": "passage: "}), ("none", None)]
)
def test_scores_equal_beirs_own_pipeline(protocol, prompts, text_pool, write_data, run_job, tiny_checkpoint):
    """beir's loader, its sentence-transformers model, its search and its metrics; nothing of ours."""
    data = write_data("data", beir_files(text_pool))
    ours = scores_of(run_job({"beir": "own", "data": data}, tiny_checkpoint, protocol))
    corpus, queries, qrels = GenericDataLoader(str(data)).load(split="test")
    model = SentenceBERT(str(tiny_checkpoint), prompts=prompts, device="cpu")
    # beir takes its prompts only where the model declares some itself
    model.query_prefix, model.doc_prefix = (prompts["query"], prompts["passage"]) if prompts else (None, None)
    retriever = EvaluateRetrieval(DenseRetrievalExactSearch(model), k_values=list(CUTS))
    theirs = retriever.evaluate(qrels, retriever.retrieve(corpus, queries), list(CUTS), ignore_identical_ids=False)
    names = {"NDCG": "ndcg", "MAP": "map", "Recall": "recall", "P": "precision"}
    expected = {
        f"{names[key.partition('@')[0]]}_at_{key.partition('@')[2]}": value
        for group in theirs
        for key, value in group.items()
    }
    assert ours == pytest.approx(expected, abs=1e-4)


class BeirModel:
    """Our embedder as a model of beir, for beir's own dense search."""

    def __init__(self, embedder: TaskEmbedder) -> None:
        self._embedder = embedder

    def encode_queries(self, queries: list[str], batch_size: int = 0, **kwargs: Any) -> Any:
        return self._embedder.embed(list(queries), "query")

    def encode_corpus(self, corpus: list[dict[str, str]], batch_size: int = 0, **kwargs: Any) -> Any:
        join = self._embedder.rules.join_title
        texts = [document_text(doc.get("title"), doc["text"], join_title=join) for doc in corpus]
        return self._embedder.embed(texts, "passage")


def test_beirs_own_search_scores_as_ours(text_pool, write_data, make_config, load_encoder, tiny_checkpoint):
    data = write_data("data", beir_files(text_pool))
    corpus, queries, _ = GenericDataLoader(str(data)).load(split="test")
    embedder = embedder_of(make_config, load_encoder, data, tiny_checkpoint)
    ours = BeirSearch(embedder, "test").search(corpus, queries, 100)
    theirs = DenseRetrievalExactSearch(BeirModel(embedder), batch_size=16).search(corpus, queries, 100, "cos_sim")
    assert ours.keys() == theirs.keys()
    for query, ranked in ours.items():
        assert len(ranked) == 100
        both = ranked.keys() & theirs[query].keys()
        assert len(both) >= 99  # rounding may decide between the last and the next
        assert {id_: ranked[id_] for id_ in both} == pytest.approx({id_: theirs[query][id_] for id_ in both}, abs=1e-5)


def test_single_query_and_fewer_documents_than_cuts(write_data, run_job, tiny_checkpoint):
    files = {
        "corpus.jsonl": [{"_id": "d1", "text": "The ferry is late."}, {"_id": "d2", "text": "Bells ring at noon."}],
        "queries.jsonl": [{"_id": "q1", "text": "ferry"}, {"_id": "q2", "text": "nobody judged this"}],
        "qrels/test.tsv": [("q1", "d1", 1)],
    }
    result = run_job({"beir": "own", "data": write_data("data", files)}, tiny_checkpoint, "e5")
    assert scores_of(result)["recall_at_100"] == 1.0
    assert result.audit.sides["query"].texts == 1


# Real weights on real data


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "task"),
    [("SciFact", {"mteb": "SciFact"}), ("Cranfield", {"local": "Cranfield", "type": "Retrieval"})],
)
def test_public_data_scores_equal_those_through_mteb(name, task, shared_data, run_job):
    data = shared_data / name
    through_beir = run_job({"beir": name.lower(), "data": data, "splits": ["test"]}, MINILM, "none")
    through_mteb = run_job({**task, "data": data, "splits": ["test"]}, MINILM, "none")
    assert scores_of(through_beir) == pytest.approx(scores_of(through_mteb), abs=1e-4)
    if name == "SciFact":
        assert scores_of(through_beir)["ndcg_at_10"] == pytest.approx(0.6451, abs=5e-4)  # MTEB's results repository


@pytest.mark.full
def test_default_of_beir_changes_cranfield(shared_data, run_job, make_config, load_encoder):
    """Its query ids 1 to 225 are ids of documents that have nothing to do with them."""
    data = shared_data / "Cranfield"
    ours = scores_of(run_job({"beir": "cranfield", "data": data}, MINILM, "none"))
    corpus, queries, qrels = GenericDataLoader(str(data)).load(split="test")
    assert set(queries) <= set(corpus)
    search = BeirSearch(embedder_of(make_config, load_encoder, data, MINILM, "none"), "test")
    _, _, default, _ = EvaluateRetrieval.evaluate(qrels, search.search(corpus, queries, 1000), list(CUTS))
    # measured: 78.83 and 78.94; none of these documents is among the first ten of its query
    assert default["Recall@100"] > ours["recall_at_100"] + 5e-4
