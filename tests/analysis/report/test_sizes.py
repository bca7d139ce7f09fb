"""Scores by bytes per vector: which rows are shown, which forms a line joins, and the level line of BM25."""

from __future__ import annotations

from typing import Any

from support.fake_comparisons import comparison

from evaluation.analysis.report.canvas import Canvas
from evaluation.analysis.report.size_chart import size_chart
from evaluation.analysis.report.sizes import SizedScore, Sizes, best_at_each_size, sizes
from evaluation.analysis.statistics.intervals import Interval


def _stored(form: str, n_bytes: int, score: float, model: str = "e5") -> SizedScore:
    label = model if form == "float32" else f"{model}@{form}"
    interval = Interval(score - 2, score + 2, "t")
    return SizedScore("Search", label, model, form, score, interval, n_bytes, 100 * n_bytes)


WORDS = SizedScore("Search", "bm25", "bm25", "", 45.0, None, None, None)
PLAIN, INT8 = _stored("float32", 1536, 50.0), _stored("int8", 384, 49.9)
BITS, CENTRED = _stored("binary", 48, 20.0), _stored("binary,center", 48, 45.5)


def test_a_line_joins_the_best_form_of_each_size() -> None:
    best = best_at_each_size([PLAIN, INT8, BITS, CENTRED, WORDS, _stored("float32", 1536, 55.0, "minilm")])
    assert {key: scored.form for key, scored in best.items()} == {
        ("e5", 1536): "float32",
        ("e5", 384): "int8",
        ("e5", 48): "binary,center",
        ("minilm", 1536): "float32",
    }


def test_the_chart_has_a_point_for_each_form_and_a_level_line_for_words() -> None:
    chart = size_chart(Canvas(comparison({"e5": [50.0]})), Sizes((PLAIN, INT8, BITS, CENTRED, WORDS), ()))
    assert chart is not None
    assert chart.choices == ("Search",)
    assert chart.choice_of == "Task"
    words, points = _rows_of(chart.spec)
    assert words == [{"task": "Search", "model": "bm25", "score": 45.0}]
    assert [(row["form"], row["bytes"], row["score"], row["best"]) for row in points] == [
        ("float32", 1536, 50.0, True),
        ("int8", 384, 49.9, True),
        ("binary", 48, 20.0, False),
        ("binary,center", 48, 45.5, True),
    ]
    assert (points[0]["low"], points[0]["high"]) == (48.0, 52.0)


def test_there_is_nothing_to_show_without_smaller_forms_and_words() -> None:
    found = comparison({"a": [50.0], "b": [51.0]})
    assert sizes(found) is None
    assert size_chart(Canvas(found), None) is None


def _rows_of(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The different rows that the layers draw, in the order of the layers."""
    named = [layer["data"]["name"] for layer in spec["layer"] if "data" in layer]
    return [spec["datasets"][name] for name in dict.fromkeys(named)]
