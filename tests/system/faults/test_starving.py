"""Small files that describe gigabytes, each built for real: refused within seconds and memory, in one sentence.

What is large in earnest is read: limits are on values, depth and expansion.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.analysis.gate import baseline_file
from evaluation.encoding.cache_files import IDENTITY_FILE, folder_name, usage
from evaluation.encoding.endpoint_answers import server_words
from evaluation.encoding.packed_bert import UnsupportedArchitecture, read_architecture
from evaluation.errors import FolderInUseError
from evaluation.execution.run_lock import HOLDER_FILE, hold
from evaluation.system.parquet_files import check_expansion

MEMORY_MB, SECONDS = 1_000, 60
READERS = {
    "config": "from evaluation.config.loading import load_config; read = load_config",
    "baseline": "from evaluation.analysis.gate.baseline_file import load_baseline; read = load_baseline",
    "lock": "from evaluation.hub.lock import read_lock; read = read_lock",
    "sealed": "from evaluation.system.atomic_files import read_sealed_json; read = read_sealed_json",
    "sts": "from evaluation.tasks.local.folders import read_local_data as data\nread = lambda f: data(f.parent, 'STS')",
    "card": "from evaluation.models.declarations import read_declarations as card\nread = lambda f: card(f.parent)",
}
SCRIPT = """
import sys, time
from pathlib import Path
import pyarrow.parquet
{reader}
from evaluation.errors import EvaluationError
# getrusage counts the memory of the process that started this one, if it had more
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before, started = peak(), time.process_time()
try:
    read(Path(sys.argv[1]))
    said = ""
except EvaluationError as error:
    said = str(error)
print(f"{{peak() - before:.0f}} {{time.process_time() - started:.1f}} {{said}}")
"""


def attack(reader: str, file: Path) -> str:
    """What a new process says when it reads the file; fails if it takes too long or too much memory."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(reader=READERS[reader]), str(file)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    megabytes, seconds, said = done.stdout.rstrip("\n").split(" ", 2)
    assert float(megabytes) < MEMORY_MB, said
    assert float(seconds) < SECONDS, said
    return said


def aliases(levels: int, line: str) -> str:
    names = "abcdefghijklmnopqrstuvwxyz"[: levels + 1]
    rows = [
        line.format(name=name, of=",".join([f"*{before}"] * 9)) for before, name in zip(names, names[1:], strict=False)
    ]
    return f"{names[0]}: &{names[0]} {{x: y}}\n" + "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (aliases(9, "{name}: &{name} [{of}]"), "stands for more than 100,000 values"),
        (aliases(9, "{name}: &{name} {{<<: [{of}]}}"), "stands for more than 100,000 values"),
        ("a: &a {b: *a}\n", "an alias (*name) stands for a value that contains it"),
        ("[" * 100_000, "nested too deeply"),
        ("a: [" + "1," * 200_000 + "1]", "holds more than 100,000 values"),
        ("a: " + "b" * 1_000_000, "at most 524,288 are read"),
        ("a: 1" + ":59" * 4_000, "4300 digits"),
    ],
    ids=["aliases", "merged aliases", "alias of itself", "depth", "width", "length", "number"],
)
def test_config(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    said = attack("config", file)
    assert says in said
    assert said.startswith(str(file))


def test_model_card_with_an_alias_bomb_says_nothing(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"---\n{aliases(12, '{name}: &{name} [{of}]')}\n---\n", encoding="utf-8")
    assert attack("card", card) == ""


# ---------------------------------------------------------------------------------------------------------- baselines


def zeros(n_megabytes: int) -> bytes:
    """zlib data of so many megabytes of zeros, made without them."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(n_megabytes):
        checksum = zlib.adler32(bytes(1 << 20), checksum)
    return first + block * (n_megabytes - 1) + b"\x03\x00" + struct.pack(">I", checksum)


def units(parts: list[dict[str, object]], content: bytes = b"") -> bytes:
    head = {
        "format": "e5-evaluation units 1",
        "task": "T",
        "type": "STS",
        "metric": "m",
        "statistic": "mean",
        "kind": "query",
    }
    return zlib.compress(json.dumps({**head, "parts": parts}).encode() + b"\n" + content)


def baseline(file: Path, packed: bytes) -> Path:
    job = {"label": "a", "task": "T", "type": "STS", "metric": "m", "score": 0.5, "aggregate": None, "conditions": {}}
    content = {
        "format": baseline_file.FORMAT, "schema_version": baseline_file.SCHEMA_VERSION, "checksum": "", "run": "r",
        "models": {"a": {}}, "versions": {}, "jobs": [job], "units": {"a": {"T": base64.b64encode(packed).decode()}},
    }  # fmt: skip
    content["checksum"] = baseline_file._checksum(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def part(n: object, dtype: str, shape: list[int]) -> dict[str, object]:
    return {"split": "s", "subset": "d", "n": n, "ids": None, "arrays": {"value": [dtype, shape]}}


def test_helper_makes_true_zlib_data() -> None:
    assert zlib.decompress(zeros(3)) == bytes(3 << 20)


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        pytest.param(lambda: zeros(4_096), "expands to more than", marks=pytest.mark.full),
        (lambda: units([part(10**10, "<f8", [1])], bytes(8)), "the number of units is 10000000000"),
        (lambda: units([part(10**9, "|u1", [10**9])]), "more than 33,554,432 numbers"),
        (lambda: units([part(1, "|u1", [1 << 25])] * 9, bytes(1 << 25)), "more than 33,554,432 numbers"),
        (lambda: units([part(-1, "|u1", [-1])], bytes(1 << 20)), "damaged"),
        (lambda: units([part(1, "O", [1])], bytes(8)), "damaged"),
    ],
    ids=["4 GB of zeros", "n", "shape", "shapes", "negative", "objects"],
)
def test_baseline(tmp_path: Path, packed: Callable[[], bytes], says: str) -> None:
    said = attack("baseline", baseline(tmp_path / "b.json", packed()))
    assert "is not a complete baseline" in said
    assert says in said


# --------------------------------------------------------------------------------------------------------------- JSON


def sealed(body: bytes) -> bytes:
    return body + b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


DEEP = b"[" * 100_000 + b"]" * 100_000
WIDE = b"[" + b"[]," * 30_000_000 + b"[]]"


@pytest.mark.parametrize(
    ("bomb", "says"),
    [(DEEP, "nested too deeply"), pytest.param(WIDE, "more than 5,000,000 values", marks=pytest.mark.full)],
    ids=["depth", "width"],
)
def test_record_run_and_lock(tmp_path: Path, bomb: bytes, says: str) -> None:
    record, lock = tmp_path / "record.json", tmp_path / "c.lock.json"
    record.write_bytes(sealed(b'{\n "schema_version": ' + bomb))
    lock.write_bytes(b'{"lock_version": 2, "repositories": ' + bomb + b"}")
    assert says in attack("sealed", record)
    assert says in attack("lock", lock)
    assert "is not a baseline file" in attack("baseline", lock)


def test_deep_json_of_a_checkpoint_a_server_a_run_and_the_cache(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(DEEP)
    with pytest.raises(UnsupportedArchitecture, match="nested too deeply"):
        read_architecture(tmp_path)
    assert server_words(DEEP).startswith("[[[")
    held = tmp_path / "run"
    with hold(held):
        (held / HOLDER_FILE).write_bytes(DEEP)
        with pytest.raises(FolderInUseError, match="another process"), hold(held):
            pass
    identity = DEEP.decode()
    entry = tmp_path / "embeddings" / folder_name(identity)
    entry.mkdir(parents=True)
    (entry / IDENTITY_FILE).write_text(identity, encoding="utf-8")
    assert [row.identity for row in usage(tmp_path / "embeddings")] == [{}]


# --------------------------------------------------------------------------------------------------------------- data


def parquet_bomb(file: Path) -> Path:
    """A kilobyte that stands for 8 GB: one text of a megabyte, 8,000 times."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array(["a" * 1_000_000])).cast(
        pa.string()
    )
    table = pa.table({"sentence1": text, "sentence2": ["b"] * 1_000, "score": [1.0] * 1_000})
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for _ in range(8):
            writer.write_table(table)
    return file


@pytest.mark.full
def test_parquet_of_local_data_and_of_a_forged_record(tmp_path: Path) -> None:
    file = parquet_bomb(tmp_path / "test.parquet")
    assert file.stat().st_size < 100_000
    assert "stands for" in attack("sts", file)
    with pytest.raises(ValueError, match="more than 100 times what it holds"):
        check_expansion(file.read_bytes())


@pytest.mark.full
def test_long_line_and_deep_line(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"sentence1": "' + "a" * 200_000_000 + '", "sentence2": "b", "score": 1}\n', encoding="utf-8")
    assert f"{file}, line 1: has more than 16,777,216 bytes" in attack("sts", file)
    file.write_bytes(b'{"sentence1": ' + DEEP + b"}\n")
    assert "line 1: is not valid JSON: it is nested too deeply" in attack("sts", file)
    file.unlink()
    (tmp_path / "test.csv").write_text("sentence1,sentence2,score\n" + "a" * 100_000_000 + ",b,1\n", encoding="utf-8")
    assert "field larger than field limit" in attack("sts", tmp_path / "test.csv")


@pytest.mark.full
def test_large_texts_that_are_sound_are_read(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    rows = [{"sentence1": "river " * 1_000_000, "sentence2": f"stone {n}", "score": n} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert attack("sts", file) == ""
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    file.unlink()
    assert attack("sts", tmp_path / "test.parquet") == ""


@pytest.mark.full
def test_ten_million_sound_rows_pass(tmp_path: Path) -> None:
    file, n = tmp_path / "corpus.parquet", 1_000_000
    with pq.ParquetWriter(file, pa.schema({"_id": pa.string(), "title": pa.string(), "text": pa.string()})) as writer:
        for start in range(0, 10 * n, n):
            numbers = pa.array(range(start, start + n)).cast(pa.string())
            texts = pa.compute.binary_join_element_wise("a document about number", numbers, "and its neighbours", " ")
            writer.write_table(pa.table({"_id": numbers, "title": [""] * n, "text": texts}))
    check_expansion(file.read_bytes(), ["_id", "title", "text"])
