"""The benchmarks of machines that the tests do not have: their logic at tiny sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("benchmarks")
def test_the_gpu_benchmark_runs_at_tiny_sizes_on_a_processor() -> None:
    import gpu

    figures: dict[str, Any] = gpu.measure(gpu.TINY, "cpu")
    ran = {(row["kernel"], row["dtype"]): row for row in figures["proof"]}
    assert len(ran) == 9
    for kernel in ("each", "by length"):
        for dtype in ("float32", "bfloat16"):
            assert 0 <= ran[kernel, dtype]["distance"] <= ran[kernel, dtype]["limit"], (kernel, dtype)
    assert ran["varlen", "float16"]["obstacle"]  # flash attention runs on CUDA alone
    assert all(row["tokens_per_s"] > 0 for row in figures["encoding"].values())
    assert figures["encoding"]["sentence-transformers, its defaults"]["times_the_defaults"] == 1
    assert figures["search"]["largest_difference"] < 1e-6
    assert "| varlen | float16 |" in gpu.markdown(figures)


@pytest.mark.usefixtures("benchmarks")
def test_the_host_benchmark_counts_the_texts_and_tokens_that_it_encodes(tmp_path: Path) -> None:
    import host

    short, long = host.measure({"short": 200, "long": 20}, tmp_path)
    assert (short.kind, short.texts, long.kind, long.texts) == ("short", 200, "long", 20)
    assert 10 < short.tokens_per_text < 25 < 150 < long.tokens_per_text < 350
    assert min(short.feeding_us, long.feeding_us, short.disk_us, short.texts_per_s) > 0
    assert short.feeding_us_at_most == pytest.approx(8 + 0.15 * short.tokens_per_text, abs=0.02)
    assert "| short | 200 |" in host.table([short, long])


@pytest.mark.usefixtures("benchmarks")
def test_growth_finds_the_exponent_of_known_times_and_measures_a_child(tmp_path: Path) -> None:
    import growth

    sizes = (10, 30, 100, 300, 1_000, 3_000)
    for power in (1.0, 2.0):
        points = [growth.Point(n, 2.0 + 0.001 * (n - 10) ** power, 50 + n / 100) for n in sizes]
        assert growth.exponent(points) == pytest.approx(power)
    assert growth.exponent(points[:2]) is None
    assert growth.bytes_per_unit(points) == pytest.approx(2**20 / 100)
    assert growth.chosen_sizes(["plan", "gate"], ["100", "plan=30"]) == {"plan": (10, 30), "gate": (10, 30, 100)}
    assert growth.chosen_sizes(["search"], ["1"]) == {"search": (10_000,)}, "the smallest always"
    growth.build("gate", tmp_path, [2])
    seconds, peak_mib = growth.measured(growth.command("gate", 2, tmp_path), tmp_path)
    assert seconds > 0.1 and peak_mib > 20
    found = {"gate": points, "plan": points[:1]}
    assert "| gate | 10, 30, 100, 300, 1,000, 3,000 tasks |" in growth.table(found)
    growth.draw(found, tmp_path / "growth.svg")
    assert "</svg>" in (tmp_path / "growth.svg").read_text(encoding="utf-8")
