"""`folders:` in a config: a row per checkpoint folder by number, and each fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.config.loading import load_config
from evaluation.config.run_config import RunConfig
from evaluation.errors import ConfigError


def load(folder: Path, entry: str, *names: str) -> RunConfig:
    for name in names:
        (folder / name).mkdir(parents=True)
    text = f"name: run\nmodels:\n  - {{label: first, model: org/first}}\n  - {entry}\ntasks:\n  - mteb: STS12\n"
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return load_config(folder / "run.yaml")


def test_row_per_folder_in_the_order_of_numbers(tmp_path: Path) -> None:
    entry = '{folders: "out/step-*", protocol: e5}'
    config = load(tmp_path, entry, "out/step-1000", "out/step-200", "out/step-30", "out/other-1")
    (tmp_path / "out" / "step-7.txt").write_text("a file", encoding="utf-8")
    rows = [(row.label, row.model, row.series, row.step, row.protocol) for row in config.models[1:]]
    assert rows == [
        ("step-30", "./out/step-30", "out/step-*", 30.0, "e5"),
        ("step-200", "./out/step-200", "out/step-*", 200.0, "e5"),
        ("step-1000", "./out/step-1000", "out/step-*", 1000.0, "e5"),
    ]
    assert config.resolve_path(rows[0][1]) == tmp_path / "out" / "step-30"
    assert config.place(("models", 3, "model")) == f"{tmp_path / 'run.yaml'}, line 4: "


def test_label_begins_the_labels_and_a_later_part_of_the_pattern_is_kept(tmp_path: Path) -> None:
    config = load(tmp_path, '{label: mini, folders: "*/model"}', "epoch-1/model", "epoch-0.5/model")
    rows = [(row.label, row.series, row.step) for row in config.models[1:]]
    assert rows == [("mini-epoch-0.5-model", "mini", 0.5), ("mini-epoch-1-model", "mini", 1.0)]


def test_absolute_pattern_with_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    config = load(tmp_path, '{folders: "$RUNS/step-*"}', "runs/step-1")
    assert config.models[1].model == str(tmp_path / "runs" / "step-1")


@pytest.mark.parametrize(
    ("entry", "names", "message"),
    [
        ('{folders: "step-*"}', (), "no folder matches 'step-*'"),
        ('{folders: "step-1"}', ("step-1",), "'step-1' has no wildcard"),
        ('{folders: "step-*"}', ("step-1", "step-final"), "folder 'step-final' has no number to sort by"),
        ('{folders: "step-*"}', ("step-1", "step-01"), "folders 'step-01' and 'step-1' have the same number"),
        ('{folders: "step-*", model: a/b}', ("step-1",), "folders and model exclude each other"),
    ],
)
def test_fault_names_the_line(tmp_path: Path, entry: str, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, entry, *names)
    assert "line 4: models.1.folders: " in str(caught.value).replace("[1]", ".1")
    assert message in str(caught.value)


def test_step_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="series and step belong together"):
        load(tmp_path, "{label: a, model: org/a, step: 3}")
