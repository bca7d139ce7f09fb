"""BM25 as a row: mteb's own model gives the same scores on the same data, and every candidate is scored."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from support.data import text, write_files
from support.mteb_cases import CASES, mteb_scores, same, stored_scores

from evaluation import load_config, run
from evaluation.adapters.bm25 import NOT_MTEBS, Bm25Ranker
from evaluation.config.task_config import LocalTask
from evaluation.errors import ConfigError, EncodingError
from evaluation.execution.runner import RunOptions
from evaluation.jobs import build_jobs
from evaluation.records.store import RunStore

mteb = pytest.importorskip("mteb")
pytestmark = pytest.mark.filterwarnings("ignore")  # mteb's own

DOCUMENTS = [
    {"_id": "cat", "text": "The cat sat on the mat."},
    {"_id": "dog", "text": "Dogs chase a ball in the park."},
    {"_id": "rain", "title": "Weather", "text": "It was raining in the park all day."},
]
QUERIES = [{"_id": "q1", "text": "a cat"}, {"_id": "q2", "text": "the weather in the park"}]
QRELS = [("q1", "cat", 1), ("q2", "rain", 1)]
SEARCH = {"corpus.jsonl": DOCUMENTS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}


def _config(folder: Path, task: dict[str, Any], files: dict[str, Any], **more: Any) -> Any:
    write_files(folder / "data", files)
    config = {
        "name": "words",
        "models": [{"label": "bm25", "model": "bm25"}, *more.pop("models", [])],
        "tasks": [{**task, "data": "data"}],
        "output": str(folder / "results"),
        **more,
    }
    file = folder / "words.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    return load_config(file)


def _record(config: Any) -> Any:
    outcome = run(config, RunOptions(models=("bm25",)))
    (record,) = outcome.records
    assert record.error is None, record.error
    return record


def test_ranks_by_the_words_that_match(tmp_path):
    config = _config(tmp_path, {"local": "Words", "type": "Retrieval"}, SEARCH)
    record = _record(config)
    assert record.main_score == 1.0
    sides = record.audit.sides
    assert record.audit.vectors is None
    assert {side.prefix for side in sides.values()} == {""}
    assert sides["passage"].examples[0] == "\nThe cat sat on the mat."  # as mteb joins title and text
    assert sides["passage"].tokens == 3 + 4 + 5  # cat sat mat; dog chase ball park; weather was rain park all day ...
    model = record.provenance.model
    assert model.words.languages == {"default": "stop words: en, stemmer: english"}
    assert "bm25s" in model.revision
    assert record.provenance.versions["PyStemmer"]
    assert run(config).n_executed == 0  # its fingerprint holds
    assert (RunStore(config.run_folder).job_folder("bm25", "Words", record.fingerprint) / "samples.parquet").is_file()


def test_the_language_of_own_data_decides_stop_words_and_stemmer_and_the_fingerprint(tmp_path):
    english = _record(_config(tmp_path / "en", {"local": "Words", "type": "Retrieval"}, SEARCH))
    task = {"local": "Words", "type": "Retrieval", "language": "deu"}
    german = _record(_config(tmp_path / "de", task, SEARCH))
    assert german.provenance.model.words.languages == {"default": "stop words: de, stemmer: german"}
    assert german.fingerprint != english.fingerprint


def test_scores_equal_mteb(tmp_path, text_pool):
    case = CASES["Retrieval"](text_pool)
    reference = case.reference
    reference.metadata = reference.metadata.model_copy(update={"eval_langs": ["eng-Latn"]})
    done = mteb.evaluate(mteb.get_model("mteb/baseline-bm25s"), reference, cache=None, show_progress_bar=False)
    expected = mteb_scores(done.task_results[0].scores)
    found = stored_scores(_record(_config(tmp_path, case.task, case.files)).scores)
    assert found.keys() == expected.keys()
    assert {key: (found[key], value) for key, value in expected.items() if not same(found[key], value)} == {}
    assert 0 < found[next(key for key in found if "ndcg_at_10" in str(key))] < 1


def test_every_candidate_is_scored_by_the_index_of_all_documents(tmp_path):
    candidates = [{"query-id": "q1", "corpus-ids": ["dog", "cat"]}, {"query-id": "q2", "corpus-ids": ["cat", "rain"]}]
    files = {**SEARCH, "top_ranked/test.jsonl": candidates}
    record = _record(_config(tmp_path, {"local": "Order", "type": "Reranking"}, files))
    assert record.main_score == 1.0
    assert NOT_MTEBS in record.warnings
    folder = RunStore(tmp_path / "results" / "words").job_folder("bm25", "Order", record.fingerprint)
    ranked = pq.read_table(folder / "run.parquet").to_pylist()
    assert [(row["query_id"], row["corpus_id"]) for row in ranked] == [
        ("q1", "cat"),
        ("q1", "dog"),
        ("q2", "rain"),
        ("q2", "cat"),
    ]
    assert ranked[1]["score"] == 0.0
    searched = _record(_config(tmp_path / "search", {"local": "Words", "type": "Retrieval"}, SEARCH))
    folder = RunStore(tmp_path / "search" / "results" / "words").job_folder("bm25", "Words", searched.fingerprint)
    found = {(row["query_id"], row["corpus_id"]): row for row in pq.read_table(folder / "run.parquet").to_pylist()}
    np.testing.assert_allclose(ranked[0]["score"], found["q1", "cat"]["score"])


def test_beir_gives_the_score_of_mteb(tmp_path):
    record = _record(_config(tmp_path, {"beir": "words"}, SEARCH))
    assert record.main_score == 1.0


def test_rows_that_only_rank_are_planned_on_what_they_rank_and_refused_where_there_is_none(tmp_path):
    """BM25 ranks documents or candidates; rescoring needs a corpus that is searched."""
    pairs = [{"sentence1": text(n), "sentence2": text(n + 1), "score": n % 5} for n in range(6)]
    again = {"as": "binary", "rescore": {"candidates": 40}}
    minilm = {"label": "minilm", "model": "builtin:all-MiniLM-L6-v2", "stored": [again]}
    config = _config(tmp_path, {"local": "Pairs", "type": "STS"}, {"test.jsonl": pairs}, models=[minilm])
    with pytest.raises(ConfigError) as found:
        build_jobs(config)
    bm25, rescored = found.value.problems
    assert bm25.endswith(
        "words.yaml, line 1: bm25 scores only tasks of types InstructionReranking, InstructionRetrieval, Reranking, "
        "Retrieval; the config has none: add one, or remove this row."
    )
    assert "minilm@binary,rescore=int8x40 scores only tasks of types InstructionRetrieval, Retrieval; " in rescored
    write_files(tmp_path / "search", SEARCH)
    search = LocalTask(local="Words", type="Retrieval", data="search")
    both = config.model_copy(update={"tasks": (*config.tasks, search)})
    assert [job.name for job in build_jobs(both)] == [
        "bm25 on Words",
        "minilm on Pairs",
        "minilm on Words",
        "minilm@binary,rescore=int8x40 on Words",
    ]
    with pytest.raises(ConfigError, match=r"no task of bm25 matches Pairs \(tasks: Words\)"):
        build_jobs(both, only=["Pairs"], models=["bm25"])


@pytest.fixture
def ranked(tmp_path):
    """A function: language, documents and queries -> the ranker that has ranked them."""
    (job,) = build_jobs(_config(tmp_path, {"local": "Words", "type": "Retrieval"}, SEARCH))

    def rank(language: str, documents: list[str], queries: list[str]) -> Bm25Ranker:
        ranker = Bm25Ranker(job)
        ranker._language = language
        where = {"task_metadata": SimpleNamespace(eval_langs=[]), "hf_split": "test", "hf_subset": "default"}
        ranker.index([{"id": str(at), "text": document} for at, document in enumerate(documents)], **where)
        asked = Dataset.from_dict({"id": [f"q{at}" for at in range(len(queries))], "text": queries})
        ranker.search(asked, **where, top_k=10, encode_kwargs={})
        return ranker

    return rank


def test_queries_without_a_match_and_those_whose_documents_tie_are_warnings(ranked):
    found = ranked("eng", ["cats dogs", "dogs cats", "dogs cats dogs"], ["the", "zebra", "", "cats", "dogs"])
    assert (
        "3 of 5 queries share no word with any ranked document: all their scores are 0, and ids decide the order."
        in (found.warnings)
    )
    assert not [warning for warning in found.warnings if "tie" in warning]
    found = ranked("eng", ["cats dogs", "dogs cats"], ["cats", "zebra"])
    assert [warning for warning in found.warnings if "documents tie for 1 of 1 queries" in warning]
    assert ranked("eng", ["cats", "dogs"], ["cats"]).warnings == []


@pytest.mark.parametrize(("language", "documents"), [("eng", ["the", "of a", ""]), ("fin", ["koira", "koira"])])
def test_a_corpus_without_words_is_a_sentence(ranked, language, documents):
    """Finnish has no list of stop words: what 90 % of the documents hold is one."""
    with pytest.raises(EncodingError, match="no document has a word left after stop words and stemming; check the"):
        ranked(language, documents, ["cat"])


def test_a_missing_package_is_a_config_error(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.jobs.installed_bm25", lambda: None)
    with pytest.raises(ConfigError, match=r"pip install 'e5-evaluation\[bm25\]'"):
        build_jobs(_config(tmp_path, {"local": "Words", "type": "Retrieval"}, SEARCH))


def test_options_of_vectors_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="bm25 ranks by words, so pooling can't be set"):
        _config(
            tmp_path,
            {"local": "Words", "type": "Retrieval"},
            SEARCH,
            models=[{"label": "other", "model": "bm25", "pooling": "cls"}],
        )


def test_a_conversation_is_ranked_by_the_words_of_all_its_turns(tmp_path):
    """mteb's BM25 can't read one; here turns are joined as mteb joins them for other models."""
    (job,) = build_jobs(_config(tmp_path, {"local": "Words", "type": "Retrieval"}, SEARCH))
    ranker = Bm25Ranker(job)
    where = {"task_metadata": SimpleNamespace(eval_langs=["eng-Latn"]), "hf_split": "test", "hf_subset": "default"}
    ranker.index([{"id": row["_id"], **row} for row in DOCUMENTS], **where)
    turns = [{"role": "user", "content": "is it raining"}, {"role": "assistant", "content": "where is the dog"}]
    joined = "user: is it raining; assistant: where is the dog"
    found = [
        ranker.search(Dataset.from_dict({"id": ["q"], "text": [text]}), **where, top_k=3, encode_kwargs={})["q"]
        for text in (turns, joined, "is it raining")
    ]
    assert found[0] == found[1]
    assert [document for document in ("cat", "dog", "rain") if found[0][document] > 0] == ["dog", "rain"]
    assert found[2]["dog"] == 0.0
    assert ranker.query_texts["test", "default"] == {"q": "is it raining"}


def test_ray_is_refused(tmp_path):
    config = _config(tmp_path, {"local": "Words", "type": "Retrieval"}, SEARCH, runtime={"executor": "ray"})
    with pytest.raises(ConfigError) as found:
        build_jobs(config)
    (sentence,) = found.value.problems
    assert sentence.endswith(
        "model bm25 runs in this process, not under runtime.executor: ray; give it a config of its own with "
        "executor: local."
    )
