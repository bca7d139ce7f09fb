"""Every kind of checkpoint that people have either gives its own library's vectors or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.checkpoint_variations import VARIATIONS, Variation
from support.resolved_models import resolve

from evaluation.encoding.encoder import Encoder
from evaluation.encoding.pooling import l2_normalize
from evaluation.errors import ModelError
from evaluation.execution.resolving import ResolvedModel
from evaluation.models.facts import Route

TEXTS = [
    "cat",
    "Dog 42.",
    "a much longer text than the others, far beyond the thirty-two letters",
    "Ünïcode É ab",
    "x: y",
]
PREFIX = "ab: "
ACCEPTED = {name: kind for name, kind in VARIATIONS.items() if kind.refused is None}
REFUSED = {name: kind for name, kind in VARIATIONS.items() if kind.refused is not None}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single_thread: None) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


def by_sentence_transformers(folder: Path, route: Route) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    encode = {None: model.encode, "query": model.encode_query, "document": model.encode_document}[route]
    limit = min(model.max_seq_length, 32)  # the tiny models' positions, beyond which the library itself fails
    if limit != model.max_seq_length and hasattr(model[0], "do_lower_case"):
        model.max_seq_length = limit
    return np.asarray(encode(TEXTS, prompt=PREFIX), np.float32)


@torch.inference_mode()
def by_transformers(folder: Path) -> NDArray[np.float32]:
    """The lines of E5's model cards, a text at a time."""
    from transformers import AutoModel, AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    is_t5 = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "t5"
    model = (T5EncoderModel if is_t5 else AutoModel).from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        length = min(tokenizer.model_max_length, 32)
        batch = tokenizer(PREFIX + text, return_tensors="pt", truncation=True, max_length=length)
        rows.append(model(**batch).last_hidden_state[0].mean(dim=0).numpy())
    return np.stack(rows)


def ours(resolved: ResolvedModel, route: Route) -> NDArray[np.float32]:
    """What an adapter makes of the encoder's vectors where the protocol leaves normalising to the checkpoint."""
    vectors = Encoder(resolved.checkpoint, resolved.settings).encode(TEXTS, prefix=PREFIX, route=route).vectors
    return l2_normalize(vectors) if resolved.checkpoint.normalize else vectors


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max(), "texts that can't be told apart"
    scale = np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs((found - expected) / scale).max() <= 1e-5


@pytest.mark.parametrize("kind", ACCEPTED.values(), ids=ACCEPTED)
def test_checkpoint_gives_the_vectors_of_its_library(kind: Variation, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    kind.build(folder)
    resolved = resolve(folder, tmp_path)
    assert resolved.proof is not None
    assert resolved.settings.forward == kind.forward, resolved.proof.reason
    routes: tuple[Route, ...] = (None, "query", "document") if resolved.settings.routed else (None,)
    for route in routes:
        if (folder / "modules.json").is_file():
            expected = by_sentence_transformers(folder, route)
        else:
            expected = by_transformers(folder)
        assert_same(ours(resolved, route), expected)


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_checkpoint_is_refused_by_name(kind: Variation, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    kind.build(folder)
    with pytest.raises(ModelError, match=kind.refused):
        resolve(folder, tmp_path)


def test_there_are_at_least_forty_kinds() -> None:
    assert len(VARIATIONS) >= 40
