"""Shards that are stored behind the model: the same files, a bounded number under way, nothing half after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.encoding import encoder as encoder_module
from evaluation.encoding.cache import EmbeddingCache, hash_texts
from evaluation.encoding.cache_files import CachedShard, read_shard
from evaluation.encoding.encoder import Encoder
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.shard_vectors import ShardVectors
from evaluation.encoding.shard_writer import ShardWriter
from evaluation.errors import EncodingError
from evaluation.models.checkpoint import read_checkpoint

SETTINGS = EncoderSettings("transformers", "mean", 32, "float32", "cpu", 64)
TEXTS = [f"text {'very ' * (number % 5)}{number}" for number in range(20)]


def open_cache(folder: Path) -> EmbeddingCache:
    return EmbeddingCache({"weights": "w"}, folder, max_bytes=2**30)


@pytest.fixture
def shards_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(unique: list[str], settings: EncoderSettings) -> list[list[str]]:
        return [unique[start : start + 5] for start in range(0, len(unique), 5)]

    monkeypatch.setattr(encoder_module, "cut_into_shards", cut)


def load(bert_folder: Path, folder: Path, n_behind: int) -> Encoder:
    checkpoint = read_checkpoint(bert_folder, name="local/tiny", revision=None)
    return Encoder(checkpoint, SETTINGS, cache=open_cache(folder), n_behind=n_behind)


@pytest.mark.usefixtures("shards_of_five")
def test_the_same_vectors_and_files_whether_behind_the_model_or_not(bert_folder: Path, tmp_path: Path) -> None:
    found, files = [], []
    for n_behind in (0, 2):
        encoder = load(bert_folder, tmp_path / str(n_behind), n_behind)
        found.append(encoder.encode(TEXTS, prefix="query: "))
        encoder.flush()
        written = (tmp_path / str(n_behind)).glob("*/*.safetensors")
        files.append({file.name: file.read_bytes() for file in written})
    assert np.array_equal(found[0].vectors, found[1].vectors)
    assert np.array_equal(found[0].token_lengths, found[1].token_lengths)
    assert len(files[0]) == 4
    assert files[0] == files[1]
    again = load(bert_folder, tmp_path / "2", 2)
    assert np.array_equal(again.encode(TEXTS, prefix="query: ").vectors, found[0].vectors)
    assert again.tokens_encoded == 0


@pytest.mark.usefixtures("shards_of_five")
def test_what_a_caller_does_to_its_vectors_does_not_reach_the_disk(bert_folder: Path, tmp_path: Path) -> None:
    encoder = load(bert_folder, tmp_path, 2)
    hold = threading.Event()
    put = encoder._cache.put  # type: ignore[union-attr]

    def put_later(hashes: Any, shard: CachedShard) -> None:
        hold.wait(20)
        put(hashes, shard)

    encoder._cache.put = put_later  # type: ignore[method-assign, union-attr]
    vectors = encoder.encode(TEXTS[:10]).vectors
    expected = vectors.copy()
    vectors[:] = 0
    hold.set()
    encoder.flush()
    assert np.array_equal(load(bert_folder, tmp_path, 0).encode(TEXTS[:10]).vectors, expected)


@pytest.mark.usefixtures("shards_of_five")
@pytest.mark.parametrize("n_behind", [0, 2])
def test_a_bad_vector_stops_the_call_and_leaves_no_shard_locked(
    bert_folder: Path, tmp_path: Path, n_behind: int
) -> None:
    encoder = load(bert_folder, tmp_path, n_behind)
    forward, n_batches = encoder._model.forward, 0

    def spoilt(tokens: Any, rows: Any) -> torch.Tensor:
        nonlocal n_batches
        n_batches += 1
        vectors = forward(tokens, rows)
        return vectors * torch.nan if n_batches > 12 else vectors

    encoder._model.forward = spoilt  # type: ignore[method-assign]
    with pytest.raises(EncodingError, match="not finite"):
        encoder.encode([*TEXTS, *(f"more {number}" for number in range(300))])
    encoder.flush()
    assert not list(tmp_path.glob("*/.*.claim"))
    for file in tmp_path.glob("*/*.safetensors"):
        stored = read_shard(file)
        assert stored is not None
        assert np.isfinite(stored[1].vectors).all()


def test_norms_beyond_doubt_are_left_to_the_exact_check() -> None:
    """A norm of 1e-19 is usable, one of 5e-21 is not: the device's sum of squares can't tell them apart."""
    for row, is_sure in (([3.0, 4.0], True), ([1e-19, 0.0], False), ([3e20, 4e20], False), ([np.nan, 1.0], False)):
        first = torch.tensor([row, [1.0, 0.0]])
        collected = ShardVectors(3, first)
        collected.add(first, np.array([2, 0]))
        collected.add(torch.tensor([[0.5, 0.5]]), np.array([1]))
        collected.send()
        vectors, are_usable = collected.arrived()
        assert are_usable == is_sure
        np.testing.assert_array_equal(vectors, np.array([[1.0, 0.0], [0.5, 0.5], row], np.float32))


def test_at_most_so_many_shards_wait_for_the_disk(tmp_path: Path) -> None:
    cache, hold, stored = open_cache(tmp_path), threading.Event(), []

    def put(hashes: Any, shard: CachedShard) -> None:
        hold.wait(20)
        stored.append(len(shard.vectors))

    cache.put = put  # type: ignore[method-assign]
    writer = ShardWriter(cache, 2)
    shards = [CachedShard(np.ones((n, 2), np.float32), np.ones(n, np.int64)) for n in (1, 2, 3)]
    for shard in shards[:2]:
        writer.put(hash_texts(["a"]), shard)
    third = threading.Thread(target=writer.put, args=(hash_texts(["a"]), shards[2]))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    assert stored == []
    hold.set()
    third.join(20)
    writer.flush()
    assert stored == [1, 2, 3]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from evaluation.encoding.cache import EmbeddingCache, hash_texts
from evaluation.encoding.cache_files import CachedShard
from evaluation.encoding.shard_writer import ShardWriter
folder, n_calls = Path(sys.argv[1]), int(sys.argv[2])
cache = EmbeddingCache({"weights": "w"}, folder, max_bytes=2**30)
writer, fsync, done = ShardWriter(cache, 2), os.fsync, []
def killing(handle):
    done.append(handle)
    if len(done) == n_calls:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = killing
for number in range(10):
    hashes = hash_texts([f"text {number}"])
    assert cache.get(hashes) is None
    writer.put(hashes, CachedShard(np.full((1, 8), number, np.float32), np.ones(1, np.int64)))
    print(number, flush=True)
"""


@pytest.mark.parametrize("n_calls", [6, 11])
def test_a_killed_process_loses_what_was_under_way_and_leaves_nothing_half(tmp_path: Path, n_calls: int) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(n_calls)], capture_output=True, text=True, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    begun = [int(line) for line in killed.stdout.split()]
    cache = open_cache(tmp_path)
    found = [cache.get(hash_texts([f"text {number}"])) for number in range(10)]
    kept = [number for number, shard in enumerate(found) if shard is not None]
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(begun) - 2
    for number in kept:
        assert (found[number].vectors == number).all()  # type: ignore[union-attr]
    assert not list(tmp_path.glob("*/*.damaged"))
    assert not list(tmp_path.glob("*/.*.tmp"))
