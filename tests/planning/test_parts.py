"""Parts of a run: each job in one of them, about equal work, the same on every machine; what --part accepts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.data import write_files

from evaluation import load_config
from evaluation.errors import UsageError
from evaluation.jobs import build_jobs
from evaluation.planning.parts import Part, jobs_of_part, parse_part

ARRAY = "SLURM_ARRAY_TASK_"


@pytest.mark.parametrize(
    ("text", "variables", "part"),
    [
        ("3/8", {}, Part(3, 8)),
        ("1/1", {}, Part(1, 1)),
        ("auto", {"ID": "3", "COUNT": "8"}, Part(3, 8)),
        ("auto", {"ID": "0", "COUNT": "4", "MIN": "0", "MAX": "3"}, Part(1, 4)),
        ("auto", {"ID": "20", "COUNT": "3", "MIN": "10", "MAX": "30", "STEP": "10"}, Part(2, 3)),
    ],
)
def test_parts_are_named_by_hand_or_by_slurm(text: str, variables: dict[str, str], part: Part) -> None:
    assert parse_part(text, {ARRAY + name: value for name, value in variables.items()}) == part


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "a/b", "-1/3", "1/0", "3/8/2", ""])
def test_other_values_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a part; write K/N with K from 1 to N, such as 3/8, or auto"):
        parse_part(text, {})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "needs SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, which Slurm sets in a job array"),
        ({"ID": "9", "COUNT": "3", "MIN": "1", "STEP": "1"}, "task 9 of an array of 3 tasks that begins with 1"),
        ({"ID": "0", "COUNT": "3"}, "not in an unbroken row; use an array such as --array=1-8"),
    ],
)
def test_auto_without_a_sound_array_is_refused(variables: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_part("auto", {ARRAY + name: value for name, value in variables.items()})


def config_of(folder: Path, models: list[dict[str, Any]], rows: dict[str, int]) -> Path:
    """Tasks of pairs, with so many rows each."""
    for task, n_rows in rows.items():
        pairs = [{"sentence1": f"{task} {n} " + "x" * 40, "sentence2": "y" * 50, "score": 1.0} for n in range(n_rows)]
        write_files(folder / task, {"test.jsonl": pairs})
    document = {
        "name": "parts",
        "models": [{"protocol": "none", **model} for model in models],
        "tasks": [{"local": task, "type": "STS", "data": task} for task in rows],
    }
    file = folder / "parts.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


SMALL = {"label": "small", "model": "intfloat/e5-small-v2"}
LARGE = {"label": "large", "model": "intfloat/e5-large-v2"}


def test_the_largest_jobs_are_dealt_first_each_to_the_least_loaded_part(tmp_path: Path) -> None:
    """Work goes with rows, over a constant per job: 40,000 | 20,000 | 15,000, 4,000."""
    rows = {"A": 4_000, "B": 40_000, "C": 15_000, "D": 20_000}
    config = load_config(config_of(tmp_path, [LARGE], rows))
    parts = [[job.task.name for job in jobs_of_part(config, build_jobs(config), Part(k, 3))] for k in (1, 2, 3)]
    assert parts == [["B"], ["D"], ["A", "C"]]


def test_a_larger_model_is_more_work(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, [SMALL, LARGE], {"A": 20_000, "B": 20_000, "C": 20_000}))
    parts = [[job.model.label for job in jobs_of_part(config, build_jobs(config), Part(k, 4))] for k in (1, 2, 3, 4)]
    assert parts == [["large"], ["large"], ["large"], ["small"] * 3]


@pytest.mark.parametrize("n_parts", [1, 2, 3, 7, 12, 40])
def test_each_job_is_in_one_part(n_parts: int) -> None:
    config = load_config(Path("configs/e5-prefix-ablation.yaml"))
    jobs = build_jobs(config)
    shares = [jobs_of_part(config, jobs, Part(number, n_parts)) for number in range(1, n_parts + 1)]
    assert Counter(job.key for share in shares for job in share) == Counter(job.key for job in jobs)
    order = [job.key for job in jobs]
    assert all([job.key for job in share] == sorted((job.key for job in share), key=order.index) for share in shares)


def test_what_a_machine_has_cached_or_measured_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(config_of(tmp_path, [SMALL, LARGE], {"A": 500, "B": 800, "C": 1_100, "D": 200}))
    jobs = build_jobs(config)

    def shares() -> list[list[tuple[str, str]]]:
        return [[job.key for job in jobs_of_part(config, jobs, Part(number, 3))] for number in (1, 2, 3)]

    here = shares()
    cache = tmp_path / "cache"
    cache.mkdir()
    measured = {"tokenizers": {"bert-uncased": {"english": [900, 10], "task A": [5, 5]}}, "scoring": {"cpu | A": 1e6}}
    (cache / "planning.json").write_text(json.dumps(measured), encoding="utf-8")
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(cache))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "hub" / "models--intfloat--e5-small-v2" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    assert shares() == here
