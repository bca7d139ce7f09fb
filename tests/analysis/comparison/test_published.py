"""Published scores beside ours: verdicts and likely causes; the tables that ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_runs import query_record

from evaluation.analysis.comparison.columns import read_columns
from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.comparison.published import PublishedMatch, PublishedScores, load_published
from evaluation.analysis.comparison.published_tables import PublishedScore, read_published
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.statistics.intervals import Interval
from evaluation.analysis.tables.comparison_table import comparison_tables
from evaluation.analysis.task_scores import ScoredJob, TaskScore
from evaluation.errors import ComparisonError
from evaluation.records.job_record import JobRecord
from evaluation.tasks.index import load_index

REPOSITORY = Path(__file__).parents[3]
MODEL = "intfloat/e5-base"
CARD = PublishedScore(
    MODEL, "model card", "external", "e5", "SciFact", "Retrieval", "test", "default", "ndcg_at_10", 60.0
)
PUBLISHED = ComparisonOptions(published=True, intervals=False)
HEADER = "model,source,revision,protocol,task,task_type,split,subset,metric,main_score\n"
Write = Callable[..., Path]


def task_of(record: JobRecord, score: float) -> TaskScore:
    """A score as if its job had given exactly this."""
    job = ScoredJob(record.label, record.task, record.type, record.metric, None, score, "", {}, record=record)
    return TaskScore(record.task, (job,))


def match(ours: float, row: PublishedScore = CARD, interval: Interval | None = None, **changes: Any) -> PublishedMatch:
    """Ours on SciFact, with mteb's revision of the data unless said otherwise, beside a published score."""
    pinned = {"dataset_revision": load_index().task("SciFact").revision}
    record = query_record("a", changes.pop("task", "SciFact"), [ours / 100], **{"model": MODEL, **pinned, **changes})
    result = task_of(record, ours / 100)
    assert record.provenance.model is not None
    (found,) = PublishedScores([row]).matches(record.provenance.model.name, record.protocol, result, interval)
    return found


def test_verdict_needs_tolerance_and_interval() -> None:
    assert (match(60.5).verdict, match(60.5).delta) == ("reproduced", pytest.approx(0.5))
    assert match(60.6).verdict == "differs"
    assert match(60.4, interval=Interval(59.9, 61.0, "BCa")).verdict == "reproduced"
    assert match(60.4, interval=Interval(60.1, 61.0, "BCa")).verdict == "differs"
    assert match(62.0, interval=Interval(50.0, 70.0, "BCa")).verdict == "differs"
    assert match(60.2).causes == ()


def test_a_limited_run_reproduces_nothing() -> None:
    assert match(60.0).verdict == "reproduced"
    assert match(60.0, limit={"queries": 3}).verdict == "differs"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"prefix": ""}, "prefix: theirs on the query side is 'query: ', ours ''"),
        ({"metric": "map_at_10"}, "metric: theirs is ndcg_at_10, ours map_at_10"),
        ({"dataset_revision": "abc"}, "dataset revision: ours is abc, mteb pins "),
        ({"dataset_revision": "local-123"}, "dataset: ours is a local copy, whose revision can't be checked"),
        ({"limit": {"queries": 3}}, "limit: ours is a limited run"),
        ({"splits": ("dev",)}, "split: theirs is test (default), ours dev (default)"),
    ],
)
def test_likely_causes_are_read_from_the_record(changes: dict[str, Any], cause: str) -> None:
    (found,) = match(70.0, **changes).causes
    assert found.startswith(cause)


def test_a_difference_without_visible_cause_names_none() -> None:
    assert match(70.0).causes == ()


def test_four_bit_weights_are_a_cause() -> None:
    row = CARD.__class__(
        **{f: getattr(CARD, f) for f in CARD.__dataclass_fields__} | {"model": "intfloat/multilingual-e5-small"}
    )
    assert match(70.0, row, model="builtin/multilingual-e5-small-q4").causes == ("weights: ours are rounded to 4 bits",)


def test_normalisation_is_a_cause_where_it_moves_scores() -> None:
    row = PublishedScore(
        MODEL, "card", "", "e5", "Banking77Classification", "Classification", "test", "default", "accuracy", 60.0
    )
    revision = load_index().task("Banking77Classification").revision
    kind = {"type": "Classification", "metric": "accuracy", "task": row.task, "dataset_revision": revision}
    assert match(70.0, row, **kind, normalize=True).causes == ("normalisation: their vectors are raw, ours normalised",)
    assert match(70.0, row, **kind, normalize=False).causes == ()


def test_truncation_and_precision_are_causes() -> None:
    settings = {"max_length": 128, "dtype": "bfloat16"}
    pinned = {"model": MODEL, "dataset_revision": load_index().task("SciFact").revision}
    record = query_record("a", "SciFact", [0.7], truncated=3, settings=settings, **pinned)
    result = task_of(record, 0.7)
    (found,) = PublishedScores([CARD]).matches(MODEL, "e5", result, None)
    assert found.causes == ("truncation: ours at 128 tokens, theirs at 512", "precision: ours is bfloat16")


def test_a_rerun_by_mteb_differs_from_e5_in_prefix_and_normalisation() -> None:
    """Real scores: multilingual-e5-small on Banking77 has 79.42 on its card and 70.64 in MTEB's repository."""
    task = "Banking77Classification"
    record = query_record(
        "a",
        task,
        [0.7944],
        model="intfloat/multilingual-e5-small",
        type="Classification",
        metric="accuracy",
        normalize=False,
        side="text",
        dataset_revision=load_index().task(task).revision,
    )
    result = task_of(record, 0.7944)
    card, mteb = load_published().matches("intfloat/multilingual-e5-small", "e5", result, None)
    assert (card.protocol, card.verdict, round(card.score, 2), card.causes) == ("e5", "reproduced", 79.42, ())
    assert (mteb.protocol, mteb.verdict, round(mteb.score, 2)) == ("mteb", "differs", 70.64)
    assert mteb.causes == (
        "prefix: theirs on the text side is '', ours 'query: '",
        "normalisation: their vectors are normalised, ours raw",
    )


def test_published_scores_stand_beside_ours_in_a_comparison(query_run: Write) -> None:
    run = query_run("r", {"a": {"SciFact": [0.73], "Own": [0.5]}}, model="intfloat/e5-base")
    comparison = compare(run, options=PUBLISHED)
    (found,) = comparison.rows[0].cells[0].published
    assert (round(found.score, 2), found.source, found.verdict) == (73.08, "model card (self-reported)", "reproduced")
    assert comparison.rows[1].cells[0].published == ()
    table = comparison_tables(comparison)[1]
    assert "1 of 1 are" in table.notes[0]


def test_tasks_through_beir_are_found_under_mtebs_name(query_run: Write) -> None:
    run = query_run("r", {"a": {"beir-scifact": [0.73]}}, model="intfloat/e5-base")
    assert len(compare(run, options=PUBLISHED).rows[0].cells[0].published) == 1


@pytest.mark.parametrize(("size", "average"), [("small", 40.8), ("base", 42.9), ("large", 44.2)])
def test_average_over_beir_stands_beside_the_mean_of_all_15(query_run: Write, size: str, average: float) -> None:
    tasks = {task.name: [average / 100] for task in load_index().benchmark("BEIR")}
    model = f"intfloat/e5-{size}-unsupervised"
    comparison = compare(query_run("r", {"a": tasks}, model=model), options=PUBLISHED)
    assert comparison.benchmark == "BEIR"
    mean = next(aggregate for aggregate in comparison.aggregates if aggregate.kind == "mean")
    (found,) = mean.cells[0].published
    assert (found.score, found.verdict) == (pytest.approx(average), "reproduced")
    assert "unilm" in found.source
    tasks.popitem()
    part = compare(query_run("s", {"a": tasks}, model=model), options=PUBLISHED)
    assert not any(cell.published for aggregate in part.aggregates for cell in aggregate.cells)


# ------------------------------------------------------------------------------------------------------------- tables


def test_tables_that_ship_have_a_source_a_row_and_known_tasks() -> None:
    index = load_index()
    rows = load_published().rows
    assert len(rows) == 1362
    assert all(row.source and row.protocol in ("e5", "mteb", "authors") for row in rows)
    assert [row.task for row in rows if row.task not in index and row.task not in index.benchmark_names] == []
    places = [(row.model, row.protocol, row.task, row.split, row.subset) for row in rows]
    assert len(set(places)) == len(places)


def test_published_tables_are_compared_alone() -> None:
    options = ComparisonOptions(published=True, models=("e5-large-v2 card", "e5-base card"), benchmark="MTEB(eng, v1)")
    comparison = compare([], options=options)
    mean = {aggregate.kind: aggregate for aggregate in comparison.aggregates}["mean"]
    # The two means on MTEB's first leaderboard.
    assert [round(cell.value or 0, 2) for cell in mean.cells] == [62.25, 60.44]
    assert all(column.is_published and column.speed is None for column in comparison.columns)
    assert not any(cell.interval for row in comparison.rows for cell in row.cells)


def test_a_published_table_can_be_named_like_a_run() -> None:
    models = read_columns([REPOSITORY / "results" / "published" / "mteb_scores.csv"])
    assert {model.run for model in models} == {"mteb_scores"}
    assert "all-MiniLM-L6-v2 MTEB" in {model.label for model in models}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "it has no column model"),
        (
            HEADER + "m,,r,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.5\n",
            "line 2: a published score needs a source",
        ),
        (HEADER + "m,s,r,e5,SciFact,Retrieval,test,default,ndcg_at_10,67.7\n", "needs a main_score from -1 to 1"),
        (HEADER + "m,s,r,e5,SciFact,Retrieval,test,default,ndcg_at_10,\n", "needs a main_score"),
        (HEADER + "m,s\n", "line 2"),
        ("\udcff", "can't be read"),
    ],
)
def test_broken_tables_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ComparisonError, match=message):
        read_published([file])
