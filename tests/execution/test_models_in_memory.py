"""Models in memory that can be saved: they score as their saved folder does, under one identity, and resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from support.small_runs import write_small_run

from evaluation import NamedModel, run
from evaluation.config.loading import load_config
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.execution.models_in_memory import _sweep as sweep
from evaluation.execution.runner import RunOptions

HOLDER = (
    "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); sys.stdin.read()"
)


class Own:
    """Has mteb's encode."""

    def encode(self, inputs: object, *, task_metadata: object, **kwargs: object) -> None:
        raise NotImplementedError


@pytest.fixture
def config(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """STS and classification on the tiny checkpoint, under e5, in the row "folder"."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    saved = tmp_path / "saved"
    SentenceTransformer(str(tiny_checkpoint), device="cpu").save(str(saved))
    return load_config(
        write_small_run(tmp_path, ["Pairs", "Kinds"], {"folder": "e5", "other": "none"}, model=saved, name="memory")
    )


@pytest.fixture
def model(tiny_checkpoint: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_checkpoint), device="cpu")


def test_model_in_memory_is_its_saved_folder(config: RunConfig, model: SentenceTransformer, tmp_path: Path) -> None:
    from_folder = run(config, RunOptions(models=("folder",)))
    in_memory = run(config, RunOptions(models=("folder",)), models={"folder": model})
    assert (from_folder.n_executed, in_memory.n_executed) == (2, 0)  # one identity: nothing is scored again
    again = run(config, RunOptions(models=("folder",), fresh=True), models={"folder": model})
    assert again.n_executed == 2
    assert [record.main_score for record in again.records] == [record.main_score for record in from_folder.records]
    assert [record.fingerprint for record in again.records] == [record.fingerprint for record in from_folder.records]
    assert list((tmp_path / "cache" / "in-memory").iterdir()) == []
    manifest = json.loads((again.folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["config"]["models"][0]["model"] == "in-memory"
    assert manifest["executor"]["models"]["folder"]["declared"]["model"] == "in-memory"
    for file in (path for path in again.folder.rglob("*") if path.is_file()):
        assert b"in-memory/models-" not in file.read_bytes(), file


def test_transformers_model_with_its_tokenizer_is_its_saved_folder(config: RunConfig, tiny_checkpoint: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    net = BertModel.from_pretrained(tiny_checkpoint, add_pooling_layer=False)
    pair = (net, AutoTokenizer.from_pretrained(tiny_checkpoint))
    (pairs, kinds) = run(config, RunOptions(models=("mine",)), models={"mine": pair}).records
    assert (pairs.state, kinds.state) == ("done", "done")
    assert pairs.audit is not None and pairs.audit.vectors is not None
    assert pairs.audit.vectors.pooling == "mean"


def test_other_weights_are_another_identity(config: RunConfig, model: SentenceTransformer) -> None:
    before = run(config, RunOptions(models=("mine",)), models={"mine": model})
    assert [record.label for record in before.records] == ["mine", "mine"]
    assert run(config, RunOptions(models=("mine",)), models={"mine": model}).n_executed == 0
    next(model.parameters()).data.add_(1.0)
    after = run(config, RunOptions(models=("mine",)), models={"mine": model})
    assert after.n_executed == 2
    assert {record.fingerprint for record in after.records}.isdisjoint(record.fingerprint for record in before.records)


def test_truncated_dimension_of_the_model_counts(config: RunConfig, tiny_checkpoint: Path) -> None:
    cut = SentenceTransformer(str(tiny_checkpoint), device="cpu", truncate_dim=8)
    records = run(config, RunOptions(models=("mine",)), models={"mine": cut}).records
    assert [record.audit.vectors.truncate_dim for record in records if record.audit] == [8, 8]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            {"mine": object()},
            r"models\['mine'\] is a object; a model in memory must be a SentenceTransformer, a pair of",
        ),
        (
            {"folder": NamedModel(Own(), "1")},
            "embeds by its own encode, which does not read protocol, dtype of the config",
        ),
        ({"a/b": None}, r"models\['a/b'\]"),
        ({"Folder": None}, "label 'Folder' is used twice"),
    ],
)
def test_what_cannot_run_is_a_sentence(
    config: RunConfig, model: SentenceTransformer, models: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(config, models={label: value or model for label, value in models.items()})


def test_models_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """Not those of a process that still runs, young ones, files under other names, or anything through a link."""
    parent = tmp_path / "in-memory"
    names = ("models-killed00", "models-running0", "models-young000", "somebody", "models-elsewhere")
    killed, running, young, somebody, elsewhere = folders = [parent / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text("", encoding="utf-8")
    (parent / "models-linked00").symlink_to(elsewhere)
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDER, running / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert held.stdout is not None and held.stdout.readline()
    for folder in (killed, running, somebody, elsewhere):
        os.utime(folder, (1_000, 1_000))
    sweep(parent)
    assert not killed.exists()
    assert all((folder / "model.safetensors").exists() for folder in (running, young, somebody, elsewhere))
    held.communicate()
    os.utime(running, (1_000, 1_000))
    sweep(parent)
    assert not running.exists()
