"""How to cite a score: one line per model, with nothing left out that a reader needs to score it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fake_runs import FakeJob, job_record, write_run

from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.comparison.summaries import benchmark_tasks
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.tables.citations import citations
from evaluation.errors import ComparisonError
from evaluation.records.origin import Checkout

VERSIONS = {"python": "3.11.7", "e5-evaluation": "0.1.0", "mteb": "2.26.24", "scikit-learn": "1.9.1", "torch": "2.13.0"}
MODEL = {"name": "intfloat/e5-base", "revision": "0123456789abcdef0123"}


def cited(folder: Path, *jobs: Any, **options: Any) -> str:
    run = write_run(folder / "suite", [FakeJob(record, None) for record in jobs])
    return citations(compare(run, mixed=True, options=ComparisonOptions(**options)))


def record(task: str, score: float | None = 0.5, label: str = "E5-base", **changes: Any) -> Any:
    fields = {"model": MODEL, "versions": VERSIONS, "source": Checkout(commit="fedcba98765432100000"), **changes}
    return job_record(label, task, score, **fields)


def test_a_single_task_is_cited_with_its_metric_and_data(tmp_path: Path) -> None:
    dataset = {"name": "mteb/scifact", "revision": "aaaabbbbccccdddd"}
    assert cited(tmp_path, record("SciFact", 0.6616, dataset=dataset)) == (
        "E5-base: intfloat/e5-base at revision 0123456789ab, protocol e5; ndcg_at_10 66.16 on SciFact, data "
        "aaaabbbbcccc; float32, mean pooling, at most 512 tokens; e5-evaluation 0.1.0 (commit fedcba987654), mteb "
        "2.26.24, scikit-learn 1.9.1.\n"
    )


def test_many_tasks_are_cited_by_their_mean_and_their_names(tmp_path: Path) -> None:
    scores = {"SciFact": 0.5, "NFCorpus": 0.25, "ArguAna": 0.75, "FiQA2018": 0.3}
    line = cited(tmp_path, *(record(task, score) for task, score in scores.items()))
    assert "; mean 45.00 over 4 tasks: SciFact, NFCorpus, ArguAna, FiQA2018; " in line


def test_tasks_of_a_benchmark_that_have_no_score_are_named(tmp_path: Path) -> None:
    names = sorted(benchmark_tasks("MTEB(eng, v2)"))
    line = cited(tmp_path, *(record(task, 0.5) for task in names[:-1]), benchmark="MTEB(eng, v2)")
    assert "mean 50.00 over the 41 tasks of MTEB(eng, v2) without " in line and names[-1] in line


def test_every_model_gets_a_line_and_protocols_of_ones_own_say_where_they_are_defined(tmp_path: Path) -> None:
    lines = cited(tmp_path, record("SciFact"), record("SciFact", label="mine", protocol="no-title")).splitlines()
    assert [line.split(":")[0] for line in lines] == ["E5-base", "mine"]
    assert "protocol e5; " in lines[0] and "protocol no-title (defined in suite's config); " in lines[1]


def test_versions_that_differ_between_jobs_are_all_named(tmp_path: Path) -> None:
    other = record("NFCorpus", versions={**VERSIONS, "mteb": "2.26.25"})
    assert "mteb 2.26.24 and 2.26.25, " in cited(tmp_path, record("SciFact"), other)


def test_published_scores_are_cited_as_others_scores(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "model,source,revision,protocol,task,task_type,split,subset,metric,main_score\n"
        "org/a,paper,,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.5\n",
        encoding="utf-8",
    )
    line = citations(compare(tmp_path / "t.csv"))
    assert line == "a paper: org/a, protocol e5; ndcg_at_10 50.00 on SciFact; published by others, not scored here.\n"


@pytest.mark.parametrize(
    ("stored", "type_", "words"),
    [
        ("binary", "Retrieval", "1 bit per dimension (binary, scored as +1 and -1), queries in float32"),
        ("float16", "STS", "16-bit numbers (float16)"),
        (
            "dims=256,int8,queries",
            "Retrieval",
            "the first 256 dimensions, normalised again where the protocol normalises, as 8-bit numbers (int8), 255 "
            "steps between the lowest and highest value of each dimension, queries stored in the same form",
        ),
        (
            "pca=64",
            "STS",
            "the first 64 principal components of the documents, centred on both sides and normalised again where the "
            "protocol normalises, as 32-bit numbers",
        ),
        (
            "binary,center,rescore=int8x40",
            "Retrieval",
            "1 bit per dimension (binary, scored as +1 and -1), after subtracting the documents' mean from both sides, "
            "the best 40 documents ordered again by int8, queries in float32",
        ),
    ],
)
def test_a_stored_form_is_cited_in_words(tmp_path: Path, stored: str, type_: str, words: str) -> None:
    line = cited(tmp_path, record("SciFact", label=f"E5-base@{stored}", stored=stored, type=type_))
    assert f"; float32, mean pooling, at most 512 tokens; vectors stored as {words}; e5-evaluation" in line


def test_a_dimension_that_the_config_cut_is_cited(tmp_path: Path) -> None:
    assert "at most 512 tokens, first 64 dimensions; " in cited(tmp_path, record("A", settings={"truncate_dim": 64}))


def test_bm25_is_cited_with_all_that_decides_its_scores(tmp_path: Path) -> None:
    words = {"method": "lucene", "k1": 1.5, "b": 0.75, "languages": {"default": "stop words: en, stemmer: english"}}
    german = {**words, "languages": {"deu": "stop words: de, stemmer: german"}}
    model = {
        "name": "mteb/baseline-bm25s",
        "revision": "bm25s 0.3.16, PyStemmer 3.1.0",
        "words": words,
    }
    jobs = [
        record("SciFact", 0.6863, label="BM25", protocol="none", model=model),
        record("Order", 0.5, label="BM25", protocol="none", model={**model, "words": german}, type="Reranking"),
    ]
    lucene = "lucene variant, k1 1.5, b 0.75"
    line = cited(tmp_path, *jobs)
    assert line.startswith(
        "BM25: mteb/baseline-bm25s with bm25s 0.3.16, PyStemmer 3.1.0, no prefix applies; ndcg_at_10"
    )
    assert (
        f"; {lucene}, stop words: en, stemmer: english on SciFact; {lucene}, stop words: de, stemmer: german on "
        "Order (deu); not mteb's score, because every candidate was ranked: Order; e5-evaluation"
    ) in line
    (alone,) = cited(tmp_path / "alone", jobs[0]).splitlines()
    assert f"; {lucene}, stop words: en, stemmer: english; e5-evaluation" in alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": {"queries": 5}}, "E5-base comes from a limited run, whose scores must not be cited"),
        ({"score": None}, "E5-base has no score to cite"),
    ],
)
def test_scores_that_must_not_be_cited_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        cited(tmp_path, record("SciFact", **changes))
