"""The vectors on disk: found by content, whole shards only, damage noticed, several processes at once, a size limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.encoding.cache import CachedShard, EmbeddingCache, clear, hash_texts, prune, usage
from evaluation.encoding.encoder import Encoder
from evaluation.encoding.settings import EncoderSettings

IDENTITY = {"weights": "w", "dtype": "float32"}
GIB = 2**30


def shard(texts: list[str], dim: int = 4, *, plus: float = 0.0) -> CachedShard:
    """Vectors that can be told by their text."""
    base = np.array([[len(text), *map(ord, text[: dim - 1].ljust(dim - 1))] for text in texts], np.float32)
    return CachedShard(base + np.float32(plus), np.array([len(text) for text in texts], np.int64))


def open_cache(folder: Path, identity: dict[str, str] | None = None) -> EmbeddingCache:
    return EmbeddingCache(identity or IDENTITY, folder, max_bytes=GIB)


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(100)]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    found = open_cache(tmp_path).get(hash_texts(texts[::-1]))
    assert found is not None
    np.testing.assert_array_equal(found.vectors, shard(texts[::-1]).vectors)
    np.testing.assert_array_equal(found.token_lengths, shard(texts[::-1]).token_lengths)


def test_a_shard_with_one_unknown_text_is_not_taken_at_all(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.put(hash_texts(["a", "b"]), shard(["a", "b"]))
    assert cache.get(hash_texts(["a", "c"])) is None
    assert cache.get(hash_texts(["b"])) is not None


def test_shards_written_apart_are_found_together(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    for text in ("a", "b", "c"):
        cache.put(hash_texts([text]), shard([text]))
    found = cache.get(hash_texts(["c", "a", "b"]))
    assert found is not None
    np.testing.assert_array_equal(found.vectors, shard(["c", "a", "b"]).vectors)


def test_other_weights_share_nothing(tmp_path: Path) -> None:
    open_cache(tmp_path).put(hash_texts(["a"]), shard(["a"]))
    assert open_cache(tmp_path, IDENTITY | {"weights": "others"}).get(hash_texts(["a"])) is None


def test_lone_surrogates_and_empty_texts_have_hashes_of_their_own() -> None:
    hashes = hash_texts(["", " ", "\ud800", "\ud801", "\x00"])
    assert len({tuple(row) for row in hashes.tolist()}) == 5


@pytest.mark.parametrize("at", [0, 10, 40, 90, 100, 130, -1], ids=lambda at: f"byte {at}")
def test_a_flipped_byte_is_noticed_and_never_used(tmp_path: Path, at: int) -> None:
    texts = ["a", "b", "c"]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    file = next(tmp_path.glob("*/*.seg"))
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)
    cache = open_cache(tmp_path)
    assert cache.get(hash_texts(texts)) is None
    assert cache.damaged == [file]
    assert not file.exists()
    cache.put(hash_texts(texts), shard(texts))
    assert cache.get(hash_texts(texts)) is not None


@pytest.mark.parametrize("keep", [0, 5, 87, 100, 150])
def test_a_truncated_segment_is_noticed(tmp_path: Path, keep: int) -> None:
    texts = ["a", "b", "c"]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    file = next(tmp_path.glob("*/*.seg"))
    file.write_bytes(file.read_bytes()[:keep])
    cache = open_cache(tmp_path)
    assert cache.get(hash_texts(texts)) is None
    assert cache.damaged == [file]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    cache = open_cache(blocked / "below")
    cache.put(hash_texts(["a"]), shard(["a"]))
    assert cache.get(hash_texts(["a"])) is None


def test_the_limit_drops_what_was_unused_for_longest(tmp_path: Path) -> None:
    import os

    cache = open_cache(tmp_path)
    for number, text in enumerate(("old", "middle", "new")):
        cache.put(hash_texts([text]), shard([text], dim=256))
        newest = max(tmp_path.glob("*/*.seg"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, (1_000 + number, 1_000 + number))
    one = next(tmp_path.glob("*/*.seg")).stat().st_size
    assert prune(2 * one, tmp_path) == one
    assert cache.get(hash_texts(["old"])) is None
    assert cache.get(hash_texts(["new"])) is not None


def test_usage_and_clear(tmp_path: Path) -> None:
    open_cache(tmp_path).put(hash_texts(["a"]), shard(["a"]))
    (row,) = usage(tmp_path)
    assert row.identity == IDENTITY
    assert row.n_segments == 1
    assert clear(tmp_path) >= row.n_bytes
    assert usage(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from test_cache import hash_texts, open_cache, shard
cache = open_cache(Path(sys.argv[1]))
for round_ in range(20):
    texts = [f"round {round_} text {number}" for number in range(50)]
    hashes = hash_texts(texts)
    found = cache.get(hashes)
    if found is None:
        cache.put(hashes, shard(texts))
        found = cache.get(hashes)
    assert found is not None and (found.vectors == shard(texts).vectors).all()
assert not cache.damaged
"""


def test_two_processes_write_and_read_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said


def test_the_encoder_takes_from_the_cache_what_it_stored(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from evaluation.models.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(Path(tiny_checkpoint), name="local/tiny", revision=None)
    settings = EncoderSettings("transformers", "mean", 64, "float32", "cpu", 1_024)
    texts = ["one text", "another text that is longer", "one text", ""]
    first = Encoder(checkpoint, settings, cache=open_cache(tmp_path))
    second = Encoder(checkpoint, settings, cache=open_cache(tmp_path))
    stored = first.encode(texts, prefix="query: ")
    taken = second.encode(texts, prefix="query: ")
    np.testing.assert_array_equal(stored.vectors, taken.vectors)
    np.testing.assert_array_equal(stored.token_lengths, taken.token_lengths)
    assert taken.examples == stored.examples
    assert first.tokens_encoded > 0
    assert second.tokens_encoded == 0
    second.encode(texts, prefix="passage: ")
    assert second.tokens_encoded > 0
