"""The vectors on disk: found by content, whole shards only, damage noticed, several processes at once, a size limit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evaluation.encoding.cache import EmbeddingCache, hash_texts
from evaluation.encoding.cache_files import CachedShard, clear, prune, usage
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


def test_a_shard_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(100)]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    found = open_cache(tmp_path).get(hash_texts(texts))
    assert found is not None
    assert (found.vectors.dtype, found.token_lengths.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(found.vectors, shard(texts).vectors)
    np.testing.assert_array_equal(found.token_lengths, shard(texts).token_lengths)


@pytest.mark.parametrize("texts", [["a"], ["b", "a"], ["a", "b", "c"], ["a", "c"]])
def test_another_shard_takes_nothing_of_it(tmp_path: Path, texts: list[str]) -> None:
    """Batches, and so the last bits of vectors, follow the shard."""
    cache = open_cache(tmp_path)
    cache.put(hash_texts(["a", "b"]), shard(["a", "b"]))
    assert cache.get(hash_texts(texts)) is None
    assert cache.get(hash_texts(["a", "b"])) is not None


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
    file = next(tmp_path.glob("*/*.safetensors"))
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)
    cache = open_cache(tmp_path)
    assert cache.get(hash_texts(texts)) is None
    assert not file.exists()
    assert file.with_suffix(".damaged").read_bytes() == content
    cache.put(hash_texts(texts), shard(texts))
    assert cache.get(hash_texts(texts)) is not None


@pytest.mark.parametrize("keep", [0, 5, 87, 100, 150])
def test_a_truncated_segment_is_noticed(tmp_path: Path, keep: int) -> None:
    texts = ["a", "b", "c"]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    file = next(tmp_path.glob("*/*.safetensors"))
    file.write_bytes(file.read_bytes()[:keep])
    cache = open_cache(tmp_path)
    assert cache.get(hash_texts(texts)) is None
    assert not file.exists()


def test_a_shard_is_a_safetensors_file(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    open_cache(tmp_path).put(hash_texts(texts), shard(texts))
    found = load_file(next(tmp_path.glob("*/*.safetensors")))
    assert set(found) == {"hashes", "token_lengths", "vectors"}
    np.testing.assert_array_equal(found["vectors"], shard(texts).vectors)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_shard_with_the_sha256_of_earlier_releases_is_read_and_checked(tmp_path: Path, is_damaged: bool) -> None:
    texts = ["a", "b"]
    cache, vectors = open_cache(tmp_path), shard(texts)
    cache.put(hash_texts(texts), shard(["another", "shard"]))
    file = next(tmp_path.glob("*/*.safetensors"))
    digest = hashlib.sha256()
    digest.update(b"hashes uint64 (2, 2)" + hash_texts(texts).tobytes())
    digest.update(b"token_lengths int64 (2,)" + vectors.token_lengths.tobytes())
    digest.update(b"vectors float32 (2, 4)" + vectors.vectors.tobytes())
    tensors = {"hashes": hash_texts(texts), "token_lengths": vectors.token_lengths, "vectors": vectors.vectors}
    save_file(tensors, file, {"sha256": digest.hexdigest()})
    if is_damaged:
        file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    found = open_cache(tmp_path).get(hash_texts(texts))
    assert (found is None) == is_damaged
    if found is not None:
        np.testing.assert_array_equal(found.vectors, vectors.vectors)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    cache = open_cache(blocked / "below")
    cache.put(hash_texts(["a"]), shard(["a"]))
    assert cache.get(hash_texts(["a"])) is None


def test_the_limit_drops_what_was_unused_for_longest(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    for number, text in enumerate(("old", "middle", "new")):
        cache.put(hash_texts([text]), shard([text], dim=256))
        newest = max(tmp_path.glob("*/*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, (1_000 + number, 1_000 + number))
    one = next(tmp_path.glob("*/*.safetensors")).stat().st_size
    assert prune(2 * one, tmp_path) == one
    assert cache.get(hash_texts(["old"])) is None
    assert cache.get(hash_texts(["new"])) is not None


def test_usage_and_clear(tmp_path: Path) -> None:
    open_cache(tmp_path).put(hash_texts(["a"]), shard(["a"]))
    (row,) = usage(tmp_path)
    assert row.identity == IDENTITY
    assert row.n_shards == 1
    assert clear(tmp_path) >= row.n_bytes
    assert usage(tmp_path) == []


def test_only_own_names_are_deleted_and_never_through_a_link(tmp_path: Path) -> None:
    """A run prunes after each shard; `embedding-cache clear` takes all."""
    root, theirs = tmp_path / "embeddings", tmp_path / "theirs"
    cache = open_cache(root)
    cache.put(hash_texts(["a"]), shard(["a"]))
    (own,) = root.iterdir()
    theirs.mkdir()
    (root / ("b" * 24)).symlink_to(theirs)
    (root / "notes").mkdir()
    names = (".bashrc", "identity.json", f"{'c' * 24}.safetensors", f".{'c' * 24}.safetensors.x.tmp", "thesis.txt")
    kept = [theirs / name for name in names] + [root / "notes" / names[2], own / "thesis.txt", own / ".hidden"]
    for file in kept:
        file.write_text("precious", encoding="utf-8")
        os.utime(file, (1_000, 1_000))
    unfinished = own / f".{'c' * 24}.safetensors.0123456789abcdef.tmp"
    unfinished.write_text("half", encoding="utf-8")
    os.utime(unfinished, (1_000, 1_000))
    link = own / f"{'d' * 24}.safetensors"
    link.symlink_to(theirs / "thesis.txt")
    assert prune(0, root) > 0
    assert not unfinished.exists()
    clear(root)
    assert all(file.read_text(encoding="utf-8") == "precious" for file in kept)
    assert sorted(file.name for file in own.iterdir()) == sorted(["thesis.txt", ".hidden", link.name])
    open_cache(root).put(hash_texts(["a"]), shard(["a"]))
    assert len(usage(root)) == 1


def test_files_of_earlier_releases_are_counted_and_dropped(tmp_path: Path) -> None:
    folder = tmp_path / ("0" * 24)
    folder.mkdir()
    (folder / f"{'1' * 24}.seg").write_bytes(b"12345")
    assert [(row.n_shards, row.n_bytes) for row in usage(tmp_path)] == [(1, 5)]
    assert prune(0, tmp_path) == 5


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        open_cache(tmp_path).put(hash_texts(["a"]), shard(["a"]))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("*/*")} == {0o600}


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
assert not list(Path(sys.argv[1]).rglob("*.damaged"))
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
