"""A grid of settings: a row for each combination, planned and costed as such; faults are one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation import load_config
from evaluation.config.run_config import RunConfig
from evaluation.errors import ConfigError
from evaluation.jobs import build_jobs, fingerprint
from evaluation.planning.calibration import Calibration
from evaluation.planning.estimate import estimate


def _config(folder: Path, **model: Any) -> RunConfig:
    first = {"label": "e5", "model": "builtin:multilingual-e5-small", **model}
    second = {"label": "minilm", "model": "builtin:all-MiniLM-L6-v2"}
    config = {"name": "grid", "models": [first, second], "tasks": [{"mteb": "SciFact"}]}
    file = folder / "grid.yaml"
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return load_config(file)


def test_every_combination_is_a_row(tmp_path):
    config = _config(tmp_path, grid={"max_length": [128, 256], "pooling": ["mean", "cls"]})
    assert [(model.label, model.max_length, model.pooling) for model in config.models] == [
        ("e5,max_length=128,pooling=mean", 128, "mean"),
        ("e5,max_length=128,pooling=cls", 128, "cls"),
        ("e5,max_length=256,pooling=mean", 256, "mean"),
        ("e5,max_length=256,pooling=cls", 256, "cls"),
        ("minilm", None, None),
    ]
    assert RunConfig.model_validate(config.model_dump()).models == config.models


def test_stored_forms_belong_to_each_combination(tmp_path):
    config = _config(tmp_path, grid={"max_length": [128, 256]}, stored=["int8"])
    labels = ["e5,max_length=128", "e5,max_length=128@int8", "e5,max_length=256", "e5,max_length=256@int8", "minilm"]
    assert [model.label for model in config.models] == labels
    lines = [config.place(("models", position)).partition(", ")[2] for position in range(5)]
    assert len(set(lines[:4])) == 1  # all rows of an entry stand at its line
    assert lines[4] != lines[0]


def test_each_row_is_encoded_and_costed_by_itself(tmp_path):
    config = _config(tmp_path, grid={"max_length": [128, 512]})
    first, second, _ = estimate(config, build_jobs(config), Calibration()).jobs
    assert first.own_texts == second.own_texts is not None
    assert first.own_tokens is not None
    assert second.own_tokens is not None
    assert 0 < first.own_tokens < second.own_tokens


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"grid": {"max_lenght": [128]}}, "unknown key 'max_lenght' in models[0].grid; nearest: 'max_length'"),
        ({"grid": {"max_length": [2]}}, "models[0].grid.max_length[0] is 2"),
        ({"grid": {"pooling": ["max"]}}, "allowed: mean, cls, last"),
        ({"grid": {"pooling": ["cls", "cls"]}}, "pooling has cls twice; remove one"),
        ({"grid": {}}, "it needs at least one of max_length and pooling"),
        ({"grid": {"max_length": [128]}, "max_length": 64}, "max_length is set both in grid: and beside it"),
        ({"grid": {"max_length": [128]}, "model": "bm25"}, "bm25 ranks by words, so grid can't be set"),
    ],
)
def test_faults_are_one_sentence(tmp_path, model, says):
    with pytest.raises(ConfigError) as found:
        _config(tmp_path, **model)
    assert says in str(found.value)
    assert len(found.value.problems) == 1


def test_grid_folders_and_forms_together_make_a_series_per_combination(tmp_path: Path, tiny_checkpoint: Path) -> None:
    for step in (9, 10):
        shutil.copytree(tiny_checkpoint, tmp_path / f"step-{step}")
    entry = {
        "label": "run",
        "folders": "step-*",
        "protocol": "e5",
        "grid": {"max_length": [16, 32]},
        "stored": ["int8", {"as": "binary", "center": True}],
    }
    file = tmp_path / "all.yaml"
    document = {"name": "all", "models": [entry], "tasks": [{"mteb": "SciFact"}]}
    file.write_text(json.dumps(document), encoding="utf-8")
    config = load_config(file)
    bases = [f"run-step-{step},max_length={length}" for step in (9, 10) for length in (16, 32)]
    labels = [label for base in bases for label in (base, f"{base}@int8", f"{base}@binary,center")]
    jobs = build_jobs(config)
    assert [job.key for job in jobs] == [(label, "SciFact") for label in labels]
    assert [model.base_label for model in config.models] == [base for base in bases for _ in range(3)]
    assert [(model.series, model.step) for model in config.models if model.form is None] == [
        ("run,max_length=16", 9.0),
        ("run,max_length=32", 9.0),
        ("run,max_length=16", 10.0),
        ("run,max_length=32", 10.0),
    ]
    assert {(model.series, model.step) for model in config.models if model.form is not None} == {(None, None)}
    planned = estimate(config, jobs, Calibration()).jobs
    assert [one.own_tokens for one in planned[:3]] == [planned[0].own_tokens, 0, 0]
    assert len({fingerprint(job, {"model": job.model.model, "length": job.model.max_length}, {}) for job in jobs}) == 12
