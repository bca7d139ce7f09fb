"""How the time of a token is measured: in passes, of which the median counts."""

from __future__ import annotations

import statistics

import pytest

from evaluation.models.sizes import ModelShape
from evaluation.planning import speed
from evaluation.planning.speed import LENGTHS, measure_speed, timed_passes


def test_a_disturbed_pass_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], iter([9.0, 1.0, 50.0, 1.0, 1.0])  # the first warms up, the third is disturbed
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def act() -> None:
        now[0] += next(calls)

    passes = timed_passes(act, 52.5)
    assert passes == [1.0, 50.0, 1.0, 1.0]
    assert statistics.median(passes) == 1.0


def test_one_pass_is_timed_however_long_it_takes() -> None:
    calls: list[int] = []
    assert len(timed_passes(lambda: calls.append(1), 0.0)) == 1
    assert len(calls) == 2


@pytest.mark.usefixtures("single_thread")
def test_each_length_has_its_time() -> None:
    shape = ModelShape(layers=6, width=64, inner_width=128, vocabulary=100, max_length=512, tokenizer="x")
    measured = measure_speed(shape, device="cpu", dtype="float32", seconds=0.01)
    assert tuple(measured) == LENGTHS
    assert all(0 < seconds < 1e-3 for seconds in measured.values())
