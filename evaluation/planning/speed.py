"""Measures the time per token and layer on this device, with two layers of a model's shape and random weights.

The weights go through the same forward pass as a real checkpoint; the time of a whole model is proportional to its
number of layers. Knows nothing of tasks or plans.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from evaluation.encoding.backends import load_forward
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.encoding.token_rows import TokenRows
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.sizes import ModelShape

LENGTHS = (16, 64, 256, 512)
_LAYERS, _VOCABULARY = 2, 2_000
_SECONDS_PER_LENGTH = 0.8


def measure_speed(
    shape: ModelShape, *, device: str, dtype: str, seconds: float = _SECONDS_PER_LENGTH
) -> dict[int, float]:
    """Returns tokens per text -> seconds per token and layer. The median pass counts, so brief disturbances do not.

    Args:
        shape: The model's shape; only width and inner width matter.
        dtype: The dtype, as a config names it; `auto` means float16 on CUDA, because no checkpoint is read here.
        seconds: Time spent on each length, after one batch to warm up.

    Raises:
        ModelError: This machine lacks the device.
    """
    found = resolve_device(device)
    settings = EncoderSettings(
        backend="transformers",
        pooling="mean",
        max_length=max(LENGTHS),
        dtype=resolve_dtype(dtype, found),
        device=found,
        max_tokens=resolve_max_tokens("auto", found, shape.width),
    )
    with tempfile.TemporaryDirectory(prefix="e5-speed-") as name:
        forward = load_forward(_random_checkpoint(Path(name), shape), settings, 0)
    measured = {}
    for length in LENGTHS:
        rows = TokenRows.of(torch.randint(1, _VOCABULARY, (max(1, settings.max_tokens // length), length)).tolist())
        passes = timed_passes(lambda rows=rows: forward(rows).cpu(), seconds)  # type: ignore[misc]
        measured[length] = statistics.median(passes) / (len(rows) * length * _LAYERS)
    return measured


def timed_passes(act: Callable[[], object], seconds: float) -> list[float]:
    """Returns the seconds of each call, for at least one call after one to warm up, until `seconds` have passed."""
    act()
    taken: list[float] = []
    while not taken or sum(taken) < seconds:
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    return taken


def _random_checkpoint(folder: Path, shape: ModelShape) -> Checkpoint:
    """Writes a BERT of two layers whose weights keep activations small."""
    width, inner = shape.width, shape.inner_width
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": width,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": max(1, width // (32 if width <= 384 else 64)),
        "intermediate_size": inner,
        "vocab_size": _VOCABULARY,
        "type_vocab_size": 2,
        "max_position_embeddings": max(LENGTHS),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    sizes = {
        "embeddings.word_embeddings.weight": (_VOCABULARY, width),
        "embeddings.position_embeddings.weight": (max(LENGTHS), width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(_LAYERS):
        at = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes |= {f"{at}{part}.weight": (width, width), f"{at}{part}.bias": (width,)}
        sizes |= {f"{at}intermediate.dense.weight": (inner, width), f"{at}intermediate.dense.bias": (inner,)}
        sizes |= {f"{at}output.dense.weight": (width, inner), f"{at}output.dense.bias": (width,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            sizes |= {f"{at}{part}.weight": (width,), f"{at}{part}.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.02 * torch.randn(size, generator=generator) for name, size in sizes.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Checkpoint(
        folder=folder,
        name="local/speed",
        revision="0" * 40,
        pooling="mean",
        max_length=max(LENGTHS),
        max_positions=max(LENGTHS),
        normalize=False,
        similarity="cosine",
        other_modules=(),
        weights_hash="",
        tokenizer_hash="",
        embedding_dim=width,
    )
