"""Numbers as people read them, by hand."""

from __future__ import annotations

import pytest

from evaluation.analysis.number_formats import MISSING, brackets, counted, p_equation, p_value, points, span


@pytest.mark.parametrize(
    ("p", "value", "equation"),
    [
        (0.0, "< 0.0001", "p < 0.0001"),
        (0.00009, "< 0.0001", "p < 0.0001"),
        (0.0001, "0.0001", "p = 0.0001"),
        (0.0496, "0.0496", "p = 0.0496"),
        (0.1, "0.10", "p = 0.10"),
        (1.0, "1.00", "p = 1.00"),
    ],
)
def test_p_values(p: float, value: str, equation: str) -> None:
    assert (p_value(p), p_equation(p)) == (value, equation)


def test_counted_nouns() -> None:
    assert [counted(n, "point") for n in (1.0, 1, 0, 2.5)] == ["1 point", "1 point", "0 points", "2.5 points"]
    assert [counted(n, "query") for n in (1, 1_234_567)] == ["1 query", "1,234,567 queries"]


def test_points_and_intervals() -> None:
    assert [points(value, signed=True) for value in (1.234, -0.001, None)] == ["+1.23", "+0.00", MISSING]
    assert points(-0.004) == "0.00"
    assert span(-1.0, 2.346) == "-1.00 to 2.35"
    assert brackets(-1.0, 2.0, signed=True) == "[-1.00, +2.00]"
