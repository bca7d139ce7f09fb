"""Precision of a processor: decided by a measurement that is made once and then stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.encoding.precision import Measured, measured_dtype
from evaluation.encoding.settings import EncoderSettings
from evaluation.models.checkpoint import Checkpoint, read_checkpoint
from evaluation.system.cache_folder import user_cache_dir

SETTINGS = EncoderSettings("transformers", "mean", 32, "bfloat16", "cpu", 2_048)
FASTER, SLOWER = {"gain": 2.5, "cosine": 0.9999}, {"gain": 0.4, "cosine": 0.9999}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def checkpoint(bert_folder: Path) -> Checkpoint:
    return read_checkpoint(bert_folder, name="local/bert", revision=None)


def stored() -> list[Path]:
    return list((user_cache_dir() / "precision").glob("*.json"))


def never() -> Measured:
    raise AssertionError("measured again")


@pytest.mark.parametrize(
    ("gain", "cosine", "expected"),
    [
        (2.5, 0.9999, "bfloat16"),
        (1.1, 0.9995, "bfloat16"),
        (1.05, 0.9999, "float32"),
        (2.5, 0.999, "float32"),
        (2.5, float("nan"), "float32"),
    ],
)
def test_half_precision_must_gain_a_tenth_and_keep_the_vectors(
    checkpoint: Checkpoint, gain: float, cosine: float, expected: str
) -> None:
    assert measured_dtype(checkpoint, SETTINGS, lambda: {"gain": gain, "cosine": cosine}) == expected
    assert measured_dtype(checkpoint, SETTINGS, never) == expected


def test_the_first_measurement_stays(checkpoint: Checkpoint) -> None:
    assert measured_dtype(checkpoint, SETTINGS, lambda: FASTER) == "bfloat16"
    assert measured_dtype(checkpoint, SETTINGS, never) == "bfloat16"


def test_other_weights_and_another_processor_are_measured_anew(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured_dtype(checkpoint, SETTINGS, lambda: FASTER) == "bfloat16"
    assert measured_dtype(replace(checkpoint, weights_hash="0"), SETTINGS, lambda: SLOWER) == "float32"
    monkeypatch.setattr("evaluation.encoding.precision.processor_name", lambda: "another")
    assert measured_dtype(checkpoint, SETTINGS, lambda: SLOWER) == "float32"
    assert len(stored()) == 3


def test_damaged_file_is_set_aside_and_measured_anew(checkpoint: Checkpoint) -> None:
    measured_dtype(checkpoint, SETTINGS, lambda: FASTER)
    [file] = stored()
    file.write_bytes(file.read_bytes().replace(b"2.5", b"0.5"))
    assert measured_dtype(checkpoint, SETTINGS, lambda: SLOWER) == "float32"
    assert measured_dtype(checkpoint, SETTINGS, never) == "float32"


def test_cache_that_cannot_be_written_measures_every_time(checkpoint: Checkpoint) -> None:
    user_cache_dir().parent.mkdir(exist_ok=True)
    user_cache_dir().write_text("a file where the folder should be")
    assert measured_dtype(checkpoint, SETTINGS, lambda: FASTER) == "bfloat16"
    assert measured_dtype(checkpoint, SETTINGS, lambda: SLOWER) == "float32"


def test_real_measurement_compares_both_precisions(checkpoint: Checkpoint) -> None:
    """Which is faster depends on the machine; that the vectors agree does not."""
    from evaluation.encoding.precision import _measure

    found = _measure(checkpoint, SETTINGS)
    assert found["gain"] > 0
    assert 0.99 < found["cosine"] <= 1.0001
