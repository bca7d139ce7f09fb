"""A trainer writes to a checkpoint while a run is under way: no score and no vector may belong to the wrong weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import write_tiny_bert

from evaluation import load_config, run
from evaluation.encoding.encoder import Encoded, Encoder
from evaluation.records.store import JobRecord, RunStore

ROWS = [("a b", "b a", 1.0), ("c d", "e f", 4.0), ("g h i", "g h", 2.5), ("k", "l m n", 0.5), ("o p", "p", 3.0)]


def replaced(file: Path, weights: bytes) -> None:
    """As save_pretrained and rsync do it: another file gets the name."""
    new = file.with_name("new")
    new.write_bytes(weights)
    new.replace(file)


def overwritten(file: Path, weights: bytes) -> None:
    """As cp does it."""
    with file.open("r+b") as stream:
        stream.write(weights)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    found = {name: write_tiny_bert(tmp_path / name, seed) for seed, name in enumerate(("slow", "trained", "newer"))}
    shutil.copytree(found["trained"], tmp_path / "untouched")
    return found


@pytest.fixture
def scores(tmp_path: Path) -> Callable[..., dict[str, JobRecord]]:
    """A function: folder names -> the record of each, run by one config."""
    rows = [dict(zip(("sentence1", "sentence2", "score"), row, strict=True)) for row in ROWS]
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def evaluate(output: str, *names: str, cache: bool = True) -> dict[str, JobRecord]:
        models = [{"label": name, "model": f"./{name}", "protocol": "none", "dtype": "float32"} for name in names]
        document = {
            "name": "run",
            "models": models,
            "tasks": [{"local": "Pairs", "type": "STS", "data": "pairs"}],
            "runtime": {"device": "cpu", "cache": cache},
            "output": str(tmp_path / output),
        }
        (tmp_path / "run.yaml").write_text(json.dumps(document), encoding="utf-8")
        run(load_config(tmp_path / "run.yaml"))
        return {record.label: record for record in RunStore(tmp_path / output / "run").current_records()}

    return evaluate


def trainer(monkeypatch: pytest.MonkeyPatch, when: str, act: Callable[[], None]) -> None:
    """Act once: when the model of the folder `when` begins to encode the task, all models having been proved."""
    original, done = Encoder.encode, []

    def encode(self: Encoder, texts: Sequence[str], **options: Any) -> Encoded:
        if self.checkpoint.folder.name == when and ROWS[0][0] in texts and not done:
            done.append(act())
        return original(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", encode)


def test_weights_replaced_while_another_model_runs_fail_by_name_and_leave_nothing(
    folders: dict[str, Path],
    scores: Callable[..., dict[str, JobRecord]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = scores("truth", "untouched", cache=False)["untouched"].main_score
    file, newer = folders["trained"] / "model.safetensors", (folders["newer"] / "model.safetensors").read_bytes()
    trainer(monkeypatch, "slow", lambda: replaced(file, newer))
    records = scores("attacked", "slow", "trained")
    assert records["slow"].state == "done"
    assert records["trained"].state == "failed"
    assert records["trained"].error is not None
    assert f"model.safetensors in {folders['trained']} changed" in records["trained"].error.message
    assert scores("after", "untouched")["untouched"].main_score == truth  # the shared cache holds nothing of it
    again = scores("attacked", "slow", "trained")["trained"]
    assert again.main_score == scores("truth-newer", "newer", cache=False)["newer"].main_score != truth


@pytest.mark.parametrize("change", [replaced, overwritten])
def test_weights_changed_after_they_were_loaded_give_their_own_score_or_none(
    folders: dict[str, Path],
    scores: Callable[..., dict[str, JobRecord]],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, bytes], None],
) -> None:
    """Loaded weights are mapped into memory: a new file of the same name does not reach them, new bytes in it do."""
    truth = scores("truth", "untouched", cache=False)["untouched"].main_score
    file, newer = folders["trained"] / "model.safetensors", (folders["newer"] / "model.safetensors").read_bytes()
    trainer(monkeypatch, "trained", lambda: change(file, newer))
    record = scores("attacked", "trained")["trained"]
    assert (record.state, record.main_score) == (("done", truth) if change is replaced else ("failed", None))
    assert scores("after", "untouched")["untouched"].main_score == truth
