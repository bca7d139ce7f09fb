"""What the charts draw, and that Vega draws it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.fake_comparisons import column, comparison, speed
from support.fake_runs import query_record

from evaluation.analysis.report.canvas import Canvas, Chart
from evaluation.analysis.report.chart_data import (
    bucket_names,
    difference_rows,
    length_data,
    query_rows,
    score_rows,
    speed_rows,
    type_rows,
)
from evaluation.analysis.report.chart_style import PAGE, PAPER, SERIES, save_figure, vega_bundle
from evaluation.analysis.report.charts import difference_chart, published_chart, score_chart, speed_chart, type_chart
from evaluation.analysis.report.input_audit import LengthRow
from evaluation.analysis.report.job_charts import length_chart, time_chart
from evaluation.analysis.report.wins import ScoredTask


def three() -> dict[str, list[float | None]]:
    return {"a": [50.0, 40.0, 30.0], "b": [53.0, 47.0, None], "c": [20.0, 45.0, 31.0]}


def test_missing_scores_have_no_row() -> None:
    rows = score_rows(comparison(three()))
    assert len(rows) == 8
    assert rows[0] == {
        "task": "Task0",
        "metric": "ndcg_at_10",
        "model": "a",
        "score": 50.0,
        "low": 48.0,
        "high": 52.0,
        "range": "48.00 to 52.00",
    }


def test_differences_leave_the_baseline_out_and_name_the_verdict() -> None:
    rows = difference_rows(comparison(three(), p_adjusted={"b": [0.0001, 0.2, None], "c": [0.01, None, 0.9]}))
    assert [(row["model"], row["task"], row["delta"], row["verdict"]) for row in rows] == [
        ("b", "Task0", 3.0, "better"),
        ("c", "Task0", -30.0, "worse"),
        ("b", "Task1", 7.0, "not significant"),
        ("c", "Task1", 5.0, "not significant"),
        ("c", "Task2", 1.0, "not significant"),
    ]
    assert rows[0]["p"] == "0.0001"


def test_types_are_meaned_where_complete() -> None:
    rows = type_rows(comparison(three(), types=["STS", "Retrieval", "Retrieval"]))
    assert [(row["type"], row["model"], row["score"]) for row in rows] == [
        ("STS", "a", 50.0),
        ("STS", "b", 53.0),
        ("STS", "c", 20.0),
        ("Retrieval", "a", 35.0),
        ("Retrieval", "c", 38.0),
    ]


def test_pareto_front_holds_what_no_other_beats() -> None:
    columns = [column(label, speed=speed(tokens)) for label, tokens in zip("abcd", (100, 200, 150, 50), strict=True)]
    rows = speed_rows(comparison({"a": [50.0], "b": [40.0], "c": [39.0], "d": [60.0]}, columns=columns))
    assert {row["model"] for row in rows if row["front"]} == {"a", "b", "d"}
    assert [row["speed"] for row in rows] == [10.0, 20.0, 15.0, 5.0]


def test_speed_needs_measured_tokens() -> None:
    columns = [column("a", speed=speed(0)), column("b")]
    assert speed_rows(comparison({"a": [50.0], "b": [40.0]}, columns=columns)) == []


def test_queries_with_the_same_pair_of_scores_are_counted() -> None:
    places = [("test", "default", f"q{number}") for number in range(4)]
    record = query_record("a", "T", [0.5])
    first = ScoredTask("a", record, Path(), dict(zip(places, (0.0, 50.0, 50.0, 100.0), strict=True)))
    second = ScoredTask("b", record, Path(), dict(zip(places, (100.0, 25.0, 25.0, 100.0), strict=True)))
    assert query_rows(first, second) == [
        {"x": 0.0, "y": 100.0, "n": 1},
        {"x": 50.0, "y": 25.0, "n": 2},
        {"x": 100.0, "y": 100.0, "n": 1},
    ]


def lengths() -> list[LengthRow]:
    return [
        LengthRow("a", "T", "query", (0, 8, 16), (1, 3, 0), 0.0),
        LengthRow("a", "T", "passage", (0, 8, 16), (0, 2, 2), 0.5),
    ]


def test_length_buckets_end_with_the_longest_text() -> None:
    assert bucket_names(lengths()) == ["0-7", "8-15", "16+"]
    assert bucket_names(lengths()[:1]) == ["0-7", "8-15"]
    assert [row["n"] for row in length_data(lengths())] == [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]


def charts(look: object = PAPER) -> list[Chart]:
    columns = [column(label, speed=speed(100 + 50 * n)) for n, label in enumerate("abc")]
    made = comparison(
        three(), columns=columns, types=["STS", "Retrieval", "Retrieval"], p_adjusted={"c": [0.01, 0.5, 0.5]}
    )
    canvas = Canvas(made, look)  # type: ignore[arg-type]
    seconds = {label: {"loading": 1.0, "encoding": 5.0, "scoring": 2.0} for label in "abc"}
    found = [make(canvas) for make in (score_chart, difference_chart, type_chart, speed_chart)]
    found += [length_chart(canvas, lengths()), time_chart(canvas, seconds)]
    assert None not in found
    return [chart for chart in found if chart is not None]


def test_every_chart_becomes_a_vector_image(tmp_path: Path) -> None:
    for chart in charts():
        svg, pdf = save_figure(chart.spec, tmp_path / chart.name)
        text = svg.read_text(encoding="utf-8")
        assert text.startswith("<svg")
        assert "var(--" not in text, "figures stand outside the page"
        assert len(re.findall("<path", text)) > 3
        assert pdf.read_bytes().startswith(b"%PDF")
    assert "Task1" in (tmp_path / "scores.svg").read_text(encoding="utf-8")


def test_page_charts_take_their_colours_from_the_style_sheet() -> None:
    text = "".join(str(chart.spec) for chart in charts(PAGE))
    assert "var(--c1)" in text
    assert not any(colour in text for colour in SERIES)


def test_nothing_to_show_is_no_chart() -> None:
    canvas = Canvas(comparison({"a": [50.0]}))
    for make in (difference_chart, type_chart, speed_chart, published_chart):
        assert make(canvas) is None
    assert length_chart(canvas, []) is None
    assert time_chart(canvas, {}) is None


def test_descriptions_say_what_is_shown_in_words() -> None:
    for chart in charts():
        assert chart.title
        assert chart.caption.endswith(".")
        assert len(chart.description) > 30


def test_damaged_copy_of_the_page_script_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda **_: "the script")
    assert vega_bundle() == "the script"
    (file,) = (tmp_path / "report").iterdir()
    for damaged in (file.read_bytes().replace(b"the script", b"the scrapt"), file.read_bytes()[:9], b"", b"[]"):
        file.write_bytes(damaged)
        assert vega_bundle() == "the script"
        assert b"the script" in file.read_bytes()
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda **_: pytest.fail("the sound copy was not used"))
    assert vega_bundle() == "the script"
