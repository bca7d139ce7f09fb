"""Queries on which two models differ most, from a run whose order is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.fake_runs import query_record

from evaluation.analysis.report.wins import Duel, ScoredTask, duel, scored_task, shorten
from evaluation.analysis.statistics.units import load_units
from evaluation.errors import DamagedFileError
from evaluation.records.store import RunStore

RANKINGS = {"first": ["d1", "d2", "d3", "d4"], "second": ["d4", "d3", "d2", "d1"]}
SCORES: Mapping[str, list[float]] = {"first": [1.0, 0.5, 0.2, 0.4], "second": [0.1, 0.5, 0.9, 0.3]}


def write(folder: Path, label: str, *, texts: bool = True, qrels: bool = True) -> ScoredTask:
    queries = [f"q{number}" for number in range(4)]
    record = query_record(label, "Harbours", SCORES[label])

    def table(n: int, **columns: Any) -> pa.Table:
        return pa.table({"split": ["test"] * n, "subset": ["default"] * n, **columns})

    rows = [(query, document, rank) for query in queries for rank, document in enumerate(RANKINGS[label], 1)]
    tables = {
        "samples": table(4, query_id=queries, ndcg_cut_10=SCORES[label]),
        "run": table(
            16,
            query_id=[row[0] for row in rows],
            corpus_id=[row[1] for row in rows],
            rank=pa.array([row[2] for row in rows], pa.int32()),
        ),
    }
    if texts:
        ids = [*queries, "d1", "d2", "d3", "d4", "d9"]
        kinds = ["query"] * 4 + ["document"] * 5
        tables["texts"] = table(9, kind=kinds, id=ids, text=[f"text of {name}" for name in ids])
    if qrels:
        tables["qrels"] = table(
            3, query_id=["q0", "q0", "q0"], corpus_id=["d1", "d9", "d2"], relevance=pa.array([1, 2, 0], pa.int32())
        )
    store = RunStore(folder)
    saved = store.save(record, tables)
    units = load_units(store.job_folder(label, saved.task, saved.fingerprint), saved)
    scored = scored_task(folder, label, saved, units)
    assert scored is not None
    return scored


def fight(folder: Path, **options: Any) -> Duel:
    return duel(write(folder, "first", **options), write(folder, "second", **options))


def test_counts_and_order(tmp_path: Path) -> None:
    found = fight(tmp_path)
    assert (found.n_first, found.n_second, found.n_even) == (2, 1, 1)
    assert [case.query_id for case in found.wins] == ["q0", "q3"]
    assert [case.query_id for case in found.losses] == ["q2"]
    assert found.wins[0].delta == pytest.approx(90)
    assert found.losses[0].delta == pytest.approx(-70)


def test_each_model_shows_what_it_found(tmp_path: Path) -> None:
    case = fight(tmp_path).wins[0]
    assert case.query == "text of q0"
    assert [passage.id for passage in case.first_top] == ["d1", "d2", "d3"]
    assert [passage.id for passage in case.second_top] == ["d4", "d3", "d2"]
    assert [passage.relevance for passage in case.first_top] == [1, 0, None]
    assert case.first_top[0].text == "text of d1"


def test_relevant_documents_are_shown_with_their_ranks_best_first(tmp_path: Path) -> None:
    case = fight(tmp_path).wins[0]
    assert [(one.id, one.rank, two.rank) for one, two in case.relevant] == [("d9", None, None), ("d1", 1, 4)]
    assert case.relevant[0][0].text == "text of d9"


def test_missing_texts_are_said_to_be_missing(tmp_path: Path) -> None:
    found = fight(tmp_path, texts=False)
    assert "store_texts: false" in found.missing
    assert (found.wins, found.losses) == ((), ())
    assert found.n_first == 2


def test_missing_judgements_are_not_taken_for_irrelevance(tmp_path: Path) -> None:
    found = fight(tmp_path, qrels=False)
    assert not found.judged
    assert found.wins[0].first_top[0].relevance is None
    assert found.wins[0].relevant == ()


@pytest.mark.parametrize("name", ["texts", "run", "qrels"])
def test_file_that_is_not_what_its_job_stored_is_named(tmp_path: Path, name: str) -> None:
    first, second = write(tmp_path, "first"), write(tmp_path, "second")
    file = first.folder / f"{name}.parquet"
    pq.write_table(pq.read_table(file).slice(0, 1), file)
    with pytest.raises(DamagedFileError, match=rf"{name}\.parquet is damaged"):
        duel(first, second)


def test_fewer_queries_on_request(tmp_path: Path) -> None:
    first, second = write(tmp_path, "first"), write(tmp_path, "second")
    assert [case.query_id for case in duel(first, second, n_queries=1).wins] == ["q0"]


def test_shorten_keeps_short_texts() -> None:
    assert shorten("harbour", 7) == "harbour"
    assert shorten("harbour light", 9) == "harbour…"
