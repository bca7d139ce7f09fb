"""Which precision a processor runs a model in: measured once for a machine and a model, stored, then read.

Flags say that a processor has bfloat16 instructions, not that they pay for a model. Vectors of another precision are
other vectors, so what was found must not flip from one run to the next: the first measurement stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from evaluation.encoding.backends import load_forward
from evaluation.encoding.settings import DtypeName, EncoderSettings
from evaluation.encoding.tokenizing import TextTokenizer
from evaluation.errors import DamagedFileError, StoreError
from evaluation.models.checkpoint import Checkpoint
from evaluation.system.atomic_files import read_sealed_json, set_aside, write_sealed_json
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.machine import processor_name

_GAIN, _COSINE = 1.1, 0.9995
_ROUNDS, _ROWS, _ROW_TOKENS = 3, 16, 128
_SENTENCE = "Measure twice, cut once: a short paragraph that a tokenizer turns into ordinary words and marks. "

Measured = dict[str, float]
"""gain: seconds in float32 over seconds in bfloat16; cosine: of their vectors, the lowest."""


def measured_dtype(
    checkpoint: Checkpoint, settings: EncoderSettings, measure: Callable[[], Measured] | None = None
) -> DtypeName:
    """bfloat16 where it gains at least a tenth and keeps the vectors (cosine 0.9995 or more), else float32.

    Args:
        checkpoint: The model.
        settings: How it is run on this processor; its dtype does not count.
        measure: In place of the real measurement.
    """
    what = {"processor": processor_name(), "weights": checkpoint.weights_hash, "backend": settings.backend}
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
    file = user_cache_dir() / "precision" / f"{name}.json"
    stored = _read(file)
    if stored is not None:
        return cast(DtypeName, stored["dtype"])
    found = measure() if measure is not None else _measure(checkpoint, settings)
    dtype: DtypeName = "bfloat16" if found["gain"] >= _GAIN and found["cosine"] >= _COSINE else "float32"
    with contextlib.suppress(StoreError):  # then it is measured again next time
        write_sealed_json(file, {**what, **found, "dtype": dtype})
    return dtype


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return read_sealed_json(file)
    except DamagedFileError:
        set_aside(file)
    except (FileNotFoundError, StoreError):
        pass
    return None


def _measure(checkpoint: Checkpoint, settings: EncoderSettings) -> Measured:
    """A few batches of 16 rows of 128 tokens in both precisions, in turn."""
    tokenizer = TextTokenizer(checkpoint.folder, min(_ROW_TOKENS, settings.max_length))
    rows = tokenizer([f"{row} {_SENTENCE * 16}" for row in range(_ROWS)]).ids
    names: tuple[DtypeName, ...] = ("float32", "bfloat16")
    forwards = [load_forward(checkpoint, replace(settings, dtype=name), tokenizer.pad_id) for name in names]
    full, half = (forward(rows) for forward in forwards)
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for forward, taken in zip(forwards, seconds, strict=True):
            started = time.perf_counter()
            forward(rows)
            taken.append(time.perf_counter() - started)
    cosine = torch.cosine_similarity(full, half).min().item()
    return {"gain": statistics.median(seconds[0]) / statistics.median(seconds[1]), "cosine": cosine}
