"""Runs set beside each other: what is compared, what is refused, what is marked, what is said."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.fake_runs import query_record
from support.record_parts import job_audit, manifest, timing

from evaluation import compare, results_frame
from evaluation.analysis.comparison import evidence, standings
from evaluation.analysis.comparison.types import Comparison, ComparisonOptions
from evaluation.analysis.frame import COLUMNS
from evaluation.analysis.gate.snapshots import read_run
from evaluation.analysis.statistics.paired_tests import score_interval
from evaluation.analysis.statistics.sample_reading import SampleReader
from evaluation.analysis.statistics.units import Units, aggregate_units, load_units
from evaluation.errors import ComparisonError, DamagedFileError
from evaluation.protocols import TaskRules
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore
from evaluation.system import forked_map
from evaluation.system.atomic_files import write_sealed_json

HIGH, LOW = [0.9] * 30 + [0.7] * 10, [0.5] * 30 + [0.4] * 10
BARE = ComparisonOptions(intervals=False)
Write = Callable[..., Path]


def scores(comparison: Comparison) -> dict[str, list[float | None]]:
    return {row.task: [None if c.score is None else round(c.score, 4) for c in row.cells] for row in comparison.rows}


# ------------------------------------------------------------------------------------------------------------ numbers


def test_scores_deltas_and_means_by_hand(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": [0.5, 0.7], "T2": [0.1, 0.3]}, "b": {"T1": [0.4, 0.4], "T2": [0.5, 0.5]}})
    comparison = compare(run, baseline="b", options=BARE)
    assert scores(comparison) == {"T1": [60.0, 40.0], "T2": [20.0, 50.0]}
    assert [[c.delta for c in row.cells] for row in comparison.rows] == [
        [pytest.approx(20), None],
        [pytest.approx(-30), None],
    ]
    mean, ranks = comparison.aggregates
    assert (mean.kind, [round(cell.value or 0, 4) for cell in mean.cells]) == ("mean", [40.0, 45.0])
    assert [cell.delta for cell in mean.cells] == [pytest.approx(-5), None]
    assert (ranks.kind, [cell.value for cell in ranks.cells]) == ("borda", [1, 1])


def test_differences_of_stored_samples_are_tested_and_adjusted(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": HIGH, "T2": LOW}, "b": {"T1": LOW, "T2": LOW}})
    comparison = compare(run, baseline="b")
    clear, nothing = (row.cells[0] for row in comparison.rows)
    assert clear.significant and clear.p_adjusted is not None and clear.p_adjusted < 0.01
    assert clear.difference is not None and clear.difference.interval is not None
    assert clear.difference.interval.low <= 37.5 <= clear.difference.interval.high  # (30 * 0.4 + 10 * 0.3) / 40
    assert clear.interval is not None and clear.interval.low <= 85 <= clear.interval.high
    assert not nothing.significant and nothing.p_adjusted == 1
    assert comparison.rows[0].cells[1].difference is None
    suite = comparison.aggregates[0].cells[0].difference
    assert suite is not None and (suite.value, suite.n_tasks) == (pytest.approx(18.75), 2)
    assert any(note.startswith("a - b on these 2 tasks with samples: +18.75") for note in comparison.notes)
    assert any(note.startswith("Significant: paired test against b") for note in comparison.notes)
    equal = compare(run, baseline="b", options=ComparisonOptions(only=("T2",)))
    assert any(note.startswith("No difference is significant: paired test against b") for note in equal.notes)


def test_all_pairs_of_models_are_tested_under_one_correction(query_run: Write) -> None:
    """Three models: two alike, one far better; `a - b` alone would be tested at 0.05, here over three pairs."""
    rng = np.random.default_rng(0)
    base = [np.round(rng.uniform(0.2, 0.6, 40), 2) for _ in range(2)]
    scores = {
        "a": {f"T{at}": np.round(own + 0.3, 2).tolist() for at, own in enumerate(base)},
        "b": {f"T{at}": own.tolist() for at, own in enumerate(base)},
        "c": {f"T{at}": np.round(own + rng.normal(0, 0.1, 40), 2).tolist() for at, own in enumerate(base)},
    }
    comparison = compare(query_run("r", scores))
    found = comparison.standings
    assert found is not None and found.models[0].label == "a" and found.n_tasks == 2
    assert found.models[0].ranks == (1, 1) and [one.ranks for one in found.models[1:]] == [(2, 3), (2, 3)]
    assert {frozenset(group) for group in found.groups} == {frozenset("bc")}
    pair = found.pair("c", "b")
    assert pair is not None and pair.difference.p_two_sided is not None and pair.p >= pair.difference.p_two_sided
    assert any(note.startswith("Not separated by their means: ") for note in comparison.notes)
    assert any(note.startswith("Ranks that these tests leave possible: a 1 by the mean") for note in comparison.notes)


def test_pairs_that_are_tested_in_several_blocks_have_the_same_numbers(
    query_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    scores = {label: {task: rng.uniform(0, 1, 40).round(2).tolist() for task in ("T1", "T2")} for label in "abcd"}
    run = query_run("r", scores)
    at_once = compare(run).standings
    monkeypatch.setattr(standings, "_MOST_NUMBERS", 4 * 80)  # four of the six pairs, then two
    assert compare(run).standings == at_once is not None


def test_disagreement_of_mean_and_borda_is_said(query_run: Write) -> None:
    """One model wins one task by far, the other two tasks by little."""
    high, low, some = [0.9] * 12, [0.2] * 12, [0.3] * 12
    scores = {"far": {"T1": high, "T2": low, "T3": low}, "often": {"T1": low, "T2": some, "T3": some}}
    notes = compare(query_run("r", scores)).notes
    (said,) = [note for note in notes if note.startswith("Mean and Borda count disagree")]
    assert "far has the highest mean, but often has the most Borda points" in said


def test_frame_is_long_and_holds_every_metric(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": [0.5, 0.7]}, "b": {"T1": None}})
    frame = results_frame(run, run, all_metrics=True)
    assert list(frame.columns) == COLUMNS
    assert (
        list(zip(frame["metric"], frame["value"].round(6), frame["run"], strict=True))
        == [
            ("ndcg_at_10", 60.0, "r"),
            ("map_at_10", 30.0, "r"),
        ]
        * 2
    )
    assert results_frame(run)["metric"].tolist() == ["ndcg_at_10"]
    assert isinstance(frame, pd.DataFrame)


# ------------------------------------------------------------------------------------------------- missing and failed


def test_samples_that_were_never_stored_cost_the_interval_and_are_said(write_run: Write) -> None:
    write_run("r", [(query_record("a", "T1", HIGH), HIGH)], samples=False)
    run = write_run("r", [(query_record("b", "T1", LOW), LOW)])
    jobs = [query_record("a", "T1", HIGH), query_record("b", "T1", LOW)]
    RunStore(run).write_run(manifest("r", jobs))
    comparison = compare(run, baseline="b")
    cell = comparison.rows[0].cells[0]
    assert (cell.score, cell.interval, cell.difference) == (pytest.approx(85), None, None)
    assert cell.delta == pytest.approx(37.5)
    assert not cell.significant
    assert comparison.rows[0].cells[1].interval is not None
    assert any("a: no samples are stored, so no interval: T1" in note for note in comparison.notes)


@pytest.mark.parametrize("options", [None, BARE])
@pytest.mark.parametrize("name", ["record.json", "samples.parquet"])
def test_stored_files_that_are_gone_are_refused_by_name(
    query_run: Write, name: str, options: ComparisonOptions | None
) -> None:
    run = query_run("r", {"a": {"T1": HIGH, "T2": LOW}})
    (file,) = run.glob(f"jobs/a/T2/*/{name}")
    file.unlink()
    with pytest.raises(DamagedFileError) as caught:
        compare(run, options=options)
    assert f"{file} is damaged: it is missing" in str(caught.value)


@pytest.mark.parametrize("seeds", [(42, 43), (42, 42)])
def test_two_seeds_are_said_to_be_mixed_and_one_is_not(write_run: Write, seeds: tuple[int, int]) -> None:
    jobs = []
    for label, seed in zip("ab", seeds, strict=True):
        record = query_record(label, "T1", HIGH)
        origin = record.provenance.model_copy(update={"seed": seed})
        jobs.append((record.model_copy(update={"provenance": origin}), HIGH))
    notes = [note for note in compare(write_run("r", jobs)).notes if note.startswith("Seeds")]
    assert [note.partition(".")[0] for note in notes] == (
        ["Seeds are mixed: 42 for a; 43 for b"] if seeds[1] == 43 else []
    )


def test_samples_are_read_once(query_run: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluation.analysis.statistics import units as units_module

    read: list[str] = []

    def load(folder: Path, record: JobRecord, reader: SampleReader) -> Units | None:
        read.append(record.label)
        return load_units(folder, record, reader)

    monkeypatch.setattr(units_module, "load_units", load)
    run = query_run("r", {"a": {"T1": HIGH}, "b": {"T1": LOW}})
    cells = compare(run, baseline="b").rows[0].cells
    units = [cell.stored.read_units(job) for cell in cells if cell.stored for job in cell.stored.jobs]
    assert [found is not None for found in units] == [True, True]
    assert sorted(read) == ["a", "b"]


def test_broken_samples_are_refused_by_name(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": HIGH}})
    (file,) = run.glob("jobs/a/T1/*/samples.parquet")
    file.write_bytes(b"PAR1 broken")
    with pytest.raises(DamagedFileError, match=r"samples\.parquet is damaged"):
        compare(run)
    assert compare(run, options=BARE).rows[0].cells[0].score == pytest.approx(85)


def test_many_jobs_are_examined_in_several_processes_with_the_same_result(
    query_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    tasks = {label: {f"T{n}": (rng.integers(0, 11, 20) / 10).tolist() for n in range(7)} for label in ("a", "b", "c")}
    run = query_run("r", tasks)
    alone = compare(run, baseline="b")
    monkeypatch.setattr(evidence, "MANY_JOBS", 1)
    monkeypatch.setattr(forked_map, "_processors", lambda: 3)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    together = compare(run, baseline="b")
    for own, expected in zip(together.rows, alone.rows, strict=True):
        assert [replace(cell, stored=None) for cell in own.cells] == [
            replace(cell, stored=None) for cell in expected.cells
        ]
    assert together.rows[0].cells[0].interval is not None
    assert repr((together.standings, together.aggregates)) == repr((alone.standings, alone.aggregates))
    monkeypatch.setattr(SampleReader, "read", lambda *_: pytest.fail("units are read once"))
    (view,) = together.runs
    for job in view.jobs:
        units = view.units(job)
        assert units is not None and units.parts[0].arrays["value"].tolist() == tasks[job.label][job.task]
    shutil.copy(next(run.rglob("T2/*/samples.parquet")), next(run.rglob("T5/*/samples.parquet")))
    monkeypatch.undo()
    monkeypatch.setattr(evidence, "MANY_JOBS", 1)
    with pytest.raises(DamagedFileError, match="T5"):
        compare(run, baseline="b")


def test_incomplete_means_are_marked_and_name_what_is_missing(write_run: Write) -> None:
    jobs = [(query_record("a", "T1", HIGH), HIGH), (query_record("a", "T2", None), None)]
    jobs += [(query_record("b", task, LOW), LOW) for task in ("T1", "T2", "T3")]
    comparison = compare(write_run("r", jobs, waiting=[("a", "T3")]), baseline="b", options=BARE)
    mean = comparison.aggregates[0]
    assert mean.name == "Mean over 3 tasks"
    assert (mean.cells[0].value, mean.cells[0].missing) == (pytest.approx(85), ("T2", "T3"))
    assert mean.cells[0].delta is None
    assert comparison.rows[1].cells[0].note == "failed: the model broke"
    assert comparison.rows[2].cells[0].note == "not run"
    text = " ".join(comparison.notes)
    assert "Without 2 of 3 tasks (T2, T3): a." in text
    assert "a has no score on T2 (failed: the model broke)." in text


def test_significance_of_means_is_corrected_over_the_columns(query_run: Write) -> None:
    """Each of five models leads by 1.6 points on two tasks of 100 queries; changes spread by 10, p is near 0.02."""
    rng = np.random.default_rng(0)
    scores: dict[str, dict[str, list[float]]] = {"base": {"S": [0.5] * 100, "T": [0.5] * 100}}
    for label in "abcde":
        scores[label] = {}
        for task in "ST":
            noise = rng.normal(0, 1, 100)
            noise = (noise - noise.mean()) / noise.std(ddof=1)
            scores[label][task] = list(0.516 + 0.1 * noise)
    run = query_run("run", scores)

    def of(*models: str) -> list[tuple[float, bool]]:
        options = ComparisonOptions(models=("base", *models))
        whole = next(one for one in compare(run, baseline="base", options=options).aggregates if one.kind == "mean")
        return [(cell.tested.p_two_sided or 0, cell.significant) for cell in whole.cells if cell.tested is not None]

    assert [significant for _, significant in of("a")] == [True]
    assert all(0.01 < p < 0.05 and not significant for p, significant in of(*"abcde"))


def test_mean_over_common_tasks_stands_beside_incomplete_means(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": [0.2], "T2": [0.4], "T3": [0.9]}, "b": {"T1": [0.3], "T2": [0.3]}})
    common = {a.kind: a for a in compare(run, options=BARE).aggregates}["common"]
    assert common.name == "Mean over the 2 tasks of all"
    assert [cell.value for cell in common.cells] == [pytest.approx(30), pytest.approx(30)]


def test_means_that_miss_the_same_tasks_are_compared_over_the_others(query_run: Write) -> None:
    run = query_run("r", {label: {"T1": own, "T2": own, "T3": None} for label, own in (("a", LOW), ("b", HIGH))})
    cell = compare(run, baseline="a").aggregates[0].cells[1]
    assert cell.missing == ("T3",)
    assert cell.delta == pytest.approx(37.5)
    assert cell.difference is not None
    assert (cell.difference.n_tasks, cell.difference.value) == (2, pytest.approx(37.5))


def test_mean_over_two_of_three_tasks_says_so(query_run: Write) -> None:
    run = query_run("r", {label: {"T1": own, "T2": [0.2], "T3": None} for label, own in (("a", [0.4]), ("b", [0.8]))})
    mean = compare(run, options=BARE).aggregates[0]
    assert (mean.name, mean.cells[0].n_tasks) == ("Mean over 2 of 3 tasks", 3)
    assert [cell.value for cell in mean.cells] == [pytest.approx(30), pytest.approx(50)]  # (40 + 20) / 2, (80 + 20) / 2


def test_means_of_types_say_how_many_tasks_they_are_over(write_run: Write) -> None:
    types = {"R1": "Retrieval", "R2": "Retrieval", "S1": "STS", "S2": "STS"}
    scores = {"R1": [0.2], "R2": [0.4], "S1": [0.7], "S2": None}
    jobs = [(query_record("a", task, own, type=types[task]), own) for task, own in scores.items()]
    found = {
        aggregate.name: aggregate.cells[0].value for aggregate in compare(write_run("r", jobs), options=BARE).aggregates
    }
    assert found == {
        "Mean of 2 Retrieval": pytest.approx(30),
        "Mean of 1 of 2 STS": pytest.approx(70),
        "Mean over 3 of 4 tasks": pytest.approx(130 / 3),
        "Mean of type means": pytest.approx(50),
    }


def test_interval_of_an_aggregate_is_that_of_its_parts_as_one_task(write_run: Write) -> None:
    """The gate takes them so as well."""
    from evaluation.tasks.index import load_index

    parts = load_index().task("CQADupstackRetrieval").parts
    values = [[0.1, 0.5, 0.06 * n] for n in range(12)]
    jobs = [
        (query_record("a", part, own, aggregate="CQADupstackRetrieval"), own)
        for part, own in zip(parts[::-1], values, strict=True)
    ]
    run = write_run("whole", jobs)
    (row,) = compare(run).rows
    members = [job.units for job in read_run(run).jobs if job.units is not None]
    interval = score_interval(aggregate_units("CQADupstackRetrieval", members))
    assert interval is not None
    found = row.cells[0].interval
    assert found is not None
    assert (found.low, found.high) == (100 * interval.low, 100 * interval.high)


def test_cqadupstack_is_one_task_and_a_missing_part_leaves_it_without_score(write_run: Write) -> None:
    from evaluation.tasks.index import load_index

    parts = load_index().task("CQADupstackRetrieval").parts
    jobs = [
        (query_record("a", part, [0.05 * n], aggregate="CQADupstackRetrieval"), [0.05 * n])
        for n, part in enumerate(parts)
    ]
    (row,) = compare(write_run("whole", jobs), options=BARE).rows
    assert (row.task, row.parts) == ("CQADupstackRetrieval", parts)
    assert row.cells[0].score == pytest.approx(100 * sum(0.05 * n for n in range(12)) / 12)
    (row,) = compare(write_run("part", jobs[:-1], waiting=[("a", parts[-1])]), options=BARE).rows
    assert (row.task, row.cells[0].score) == ("CQADupstackRetrieval", None)
    assert parts[-1] in row.cells[0].note


def test_a_benchmark_names_the_tasks_that_nobody_ran(query_run: Write) -> None:
    run = query_run("r", {"a": {"SciFact": [0.5], "NFCorpus": [0.3], "Own": [0.9]}})
    comparison = compare(run, options=ComparisonOptions(benchmark="BEIR", intervals=False))
    assert [row.task for row in comparison.rows] == ["SciFact", "NFCorpus"]
    assert comparison.benchmark == "BEIR"
    cell = comparison.aggregates[0].cells[0]
    assert (cell.n_tasks, len(cell.missing)) == (15, 13)
    assert "MSMARCO" in cell.missing and "CQADupstackRetrieval" in cell.missing


def test_a_task_on_other_subsets_than_the_benchmarks_counts_as_missing(write_run: Write) -> None:
    wanted = query_record("a", "STS22", [0.5], type="STS", subsets=("en",))
    others = query_record("b", "STS22", [0.5], type="STS", subsets=("de",))
    run = write_run("r", [(wanted, [0.5]), (others, [0.5])])
    comparison = compare(run, mixed=True, options=ComparisonOptions(benchmark="MTEB(eng, v1)", intervals=False))
    mean = {aggregate.kind: aggregate for aggregate in comparison.aggregates}["mean"]
    assert ["STS22" in cell.missing for cell in mean.cells] == [False, True]
    assert mean.cells[1].value is None
    assert "b: different subsets from those of MTEB(eng, v1): STS22." in comparison.notes


def test_a_config_that_names_a_whole_benchmark_is_measured_by_it(write_run: Write) -> None:
    jobs = [(query_record("a", task, [0.5]), [0.5]) for task in ("SciFact", "NFCorpus")]
    entry = {"mteb_benchmark": "BEIR", "types": None, "exclude": []}
    assert compare(write_run("r", jobs, config={"tasks": [entry]}), options=BARE).benchmark == "BEIR"
    filtered = {**entry, "exclude": ["MSMARCO"]}
    assert compare(write_run("s", jobs, config={"tasks": [filtered]}), options=BARE).benchmark is None


@pytest.mark.parametrize("config", [{"models": 3, "tasks": "x"}, {"models": [3, {}], "tasks": [None, {"data": 3}]}])
def test_a_stored_config_may_have_any_shape(write_run: Write, config: dict[str, object]) -> None:
    run = write_run("r", [(query_record("a", "T1", None), None)], config=config)
    assert compare(run, options=BARE).rows[0].cells[0].note == "failed: the model broke"


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("aspect", "changes", "words"),
    [
        ("protocol", {"protocol": "none"}, "differ in protocol"),
        ("dataset", {"dataset_revision": "d2"}, "differ in dataset"),
        ("metric", {"versions": {"mteb": "2.26.25"}}, "differ in metric or its version"),
        ("metric", {"metric": "map_at_10"}, "differ in metric or its version"),
        ("split", {"splits": ("dev",)}, "differ in split or subset"),
        ("split", {"subsets": ("de",)}, "differ in split or subset"),
        ("limit", {"limit": {"queries": 3}}, "differ in limit"),
    ],
)
def test_unlike_rows_are_refused_and_mixed_ones_are_marked(
    write_run: Write, aspect: str, changes: dict[str, object], words: str
) -> None:
    jobs = [(query_record("a", "T1", LOW), LOW), (query_record("b", "T1", HIGH, **changes), HIGH)]
    run = write_run("r", jobs)
    with pytest.raises(ComparisonError, match=words) as caught:
        compare(run)
    assert "--mixed" in str(caught.value)
    comparison = compare(run, mixed=True, options=BARE)
    assert [cell.marks for cell in comparison.rows[0].cells] == [(), (aspect,)]
    assert comparison.rows[0].differs[0].startswith(aspect)
    assert any(note.startswith("Mixed: the columns differ in") for note in comparison.notes)
    assert compare(run, options=ComparisonOptions(models=("b",), intervals=False)).rows[0].cells[0].marks == ()


def test_protocols_of_a_configs_own_are_compared_by_their_rules(write_run: Write) -> None:
    def run(name: str, prefix: str) -> Path:
        audit = job_audit(TaskRules("mine", query_prefix=prefix))
        return write_run(name, [(query_record("a", "T1", LOW, protocol="mine", audit=audit), LOW)])

    first = run("first", "query: ")
    assert compare([first, run("again", "query: ")], options=BARE).rows[0].cells[1].marks == ()
    with pytest.raises(ComparisonError, match="differ in protocol"):
        compare([first, run("other", "Q: ")], options=BARE)


def test_the_table_of_a_run_shows_no_mean_of_some_parts(write_run: Write) -> None:
    from evaluation.analysis.comparison.columns import models_of
    from evaluation.analysis.run_view import read_run_view
    from evaluation.tasks.index import load_index

    parts = load_index().task("CQADupstackRetrieval").parts
    records = [query_record("a", part, [0.5], aggregate="CQADupstackRetrieval") for part in parts]
    view = read_run_view(write_run("r", [(record, [0.5]) for record in records]))
    (whole,), (some,) = models_of(view), models_of(view, {(record.label, record.task) for record in records[:3]})
    assert {name: task.points for name, task in whole.tasks.items()} == {"CQADupstackRetrieval": pytest.approx(50)}
    assert {name: task.points for name, task in some.tasks.items()} == {"CQADupstackRetrieval": None}


def test_a_protocols_rules_belong_to_its_name(write_run: Write) -> None:
    """Two runs under e5 of different versions of this program, say."""
    jobs = [
        (query_record(label, "T1", LOW, audit=job_audit(TaskRules("e5", query_prefix=prefix))), LOW)
        for label, prefix in (("a", "query: "), ("b", "Q: "))
    ]
    with pytest.raises(
        ComparisonError, match="differ in protocol on every task: protocol's query_prefix 'query: ' .a.; .* 'Q: ' .b."
    ):
        compare(write_run("r", jobs))


def test_a_limited_run_is_never_unmarked(query_run: Write) -> None:
    comparison = compare(query_run("r", {"a": {"T1": LOW}}, limit={"queries": 3}), options=BARE)
    assert comparison.columns[0].limited
    assert comparison.notes[0] == "Limited run: these scores are not for reporting (a)."


def test_mixed_data_that_does_not_pair_is_compared_without_a_test(write_run: Write) -> None:
    jobs = [(query_record("a", "T1", LOW), LOW), (query_record("b", "T1", HIGH[:20], dataset_revision="d2"), HIGH[:20])]
    comparison = compare(write_run("r", jobs), baseline="a", mixed=True)
    cell = comparison.rows[0].cells[1]
    assert cell.delta == pytest.approx(90 - 47.5)
    assert (cell.difference, cell.significant) == (None, False)
    assert "no test" in cell.note


def test_samples_that_do_not_pair_on_the_same_data_are_an_error(write_run: Write) -> None:
    jobs = [(query_record("a", "T1", LOW), LOW), (query_record("b", "T1", HIGH[:20]), HIGH[:20])]
    with pytest.raises(ComparisonError, match="T1"):
        compare(write_run("r", jobs), baseline="a")


# --------------------------------------------------------------------------------------------------- labels and choice


def test_labels_that_two_runs_share_get_the_runs_name(query_run: Write) -> None:
    runs = [query_run(name, {"a": {"T1": LOW}}) for name in ("first", "second")]
    comparison = compare(runs, baseline="a (second)", options=BARE)
    assert [column.label for column in comparison.columns] == ["a (first)", "a (second)"]
    assert comparison.name == "first, second"
    copy = shutil.copytree(runs[0], runs[0].parent / "copy")
    labels = [column.label for column in compare([runs[0], copy], options=BARE).columns]
    assert labels == [f"a ({runs[0]})", f"a ({copy})"]
    again = [column.label for column in compare([runs[0], runs[0]], options=BARE).columns]
    assert again == [f"a ({runs[0]}) #1", f"a ({runs[0]}) #2"]


def test_models_and_tasks_are_chosen_by_globs(query_run: Write) -> None:
    run = query_run("r", {label: {"T1": LOW, "T2": LOW} for label in ("a one", "a two", "b")})
    options = ComparisonOptions(models=("b", "a *"), only=("*2",), intervals=False)
    comparison = compare(run, options=options)
    assert [column.label for column in comparison.columns] == ["b", "a one", "a two"]
    assert [row.task for row in comparison.rows] == ["T2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "alhpa"}, "--baseline 'alhpa': no column has this label; nearest: 'alpha' (labels: "),
        ({"options": ComparisonOptions(models=("x*",))}, "--model 'x*': no column has this label"),
        ({"options": ComparisonOptions(only=("x*",))}, "no task matches x* (tasks: T1)"),
        ({"options": ComparisonOptions(benchmark="BEIRR")}, "--benchmark 'BEIRR': mteb has no benchmark of this name"),
    ],
)
def test_what_is_not_there_is_named(query_run: Write, arguments: dict[str, object], message: str) -> None:
    run = query_run("r", {"alpha": {"T1": LOW}})
    with pytest.raises(ComparisonError) as caught:
        compare(run, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"holds no run\.json"):
        compare(tmp_path)
    with pytest.raises(ComparisonError, match="does not exist"):
        compare([tmp_path / "nowhere"])
    (tmp_path / "run.json").write_text("[1", encoding="utf-8")
    with pytest.raises(ComparisonError, match=r"run\.json is damaged"):
        compare(tmp_path)
    write_sealed_json(tmp_path / "run.json", {"schema_version": 2, "name": "x"})
    with pytest.raises(ComparisonError, match="not as run-benchmark writes it .see config, jobs."):
        compare(tmp_path)


# ------------------------------------------------------------------------------------------------- training and speed


def test_tasks_of_the_models_training_data_are_flagged(query_run: Write) -> None:
    tasks = {"MSMARCO": LOW, "SciFact": LOW, "beir-nq": LOW}
    run = query_run("r", {"a": tasks}, model="intfloat/e5-base-v2")
    trained = {row.task: row.cells[0].trained for row in compare(run, options=BARE).rows}
    assert trained == {"MSMARCO": True, "SciFact": False, "beir-nq": True}
    unsupervised = compare(query_run("u", {"a": tasks}, model="intfloat/e5-base-unsupervised"), options=BARE)
    assert {row.cells[0].trained for row in unsupervised.rows} == {False}
    unknown = compare(query_run("x", {"a": tasks}), options=BARE)
    assert {row.cells[0].trained for row in unknown.rows} == {None}


def test_speed_is_summed_over_jobs_and_cached_vectors_are_noticed(query_run: Write) -> None:
    speed = compare(query_run("r", {"a": {"T1": LOW, "T2": LOW}}), options=BARE).columns[0].speed
    assert speed is not None
    assert (speed.tokens_per_s, speed.hours, speed.from_cache) == (2000.0, 1.0, False)
    cached = query_run("c", {"a": {"T1": LOW}}, timing=timing(total_s=36.0, encoding_s=0.1, tokens=0))
    speed = compare(cached, options=BARE).columns[0].speed
    assert speed is not None
    assert (speed.tokens_per_s, speed.hours, speed.from_cache) == (None, 0.01, True)


def test_stored_records_are_only_read(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": LOW}, "b": {"T1": HIGH}})
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    compare(run, baseline="a")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert len(RunStore(run).current_records()) == 2
