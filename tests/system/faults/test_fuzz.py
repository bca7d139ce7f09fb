"""Every reader of files against mutated files: a refusal in a sentence, or a result that its oracle accepts.

Sealed files give a refusal or the original; what a forger sealed again gives a refusal or anything typed; data and
configs give what pandas, pyarrow, json and PyYAML read. Never a traceback, a hang, or memory.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from support.fake_runs import retrieval, sts, write_run
from support.mutations import Mutation, mutate_bytes, mutate_json

from evaluation import load_config
from evaluation.analysis.frame import results_frame
from evaluation.analysis.gate import baseline_file
from evaluation.analysis.gate.snapshots import read_run
from evaluation.encoding.cache_files import CachedShard, read_shard, write_shard
from evaluation.errors import EvaluationError
from evaluation.hub.lock import read_lock
from evaluation.planning.calibration import Calibration
from evaluation.records.store import RunStore
from evaluation.tasks.local.folders import read_local_data

SHORT, LONG = 50, 2_000
SECONDS, MEMORY_MB = 10, 1_000


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        content: A sound file.
        name: Its name below the folder.
        read: Reads the file, given the folder.
        accepts: Whether a result is right for a content.
        mutations: What is done to it.
        folder: Prepares the folder around the file.
    """

    content: bytes
    name: str
    read: Callable[[Path], Any]
    accepts: Callable[[bytes, Any], bool]
    mutations: tuple[Mutation, ...] = (mutate_bytes,)
    folder: Callable[[Path], object] = lambda folder: None


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sealed_again(content: bytes, rng: random.Random) -> bytes:
    """A forger's change: the values are others, the checksum fits."""
    document = {name: value for name, value in json.loads(content).items() if name != "sha256"}
    changed = json.loads(mutate_json(json.dumps(document).encode(), rng))
    body = json.dumps(changed, indent=1).removesuffix("\n}").encode()
    return body + b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def baseline_again(content: bytes, rng: random.Random) -> bytes:
    """The same for a baseline, and for the units in it."""
    document = json.loads(content)
    if rng.random() < 0.5:
        own = next(iter(document["units"].values()))
        name = rng.choice(sorted(own))
        own[name] = base64.b64encode(mutate_units(base64.b64decode(own[name]), rng)).decode()
    else:
        document = json.loads(mutate_json(content, rng))
    if isinstance(document, dict):
        document["checksum"] = baseline_file._checksum(document)
    return json.dumps(document).encode()


def mutate_units(packed: bytes, rng: random.Random) -> bytes:
    import zlib

    head, _, numbers = zlib.decompress(packed).partition(b"\n")
    changed = mutate_json(head, rng) if rng.random() < 0.7 else mutate_bytes(head, rng)
    return zlib.compress(changed + b"\n" + (numbers if rng.random() < 0.7 else mutate_bytes(numbers, rng)))


# ------------------------------------------------------------------------------------------------------------- readers


def run_reader(folder: Path, name: str) -> Reader:
    """run.json or a record of a small run, as all commands that read runs see them."""
    rng = np.random.default_rng(0)
    jobs = [sts(rng.random(12), rng.random(12)), retrieval(rng.random(9))]
    write_run(folder / "run", jobs)
    file = next((folder / "run").rglob(name))

    def read(there: Path) -> Any:
        store = RunStore(there / "run")
        with suppress(EvaluationError):
            read_run(there / "run")  # the gate's way to the same files
        return results_frame(there / "run").to_json(), [record.model_dump() for record in store.current_records()]

    original = read(folder)
    return Reader(
        content=file.read_bytes(),
        name=str(file.relative_to(folder)),
        read=read,
        accepts=lambda content, found: found == original or forged(content),
        mutations=(mutate_bytes, sealed_again),
        folder=lambda there: shutil.copytree(folder / "run", there / "run"),
    )


def forged(content: bytes) -> bool:
    """Whether a file is sealed, so that it may give other numbers."""
    body, _, seal = content.rpartition(b',\n "sha256": "')
    return hashlib.sha256(body).hexdigest().encode() == seal.removesuffix(b'"\n}\n')


def baseline_reader(folder: Path) -> Reader:
    rng = np.random.default_rng(0)
    write_run(folder / "run", [sts(rng.random(12), rng.random(12)), retrieval(rng.random(9))])
    return Reader(
        content=baseline_file.baseline_bytes(read_run(folder / "run")),
        name="baseline.json",
        read=lambda there: baseline_file.load_baseline(there / "baseline.json"),
        accepts=lambda content, found: all(math.isfinite(job.score) for job in found.jobs),
        mutations=(mutate_bytes, baseline_again),
    )


def config_reader(folder: Path) -> Reader:
    content = (Path(__file__).parents[3] / "configs" / "regression.yaml").read_bytes()

    def accepts(content: bytes, found: Any) -> bool:
        read = yaml.safe_load(content.decode("utf-8-sig"))
        labels = [str(model["label"]) for model in read["models"]]
        return found.name == str(read["name"]) and [model.label for model in found.models] == labels

    return Reader(content, "c.yaml", lambda there: load_config(there / "c.yaml"), accepts)


def lock_reader(folder: Path) -> Reader:
    entry = {"kind": "model", "repository": "a/b", "asked": "main", "revision": "c" * 40, "licence": None, "files": {}}
    content = json.dumps({"lock_version": 2, "repositories": [entry, {**entry, "kind": "dataset"}]}).encode()
    return Reader(
        content, "c.lock.json", lambda there: read_lock(there / "c.lock.json"),
        lambda content, found: len(found) <= len(json.loads(content)["repositories"]), (mutate_bytes, mutate_json),
    )  # fmt: skip


def planning_reader(folder: Path) -> Reader:
    known = Calibration(folder / "p.json")
    known.note_texts("bert-uncased", "english", "T", 400, 100)
    known.note_speed("here", "shape", {16: 1e-5, 128: 2e-5})
    known.note_scoring("here", "T", 1.5)
    known.save()

    def read(there: Path) -> tuple[float, float | None]:
        found = Calibration(there / "p.json")
        found.note_texts("bert-uncased", "other", "U", 30, 10)
        found.save()
        return found.characters_per_token("bert-uncased", "english", "T"), found.scoring_s("here", "T")

    content = (folder / "p.json").read_bytes()
    return Reader(content, "p.json", read, lambda content, found: True, (mutate_bytes, mutate_json))


def segment_reader(folder: Path) -> Reader:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 7).astype(np.uint64)
    shard = CachedShard(rng.random((7, 5), np.float32), np.arange(7))
    write_shard(folder / "s.safetensors", hashes, shard)

    def accepts(content: bytes, found: Any) -> bool:
        return found is None or (np.array_equal(found[0], hashes) and np.array_equal(found[1].vectors, shard.vectors))

    content = (folder / "s.safetensors").read_bytes()
    return Reader(content, "s.safetensors", lambda there: read_shard(there / "s.safetensors"), accepts)


ROWS = [{"sentence1": f"river {n}", "sentence2": f'stone "{n}", é', "score": n / 2} for n in range(12)]


def data_reader(content: bytes, suffix: str, by_pandas: Callable[[bytes], list[dict[str, Any]]]) -> Reader:
    """Local data of type STS; accepted is what pandas or json reads."""

    def read(there: Path) -> list[dict[str, Any]]:
        columns = read_local_data(there, "STS").subsets["default"]["test"].columns
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def accepts(content: bytes, found: Any) -> bool:
        expected = by_pandas(content)
        return len(found) == len(expected) and all(
            one["sentence1"] == other["sentence1"]
            and one["sentence2"] == other["sentence2"]
            and one["score"] == pytest.approx(float(other["score"]))
            for one, other in zip(found, expected, strict=True)
        )

    return Reader(content, f"test{suffix}", read, accepts)


def by_json(content: bytes) -> list[dict[str, Any]]:
    text = content.decode("utf-8-sig")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [json.loads(json.dumps(row).encode().replace(b"\\ud800", b"\\ufffd")) for row in rows]


def by_csv(content: bytes) -> list[dict[str, Any]]:
    frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    return frame.rename(columns=str.strip).to_dict("records")


def table_bytes(write: Callable[[pd.DataFrame, io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    write(pd.DataFrame(ROWS), sink)
    return sink.getvalue()


READERS: dict[str, Callable[[Path], Reader]] = {
    "config": config_reader,
    "record": lambda folder: run_reader(folder, "record.json"),
    "run.json": lambda folder: run_reader(folder, "run.json"),
    "baseline": baseline_reader,
    "lock": lock_reader,
    "planning": planning_reader,
    "cache segment": segment_reader,
    "jsonl": lambda folder: data_reader("".join(json.dumps(row) + "\n" for row in ROWS).encode(), ".jsonl", by_json),
    "csv": lambda folder: data_reader(table_bytes(lambda t, sink: t.to_csv(sink, index=False)), ".csv", by_csv),
    "parquet": lambda folder: data_reader(
        table_bytes(lambda t, sink: t.to_parquet(sink)),
        ".parquet",
        lambda content: pq.read_table(io.BytesIO(content)).to_pylist(),
    ),
}


@pytest.mark.parametrize("n", [SHORT, pytest.param(LONG, marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", READERS)
def test_mutated_files_are_refused_or_read_as_the_oracle_reads_them(kind: str, n: int, tmp_path: Path) -> None:
    (tmp_path / "sound").mkdir()
    reader = READERS[kind](tmp_path / "sound")
    there = tmp_path / "there"
    there.mkdir()
    reader.folder(there)
    file = there / reader.name
    file.write_bytes(reader.content)
    assert reader.accepts(reader.content, reader.read(there)), "the sound file is read"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, failures = 0, []
    for seed in range(n):
        rng = random.Random(f"{kind} {seed}")
        content = rng.choice(reader.mutations)(reader.content, rng)
        file.write_bytes(content)
        try:
            with time_limit():
                found = reader.read(there)
            if not reader.accepts(content, found):
                failures.append((seed, "is read as something else", content[:2_000]))
        except EvaluationError as error:
            refused += 1
            if not str(error) or "Traceback" in str(error):
                failures.append((seed, f"refused as {error!r}", b""))
        except Exception as error:
            failures.append((seed, f"{type(error).__name__}: {error}"[:500], content[:2_000]))
    assert failures[:5] == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEMORY_MB
    assert refused or kind in {"planning", "cache segment"}, "the mutations do not reach the reader"
