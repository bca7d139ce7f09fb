"""Every task type under protocol `mteb`: our loader, encoder and search give what mteb alone gives on the same data.

The other side of each comparison is mteb.evaluate with mteb's own sentence-transformers wrapper.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

mteb = pytest.importorskip("mteb")

from support.mteb_cases import CASES, Case, local_task, mteb_scores, same, stored_scores  # noqa: E402

from evaluation import run  # noqa: E402
from evaluation.adapters import mteb_tables  # noqa: E402
from evaluation.errors import ConfigError  # noqa: E402

PROMPTS = {"query": "query: ", "document": "passage: "}  # mteb 2.26, model_implementations/e5_models.py
MINILM = "builtin:all-MiniLM-L6-v2"


@cache
def _mteb_model(folder: str) -> Any:
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    return SentenceTransformerEncoderWrapper(folder, device="cpu", model_prompts=PROMPTS)


def _reference_scores(case: Case, folder: Path) -> dict[str, Any]:
    done = mteb.evaluate(_mteb_model(str(folder)), case.reference, cache=None, show_progress_bar=False)
    return mteb_scores(done.task_results[0].scores)


def _assert_parity(case: Case, folder: Path, write_data, run_job, model: Path | str) -> None:
    ours = run_job({**case.task, "data": write_data("data", case.files)}, model, "mteb")
    found, expected = stored_scores(ours.scores), _reference_scores(case, folder)
    assert found.keys() == expected.keys()
    different = {key: (found[key], value) for key, value in expected.items() if not same(found[key], value)}
    assert different == {}, "path: (ours, mteb's)"
    assert sum(isinstance(value, float) for value in expected.values()) >= 4


pytestmark = [
    pytest.mark.usefixtures("single_thread"),
    pytest.mark.filterwarnings("ignore"),  # mteb's and sklearn's own, about labels and prompts
]


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_mteb(name, text_pool, tiny_checkpoint, write_data, run_job):
    _assert_parity(CASES[name](text_pool), tiny_checkpoint, write_data, run_job, tiny_checkpoint)


@pytest.mark.parametrize("name", ["Retrieval", "STS", "Classification", "PairClassification", "Clustering"])
def test_scores_equal_mteb_without_a_normalize_module(name, text_pool, raw_checkpoint, write_data, run_job):
    _assert_parity(CASES[name](text_pool), raw_checkpoint, write_data, run_job, raw_checkpoint)


COMPARED = ["Retrieval", "Reranking", "STS", "PairClassification", "Summarization", "BitextMining"]


@pytest.mark.parametrize("name", COMPARED)
def test_scores_equal_mteb_with_dot_product(name, text_pool, dot_checkpoint, write_data, run_job):
    _assert_parity(CASES[name](text_pool), dot_checkpoint, write_data, run_job, dot_checkpoint)


def test_comparison_notices_a_missing_prefix(text_pool, tiny_checkpoint, write_data, run_job):
    case = CASES["Retrieval"](text_pool)
    bare = stored_scores(run_job({**case.task, "data": write_data("data", case.files)}, tiny_checkpoint, "none").scores)
    main_score = "/test/default/main_score"
    assert not same(bare[main_score], _reference_scores(case, tiny_checkpoint)[main_score])


def test_corpus_in_many_blocks_gives_the_same_ranking(text_pool, tiny_checkpoint, write_data, run_job, monkeypatch):
    case = CASES["Retrieval"](text_pool)
    task = {**case.task, "data": write_data("data", case.files)}
    whole = run_job(task, tiny_checkpoint, "mteb")
    monkeypatch.setattr(mteb_tables, "CORPUS_BLOCK", 16)
    in_blocks = run_job(task, tiny_checkpoint, "mteb")
    assert in_blocks.audit.sides["passage"].texts == whole.audit.sides["passage"].texts == 150
    found, expected = stored_scores(in_blocks.scores), stored_scores(whole.scores)
    assert {key: (found[key], value) for key, value in expected.items() if not same(found[key], value)} == {}


def test_clustering_label_that_mteb_leaves_out_is_refused_or_counted(make_config, tiny_checkpoint, write_data):
    """The integer -1 stands for "no label at this level" in mteb: rows with it are not scored."""
    rows = [{"text": f"tree {row}", "label": row % 3 - 1} for row in range(60)]
    options = {"max_documents_per_cluster": 60, "n_clusters": 1}
    task = local_task("Clustering", data=write_data("data", {"test.jsonl": rows}), options=options)
    try:
        (record,) = run(make_config([task], tiny_checkpoint, "mteb")).records
    except ConfigError as error:
        assert "-1" in str(error)
    else:
        assert record.state == "failed" or record.counts or record.warnings


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_scores_equal_mteb_with_real_weights(name, text_pool, wordpiece_tokenizer, write_data, run_job):
    _assert_parity(CASES[name](text_pool), wordpiece_tokenizer.parent, write_data, run_job, MINILM)


@pytest.mark.parametrize("name", CASES)
def test_fixtures_hold_at_least_a_hundred_examples(name, text_pool):
    scored = [rows for file, rows in CASES[name](text_pool).files.items() if Path(file).stem in {"test", "queries"}]
    assert max(sum(len(row.get("sentences", "1")) for row in rows if isinstance(row, dict)) for rows in scored) >= 100
