"""Every kind of stored file, cut short and with one bit turned: noticed, said, set aside, never used, made again."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.watched_runs import SHARD_TEXTS, Scores, scores_of

from evaluation import load_config, results_frame, run
from evaluation.analysis.run_view import read_run_view
from evaluation.commands.run_benchmark.run import write_summaries
from evaluation.encoding import batching
from evaluation.encoding.cache import EmbeddingCache, hash_texts
from evaluation.encoding.cache_files import CachedShard, usage
from evaluation.errors import DamagedFileError, StoreError
from evaluation.execution.reporting import RunOutcome
from evaluation.execution.runner import RunOptions
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import read_sealed_json, write_sealed_json

KINDS = {
    "run.json": "results/small/run.json",
    "record": "results/small/jobs/tiny/Search/*/record.json",
    "samples": "results/small/jobs/tiny/Search/*/samples.parquet",
    "ranking": "results/small/jobs/tiny/Search/*/run.parquet",
    "texts": "results/small/jobs/tiny/Search/*/texts.parquet",
    "what goes to mteb": "results/small/jobs/tiny/Search/*/mteb.json",
    "mteb's result": "results/small/mteb/results/*/*/experiments/*/Search.json",
    "mteb's model": "results/small/mteb/results/*/*/experiments/*/model_meta.json",
    "summary.csv": "results/small/summary.csv",
    "summary.md": "results/small/summary.md",
    "vectors": "cache/embeddings/*/*.safetensors",
}
READ_BY_ANALYSIS = ["run.json", "record", "samples", "ranking", "texts"]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


@pytest.fixture
def stored(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the undisturbed run with its cache, in which tests may do harm."""
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(folder / "cache"))
    monkeypatch.setitem(batching.shard_bounds.__kwdefaults__, "shard_texts", SHARD_TEXTS)
    return folder


def start_again(folder: Path, **options: bool) -> RunOutcome:
    """What the command does, in this process."""
    config = load_config(folder / "small.yaml", overrides=[f"output={json.dumps(str(folder / 'results'))}"])
    outcome = run(config, RunOptions(**options))
    write_summaries(read_run_view(outcome.folder, skip_damaged=True), only_stored=outcome.n_executed == 0)
    return outcome


def harm(folder: Path, kind: str, damage: Callable[[bytes, random.Random], bytes], seed: int) -> Path:
    rng = random.Random(seed)
    file = rng.choice(sorted(folder.glob(KINDS[kind])))
    file.write_bytes(damage(file.read_bytes(), rng))
    return file


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 6))])
@pytest.mark.parametrize(
    "damage", [flip, pytest.param(cut, marks=pytest.mark.full), pytest.param(empty, marks=pytest.mark.full)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_said_and_mended(
    kind: str,
    damage: Callable[[bytes, random.Random], bytes],
    seed: int,
    stored: Path,
    expected: Scores,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = harm(stored, kind, damage, seed)
    broken = file.read_bytes()
    outcome = start_again(stored, fresh=kind == "vectors")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(str(file) in sentence for sentence in said)
    assert scores_of(outcome.folder) == expected
    assert outcome.n_executed == {"vectors": 4, **dict.fromkeys([*READ_BY_ANALYSIS[1:], "what goes to mteb"], 1)}.get(
        kind, 0
    )
    if not kind.startswith("summary"):
        aside = file.with_suffix(".damaged") if kind == "vectors" else file.with_name(file.name + ".damaged")
        assert aside.read_bytes() == broken
    caplog.clear()
    assert start_again(stored).n_executed == 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("damage", [flip, cut, empty])
@pytest.mark.parametrize("kind", READ_BY_ANALYSIS)
def test_analysis_refuses_damaged_files_by_name(
    kind: str, damage: Callable[[bytes, random.Random], bytes], stored: Path
) -> None:
    file = harm(stored, kind, damage, 3)
    with pytest.raises(DamagedFileError) as caught:
        results_frame(stored / "results" / "small")
    assert str(caught.value).startswith(f"{file} is damaged: ")
    assert "Start the same run again" in str(caught.value)


def test_analysis_notices_a_record_and_a_table_that_are_gone(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = stored / "results" / "small"
    (table,) = folder.glob("jobs/tiny/Pairs/*/samples.parquet")
    table.unlink()
    with pytest.raises(DamagedFileError, match=r"samples\.parquet is damaged: it is missing"):
        results_frame(folder)
    (record,) = folder.glob("jobs/tiny/Pairs/*/record.json")
    record.unlink()
    with pytest.raises(DamagedFileError, match=r"record\.json is damaged: it is missing"):
        results_frame(folder)
    assert len(read_run_view(folder, skip_damaged=True).records) == 3
    assert "record.json is damaged: it is missing" in caplog.text
    assert "It is left out." in caplog.text


def test_names_in_a_forged_run_file_can_not_lead_out(stored: Path) -> None:
    store = RunStore(stored / "results" / "small")
    content = store.read_run()
    for key, value in (("label", "../../.."), ("task", ".."), ("fingerprint", "/etc/passwd12"), ("label", "a/b")):
        jobs = tuple(job.model_copy(update={key: value}) for job in content.jobs)
        store.write_run(content.model_copy(update={"jobs": jobs}))
        with pytest.raises(StoreError, match="can't be the name of a job's folder"):
            store.current_records()


# ------------------------------------------------------------------------------------------------------- every byte


def test_every_bit_and_every_length_of_a_sealed_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "sealed.json"
    content = {"score": 0.5, "text": 'é \u2028 "', "nested": [1, None, True], "sha256 of": ""}
    write_sealed_json(file, content)
    assert read_sealed_json(file) == content
    assert json.loads(file.read_bytes()).keys() == {*content, "sha256"}
    good = file.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            file.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            with pytest.raises(DamagedFileError):
                read_sealed_json(file)
        file.write_bytes(good[:at])
        with pytest.raises(DamagedFileError):
            read_sealed_json(file)
    file.write_bytes(good + b"\n")
    with pytest.raises(DamagedFileError):
        read_sealed_json(file)


def test_every_byte_and_every_length_of_a_segment_counts(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    shard = CachedShard(np.arange(12, dtype=np.float32).reshape(3, 4), np.array([1, 2, 3]))
    cache = EmbeddingCache({"weights": "w"}, tmp_path, max_bytes=2**30)
    cache.put(hash_texts(texts), shard)
    (file,) = tmp_path.glob("*/*.safetensors")
    good = file.read_bytes()
    for at in range(len(good)):
        for content in (good[:at], good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]):
            file.write_bytes(content)
            opened = EmbeddingCache({"weights": "w"}, tmp_path, max_bytes=2**30)
            assert opened.get(hash_texts(texts)) is None
            assert not file.exists()
            assert file.with_suffix(".damaged").read_bytes() == content


def test_what_a_damaged_identity_says_is_not_shown(tmp_path: Path) -> None:
    EmbeddingCache({"weights": "w"}, tmp_path, max_bytes=2**30).put(
        hash_texts(["a"]), CachedShard(np.ones((1, 2), np.float32), np.ones(1, np.int64))
    )
    (file,) = tmp_path.glob("*/identity.json")
    assert usage(tmp_path)[0].identity == {"weights": "w"}
    file.write_text('{"weights": "x"}', encoding="utf-8")
    assert usage(tmp_path)[0].identity == {}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(content=st.dictionaries(st.text("abc", min_size=1), JSON, min_size=1, max_size=5), data=st.data())
def test_sealed_files_give_back_what_was_written_or_refuse(
    content: dict[str, object], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("sealed") / "file.json"
    write_sealed_json(file, content)
    assert read_sealed_json(file) == content
    good = file.read_bytes()
    start = data.draw(st.integers(0, len(good) - 1))
    put = data.draw(st.binary(max_size=5))
    changed = good[:start] + put + good[start + data.draw(st.integers(0, 5)) :]
    file.write_bytes(changed)
    if changed != good:
        with pytest.raises(DamagedFileError):
            read_sealed_json(file)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_cache_gives_back_what_was_put_whatever_the_shards(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Vectors are a function of their text here, so that every answer can be checked; None only for unknown shards."""
    folder = tmp_path_factory.mktemp("cache")
    pool = [f"text {number}" for number in range(12)] + ["", " ", "\ud800", "A", "a"]
    known: set[tuple[str, ...]] = set()
    for _ in range(data.draw(st.integers(1, 6))):
        cache = EmbeddingCache({"weights": "w"}, folder, max_bytes=2**30)
        shard = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6, unique=True))
        hashes = hash_texts(shard)
        vectors = (hashes[:, :1] >> np.arange(0, 48, 12, dtype=np.uint64)).astype(np.float32)
        lengths = (hashes[:, 1] % 100).astype(np.int64)
        found = cache.get(hashes)
        assert (found is not None) == (tuple(shard) in known)
        if found is not None:
            np.testing.assert_array_equal(found.vectors, vectors)
            np.testing.assert_array_equal(found.token_lengths, lengths)
        elif data.draw(st.booleans()):
            cache.put(hashes, CachedShard(vectors, lengths))
            known.add(tuple(shard))
        else:
            cache.put(hash_texts(["elsewhere"]), CachedShard(vectors[:1], lengths[:1]))
