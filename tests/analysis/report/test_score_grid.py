"""The cells of the report's table in words."""

from __future__ import annotations

from dataclasses import replace

from support.fake_comparisons import comparison

from evaluation.analysis.comparison.types import Aggregate, AggregateCell
from evaluation.analysis.report.score_grid import flag_legend, score_grid


def test_best_and_second_go_by_what_is_shown() -> None:
    grid = score_grid(comparison({"a": [50.004], "b": [50.001], "c": [49.0], "d": [10.0]}))
    assert [cell.rank for cell in grid.rows[0].cells] == [1, 1, 3, 4]


def test_missing_is_a_dash_and_has_no_rank() -> None:
    grid = score_grid(comparison({"a": [50.0], "b": [None], "c": [40.0]}))
    assert [(cell.score, cell.rank) for cell in grid.rows[0].cells] == [("50.00", 1), ("-", None), ("40.00", 2)]


def test_single_model_is_not_called_the_best() -> None:
    assert score_grid(comparison({"a": [50.0]})).rows[0].cells[0].rank is None


def test_significance_and_hover() -> None:
    grid = score_grid(comparison({"a": [50.0, 50.0], "b": [53.0, 47.0]}, p_adjusted={"b": [0.01, 0.2]}))
    first, second = grid.rows[0].cells[1], grid.rows[1].cells[1]
    assert (first.verdict, second.verdict) == ("better", "")
    assert (first.delta, second.delta, grid.rows[0].cells[0].delta) == ("+3.00", "-3.00", "baseline")
    assert first.tip.splitlines() == [
        "b: 53.00",
        "95% interval 51.00 to 55.00",
        "+3.00 to a (95% +2.00 to +4.00)",
        "adjusted p = 0.0100",
    ]


def test_difference_without_a_test_says_so() -> None:
    made = comparison({"a": [50.0], "b": [53.0]}, p_adjusted={"b": [0.01]})
    first, second = made.rows[0].cells
    untested = replace(made, rows=(replace(made.rows[0], cells=(first, replace(second, p_adjusted=None))),))
    tips = [score_grid(one).rows[0].cells[1].tip for one in (made, untested)]
    assert ["not tested" in tip for tip in tips] == [False, True]


def test_mark_that_all_cells_bear_is_left_to_the_notes() -> None:
    made = comparison({"a": [50.0, 50.0], "b": [53.0, 47.0]})
    both = tuple(replace(row, cells=(row.cells[0], replace(row.cells[1], marks=("protocol",)))) for row in made.rows)
    assert score_grid(replace(made, rows=both)).rows[0].cells[1].flags == ""
    assert flag_legend(replace(made, rows=both)) == ""
    once = replace(made, rows=(both[0], made.rows[1]))
    assert score_grid(once).rows[0].cells[1].flags == "P"
    assert flag_legend(once) == "P: differs in protocol"


def test_trained_on_is_flagged() -> None:
    made = comparison({"a": [50.0]})
    cell = replace(made.rows[0].cells[0], trained=True)
    made = replace(made, rows=(replace(made.rows[0], cells=(cell,)),))
    assert score_grid(made).rows[0].cells[0].flags == "T"
    assert "trained" in flag_legend(made)


def test_incomplete_mean_is_marked_and_never_best() -> None:
    made = comparison({"a": [50.0, 40.0], "b": [51.0, 41.0], "c": [90.0, None]})
    cells = score_grid(made).aggregates[0].cells
    assert [cell.rank for cell in cells] == [2, 1, None]
    assert cells[2].flags == "incomplete"
    assert "missing: Task1" in cells[2].tip


def test_lowest_borda_rank_is_best() -> None:
    made = comparison({"a": [50.0], "b": [60.0]})
    borda = Aggregate("Rank (Borda)", "borda", (AggregateCell(2.0, 1), AggregateCell(1.0, 1)))
    row = score_grid(replace(made, aggregates=(borda,))).aggregates[0]
    assert [(cell.score, cell.rank) for cell in row.cells] == [("2", 2), ("1", 1)]
    assert row.cells[1].delta == ""
