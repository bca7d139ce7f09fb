"""What a machine is called."""

from __future__ import annotations

import pytest

from evaluation.system.machine import place_name, processor_name


def test_processor_has_a_name() -> None:
    assert processor_name()


def test_place_tells_threads_and_devices_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert place_name("cpu").startswith(f"{processor_name()} x3, ")
    assert place_name("cpu") != place_name("cuda")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert " x4, " in place_name("cpu")
