"""A start with all jobs stored loads no libraries, and takes the ordinary path as soon as anything may have changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.small_runs import write_small_run

from evaluation.config.loading import load_config
from evaluation.execution import stored_run
from evaluation.execution.reporting import Reporter
from evaluation.execution.runner import RunOptions, run
from evaluation.execution.stored_run import find_stored_run
from evaluation.jobs import build_jobs
from evaluation.records.store import RECORD_FILE, RUN_FILE, RunStore

HEAVY = ("torch", "mteb", "pandas", "pyarrow", "transformers", "datasets", "sklearn", "httpx")
_START = f"""
import sys
sys.argv = ["run-benchmark", sys.argv[1]]
from evaluation.commands.entry import run_benchmark
try:
    run_benchmark()
except SystemExit as ended:
    assert not ended.code, ended.code
print("imported:", [name for name in {HEAVY!r} if name in sys.modules])
"""


class Loads(Reporter):
    """Counts how often libraries and models are loaded."""

    count = 0

    def loading(self) -> None:
        self.count += 1


def start(file: Path, *, overrides: tuple[str, ...] = (), **options: Any) -> tuple[int, int]:
    """Starts a config; returns how many jobs ran, and whether anything was loaded."""
    loads = Loads()
    return run(load_config(file, overrides=overrides), RunOptions(**options), loads).n_executed, loads.count


def is_stored(file: Path, *overrides: str) -> bool:
    config = load_config(file, overrides=overrides)
    return find_stored_run(config, build_jobs(config)) is not None


@pytest.fixture(scope="module")
def finished(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a finished run: a checkpoint under two protocols, in a stored form, and BM25."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(tiny_checkpoint, folder / "model")
    protocols = {"plain": "none", "prefixed": "e5"}
    file = write_small_run(folder, ["Pairs", "Search"], protocols, model="./model", name="run")
    document = json.loads(file.read_text(encoding="utf-8"))
    document["models"][0]["stored"] = ["int8"]
    document["models"].append({"label": "bm25", "model": "bm25"})
    file.write_text(json.dumps({**document, "output": "results"}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert start(file) == (7, 1)
    return file


@pytest.fixture
def again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a copy of the run, its model and its data."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / finished.name


def folder_of(file: Path) -> Path:
    return file.parent / "results" / "run"


def test_a_second_start_by_the_command_imports_no_library(again: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _START, str(again)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    table, _, imported = done.stdout.partition("imported: ")
    assert imported.strip() == "[]"
    assert "Mean over" in table
    assert "loading" not in done.stderr
    assert "7 jobs, 7 of them stored already" in done.stderr
    assert "0 jobs run now, 7 of 7 have a score" in done.stderr
    assert (folder_of(again) / "summary.csv").is_file()


def test_run_json_stays_true(again: Path) -> None:
    before = RunStore(folder_of(again)).read_run()
    assert start(again) == (0, 0)
    after = RunStore(folder_of(again)).read_run()
    same = {"jobs", "executor", "hardware", "versions", "config"}
    assert after.model_dump(include=same) == before.model_dump(include=same)
    assert after.hardware is not None and after.ended is not None
    assert start(again) == (0, 0)


def test_a_part_of_the_jobs_is_stored_too(again: Path) -> None:
    assert start(again, only=("Pairs",)) == (0, 0)
    assert start(again, models=("prefixed",)) == (0, 0)
    assert start(again) == (0, 0)


def test_a_touched_model_of_the_same_content_is_the_same(again: Path) -> None:
    for file in (again.parent / "model").iterdir():
        file.touch()
    assert is_stored(again)


def other_weights(file: Path) -> None:
    """With the old size and time."""
    weights, before = file.parent / "model" / "model.safetensors", (file.parent / "model" / "model.safetensors").stat()
    tensors = load_file(weights)
    first = next(name for name in tensors if name.endswith("LayerNorm.bias"))
    tensors[first] = tensors[first] + 1
    save_file(tensors, weights, metadata={"format": "pt"})
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def other_tokenizer(file: Path) -> None:
    (file.parent / "model" / "tokenizer_config.json").open("a", encoding="utf-8").write(" ")


def further_file(file: Path) -> None:
    (file.parent / "model" / "generation_config.json").write_text("{}", encoding="utf-8")


def other_row(file: Path) -> None:
    rows = file.parent / "data" / "Pairs" / "test.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    lines[0] = json.dumps({**first, "score": first["score"] + 0.5})
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")


def changed_config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        document = json.loads(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(json.dumps(document), encoding="utf-8")

    return write


def other_run_file(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        store = RunStore(folder_of(file))
        manifest = store.read_run()
        content = manifest.model_dump()
        change(content)
        store.write_run(type(manifest).model_validate(content))

    return write


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "weights": other_weights,
    "tokenizer": other_tokenizer,
    "further file": further_file,
    "row of data": other_row,
    "protocol": changed_config(lambda document: document["models"][1].update(protocol="mteb")),
    "model option": changed_config(lambda document: document["models"][0].update(max_length=16)),
    "stored form": changed_config(lambda document: document["models"][0].update(stored=["binary"])),
    "label": changed_config(lambda document: document["models"][0].update(label="renamed")),
    "seed": changed_config(lambda document: document["runtime"].update(seed=7)),
    "limit": changed_config(lambda document: document.update(limit={"queries": 5})),
    "device": changed_config(lambda document: document["runtime"].update(device="auto")),
    "no run.json": lambda file: (folder_of(file) / RUN_FILE).unlink(),
    "damaged run.json": lambda file: (folder_of(file) / RUN_FILE).open("a").write(" "),
    "run.json of an earlier release": other_run_file(lambda content: content.update(executor={"kind": "local"})),
    "interrupted run": other_run_file(lambda content: content["jobs"][0].update(state="waiting")),
    "failed job": other_run_file(lambda content: content["jobs"][0].update(state="failed")),
    "other identity": other_run_file(
        lambda content: content["executor"]["models"]["plain"]["identity"].update(dtype="bfloat16")
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_leads_to_the_ordinary_path(again: Path, name: str) -> None:
    CHANGES[name](again)
    assert not is_stored(again)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("versions", lambda: {"mteb": "1.0"}),
        ("library_versions", lambda: {"peft": "9.9"}),
        ("own_code_hash", lambda: "other"),
        ("place_name", lambda device: "another processor"),
        ("devices_here", lambda: "/dev/nvidia0"),
    ],
)
def test_another_installation_or_machine_leads_to_the_ordinary_path(
    again: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(stored_run, name, value)
    assert not is_stored(again)


def test_jobs_of_another_weight_run_and_are_stored_from_then_on(again: Path) -> None:
    other_weights(again)
    before = {record.task: record.scores for record in RunStore(folder_of(again)).current_records()}
    assert start(again, models=("prefixed",)) == (2, 1)
    assert start(again, models=("prefixed",)) == (0, 0)
    records = RunStore(folder_of(again)).current_records()
    assert all(record.scores != before[record.task] for record in records if record.label == "prefixed")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_record_that_is_gone_or_damaged_is_made_again(again: Path, is_damaged: bool) -> None:
    store = RunStore(folder_of(again))
    (old,) = [one for one in store.current_records() if (one.label, one.task) == ("plain", "Pairs")]
    record = store.job_folder(old.label, old.task, old.fingerprint) / RECORD_FILE
    if is_damaged:
        record.write_bytes(record.read_bytes().replace(b'"done"', b'"DONE"'))
    else:
        record.unlink()
    assert start(again) == (1, 1)
    (new,) = [one for one in store.current_records() if (one.label, one.task) == ("plain", "Pairs")]
    assert (new.fingerprint, new.scores) == (old.fingerprint, old.scores)
    assert start(again) == (0, 0)


def test_fresh_runs_all_jobs(again: Path) -> None:
    assert start(again, only=("Pairs",), models=("plain",), fresh=True) == (1, 1)
