"""Texts -> vectors: order, prefixes and padding by small cases, then transformers and sentence-transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from evaluation.encoding.batching import shard_bounds
from evaluation.encoding.cache import EmbeddingCache
from evaluation.encoding.encoder import Encoder, Progress
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EncodingError, ModelError
from evaluation.models.checkpoint import read_checkpoint

TEXTS = ["cat", "", "a much longer text than the others", "dog 1", "cat", "§", "query: cat"]
SETTINGS = EncoderSettings("transformers", "mean", 32, "float32", "cpu", 4_096)


def load(folder: Path, **changes: Any) -> Encoder:
    checkpoint = read_checkpoint(folder, name=f"local/{folder.name}", revision=None)
    return Encoder(checkpoint, replace(SETTINGS, **changes))


def vectors_of(encoder: Encoder, texts: list[str]) -> NDArray[np.float32]:
    return encoder.encode(texts).vectors


def largest_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    assert first.shape == second.shape
    return float(np.abs(first - second).max())


@pytest.fixture(scope="module")
def encoder(bert_folder: Path) -> Encoder:
    return load(bert_folder)


@pytest.fixture
def steps(encoder: Encoder) -> list[Progress]:
    """What the encoder reports of its batches from now on."""
    taken: list[Progress] = []
    encoder.on_progress = taken.append
    return taken


# -------------------------------------------------------------------------------------------------------- small cases


def test_vectors_are_in_input_order(encoder: Encoder) -> None:
    together = vectors_of(encoder, TEXTS)
    assert together.shape == (7, 16)
    assert together.dtype == np.float32
    for row, text in enumerate(TEXTS):
        assert largest_difference(together[row : row + 1], vectors_of(encoder, [text])) < 1e-5, text


def test_different_texts_have_different_vectors(encoder: Encoder) -> None:
    vectors = vectors_of(encoder, list(dict.fromkeys(TEXTS)))
    distances = np.abs(vectors[:, None] - vectors[None]).max(axis=2) + np.eye(len(vectors))
    assert distances.min() > 1e-2


def test_repeated_text_is_encoded_once(encoder: Encoder, steps: list[Progress]) -> None:
    before = encoder.tokens_encoded
    encoded = encoder.encode(["cat", "dog", "cat", "cat"])
    assert sum(step.texts for step in steps) == 2
    assert sum(step.tokens for step in steps) == encoder.tokens_encoded - before == 10
    assert encoded.token_lengths.tolist() == [5, 5]
    assert np.array_equal(encoded.vectors[0], encoded.vectors[2])
    assert np.array_equal(encoded.vectors[0], encoded.vectors[3])


def test_repeated_texts_do_not_change_a_bit(encoder: Encoder) -> None:
    assert np.array_equal(vectors_of(encoder, TEXTS * 3), np.tile(vectors_of(encoder, TEXTS), (3, 1)))


def test_prefix_is_put_in_front(encoder: Encoder) -> None:
    encoded = encoder.encode(["cat", "dog", "cat", "cow"], prefix="query: ")
    assert encoded.examples == ("query: cat", "query: dog")
    assert np.array_equal(encoded.vectors[:1], encoder.encode(["query: cat", "query: dog", "query: cow"]).vectors[:1])
    assert largest_difference(encoded.vectors[:1], vectors_of(encoder, ["cat"])) > 1e-2


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    for prefix in ("", "query: "):
        encoded = encoder.encode([], prefix=prefix)
        assert encoded.vectors.shape == (0, 16)
        assert encoded.vectors.dtype == np.float32
        assert (encoded.token_lengths.shape, encoded.n_truncated, encoded.examples) == ((0,), 0, ())


def test_empty_text_has_a_vector(encoder: Encoder) -> None:
    encoded = encoder.encode(["", " "])
    assert np.isfinite(encoded.vectors).all()
    assert np.abs(encoded.vectors).sum() > 0
    assert encoded.token_lengths.tolist() == [2, 2]


def test_long_text_is_cut_and_counted(bert_folder: Path) -> None:
    encoder = load(bert_folder, max_length=8)
    encoded = encoder.encode(["abcdefgh", "abcdefxyz", "abcdef", "abcdefgh"])
    assert encoded.token_lengths.tolist() == [10, 11, 8]
    assert encoded.n_truncated == 2
    cut = encoder.encode(["abcdef"]).vectors
    assert largest_difference(encoded.vectors, np.tile(cut, (4, 1))) < 1e-5


def test_padding_does_not_change_a_vector(encoder: Encoder) -> None:
    alone = vectors_of(encoder, ["ab"])
    for longer in ("abc", "a much longer text than the first"):
        assert largest_difference(vectors_of(encoder, ["ab", longer])[:1], alone) < 1e-5


@pytest.mark.parametrize("max_tokens", [1, 16, 40, 100_000])
def test_batch_size_does_not_change_a_vector(bert_folder: Path, encoder: Encoder, max_tokens: int) -> None:
    other = load(bert_folder, max_tokens=max_tokens)
    assert largest_difference(vectors_of(other, TEXTS), vectors_of(encoder, TEXTS)) < 1e-5


def test_same_call_gives_the_same_bits(bert_folder: Path, encoder: Encoder) -> None:
    texts = [f"text {number} {'x' * (number % 7)}" for number in range(50)]
    first = vectors_of(encoder, texts)
    assert np.array_equal(vectors_of(encoder, texts), first)
    assert np.array_equal(vectors_of(load(bert_folder), texts), first)


def test_copied_checkpoint_gives_the_same_bits(bert_folder: Path, tmp_path: Path, encoder: Encoder) -> None:
    copied = shutil.copytree(bert_folder, tmp_path / "other name")
    assert np.array_equal(vectors_of(load(copied), TEXTS), vectors_of(encoder, TEXTS))


def test_many_shards_are_put_together_in_order(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluation.encoding import encoder as module

    texts = [f"t{number}" for number in range(23)]
    whole = vectors_of(encoder, texts)
    monkeypatch.setattr(module, "shard_bounds", partial(shard_bounds, shard_texts=4))
    cut = encoder.encode(texts)
    assert largest_difference(cut.vectors, whole) < 1e-5
    assert len(cut.token_lengths) == 23


def test_shards_out_of_the_cache_and_new_ones_mix(
    bert_folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The middle shard is known; the others are tokenized, one of them ahead of its turn."""
    from evaluation.encoding import encoder as module

    monkeypatch.setattr(module, "shard_bounds", partial(shard_bounds, shard_texts=2))
    texts = [f"a text of {number}" for number in range(7)]
    cache = EmbeddingCache({"model": "bert"}, tmp_path, max_bytes=2**20)
    cached = Encoder(encoder.checkpoint, encoder.settings, cache=cache)
    cached.encode(texts[2:4])
    before = cached.tokens_encoded
    mixed = cached.encode(texts)
    assert largest_difference(mixed.vectors, vectors_of(encoder, texts)) < 1e-6
    assert cached.tokens_encoded - before == mixed.token_lengths.sum() - mixed.token_lengths[2:4].sum()


def test_stored_truncation_does_not_count(bert_folder: Path, bert_copy: Path, encoder: Encoder) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bert_folder / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(bert_copy / "tokenizer.json"))
    for backend in ("transformers", "sentence-transformers"):
        found = vectors_of(load(bert_copy, backend=backend), TEXTS)
        assert largest_difference(found, vectors_of(encoder, TEXTS)) < 1e-5


def test_bfloat16_is_close_to_float32(bert_folder: Path, encoder: Encoder) -> None:
    half, full = vectors_of(load(bert_folder, dtype="bfloat16"), TEXTS), vectors_of(encoder, TEXTS)
    assert half.dtype == np.float32
    cosines = (half * full).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(full, axis=1)
    assert cosines.min() > 0.99
    assert not np.array_equal(half, full)


# --------------------------------------------------------------------------------------------------------- references


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_equal_those_of_transformers(bert_folder: Path, pooling: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder).eval()
    expected = []
    for text in TEXTS:  # one at a time, so that nothing is padded
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=32)).last_hidden_state[0]
        expected.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling].numpy())
    found = vectors_of(load(bert_folder, pooling=pooling), TEXTS)
    assert largest_difference(found, np.stack(expected)) < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_both_backends_give_raw_vectors_that_agree(
    bert_copy: Path, declare_modules: Callable[..., None], pooling: str
) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Normalize", pooling=pooling, max_seq_length=16)
    changes = {"pooling": pooling, "max_length": 16}
    ours = load(bert_copy, **changes).encode(TEXTS)
    theirs = load(bert_copy, backend="sentence-transformers", **changes).encode(TEXTS)
    assert largest_difference(ours.vectors, theirs.vectors) < 1e-5
    assert ours.n_truncated == theirs.n_truncated == 1
    assert (np.abs(np.linalg.norm(theirs.vectors, axis=1) - 1) > 1e-2).all()


def test_sentence_transformers_itself_agrees_once_normalised(
    bert_copy: Path, declare_modules: Callable[..., None]
) -> None:
    from sentence_transformers import SentenceTransformer

    declare_modules(bert_copy, "Transformer", "Pooling", "Normalize", max_seq_length=16)
    reference = np.asarray(SentenceTransformer(str(bert_copy), device="cpu").encode(TEXTS))
    found = vectors_of(load(bert_copy, max_length=16), TEXTS)
    assert largest_difference(found / np.linalg.norm(found, axis=1, keepdims=True), reference) < 1e-5


def test_dense_module_runs_on_the_sentence_transformers_backend(
    bert_copy: Path, declare_modules: Callable[..., None]
) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Dense")
    found = vectors_of(load(bert_copy, backend="sentence-transformers"), TEXTS)
    (bert_copy / "modules.json").unlink()
    assert largest_difference(found, vectors_of(load(bert_copy), TEXTS)[:, :4]) < 1e-5


# ------------------------------------------------------------------------------------------------------------- faults


def change_weights(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    changed = [key for key in weights if name in key]
    assert changed, list(weights)
    for key in changed:
        weights[key] = torch.full_like(weights[key], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_an_error(bert_copy: Path, value: float) -> None:
    change_weights(bert_copy, "layer.1.output.LayerNorm.bias", value)
    with pytest.raises(EncodingError, match=r"2 of 2 vectors can't be used: the one of 'cat' is not finite"):
        load(bert_copy).encode(["cat", "dog", "cat"])


def test_vectors_of_zeros_are_an_error(bert_copy: Path) -> None:
    change_weights(bert_copy, "layer.1.output.LayerNorm", 0.0)
    with pytest.raises(EncodingError, match="is zero"):
        load(bert_copy).encode(["cat"])


def test_more_tokens_than_positions_are_an_error(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="max_length 33 is more than the 32 positions of local/tiny-bert"):
        load(bert_folder, max_length=33)


def test_dense_module_is_refused_by_our_forward_pass(bert_copy: Path, declare_modules: Callable[..., None]) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Dense")
    with pytest.raises(ModelError, match=r"modules that our forward pass does not run \(Dense\)"):
        load(bert_copy)


def test_other_pooling_than_declared_runs_on_both_backends(
    bert_copy: Path, declare_modules: Callable[..., None]
) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", pooling="mean")
    ours, theirs = (load(bert_copy, backend=name, pooling="cls") for name in ("transformers", "sentence-transformers"))
    assert largest_difference(vectors_of(ours, TEXTS), vectors_of(theirs, TEXTS)) < 1e-5
    assert largest_difference(vectors_of(ours, TEXTS), vectors_of(load(bert_copy), TEXTS)) > 1e-2


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"PK\x03\x04 no safetensors"], ids=["empty", "zeros", "zip"])
def test_damaged_weights_are_a_model_error(bert_copy: Path, backend: str, content: bytes) -> None:
    (bert_copy / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"local/tiny-bert can't be loaded from .*tiny-bert"):
        load(bert_copy, backend=backend)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_weights_of_another_size_are_a_model_error(bert_copy: Path, backend: str) -> None:
    weights = load_file(bert_copy / "model.safetensors")
    name = next(name for name in weights if "layer.1.output.dense.weight" in name)
    weights[name] = torch.zeros(4, 4)
    save_file(weights, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="can't be loaded"):
        load(bert_copy, backend=backend)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_missing_weights_are_a_model_error(bert_copy: Path, backend: str) -> None:
    """transformers fills in random numbers and only warns: a score of those is no score."""
    weights = load_file(bert_copy / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layer\.1"):
        load(bert_copy, backend=backend)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_checkpoint_with_a_head_is_loaded(bert_copy: Path, encoder: Encoder, backend: str) -> None:
    """Weights beyond the encoder, and names below `bert.`, are what the Hub is full of."""
    weights = {f"bert.{name}": tensor for name, tensor in load_file(bert_copy / "model.safetensors").items()}
    weights["cls.predictions.bias"] = torch.zeros(3)
    save_file(weights, bert_copy / "model.safetensors", metadata={"format": "pt"})
    assert largest_difference(vectors_of(load(bert_copy, backend=backend), TEXTS), vectors_of(encoder, TEXTS)) < 1e-5
