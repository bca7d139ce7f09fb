"""The filters of a benchmark in a config: languages as mteb filters them, subsets, and codes that are not mteb's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation import load_config
from evaluation.commands.run_benchmark.plan import _subsets as subset_lines
from evaluation.errors import ConfigError
from evaluation.jobs import Job, build_jobs

BENCHMARK = "MTEB(eng, v1)"


def jobs_of(tmp_path: Path, **filters: Any) -> list[Job]:
    file = tmp_path / "c.yaml"
    entry = {"mteb_benchmark": BENCHMARK, "only": ["STS22", "STS17"], **filters}
    models = [{"label": "m", "model": "builtin:all-MiniLM-L6-v2", "protocol": "none"}]
    file.write_text(json.dumps({"name": "t", "models": models, "tasks": [entry]}), encoding="utf-8")
    return build_jobs(load_config(file))


def subsets_of(tmp_path: Path, **filters: Any) -> dict[str, tuple[str, ...]]:
    return {job.task.name: job.task.subsets for job in jobs_of(tmp_path, **filters)}


@pytest.fixture
def multilingual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BENCHMARK", "MTEB(Multilingual, v1)")


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("languages", [["eng"], ["deu", "eng"]])
@pytest.mark.usefixtures("multilingual")
def test_languages_keep_the_subsets_that_mteb_keeps(tmp_path, languages, exclusive):
    import mteb

    chosen = mteb.get_tasks(tasks=["STS22.v2", "STS17"], languages=languages, exclusive_language_filter=exclusive)
    expected = {task.metadata.name: tuple(task.hf_subsets) for task in chosen}
    found = subsets_of(tmp_path, only=["STS22.v2", "STS17"], languages=languages, exclusive_languages=exclusive)
    assert found == expected
    assert ("de-en" in found["STS22.v2"]) == (not exclusive or "deu" in languages)


def test_subsets_keep_only_tasks_that_have_them(tmp_path):
    assert subsets_of(tmp_path, subsets=["en"]) == {"STS22": ("en",)}
    with pytest.raises(ConfigError, match="no task of .* passes the filters"):
        subsets_of(tmp_path, subsets=["xx"])


def test_two_letter_codes_are_answered_with_three(tmp_path):
    with pytest.raises(ConfigError) as caught:
        subsets_of(tmp_path, languages=["en", "fra"])
    assert caught.value.problems == (
        f"{tmp_path}/c.yaml, line 1: languages: 'en' is a two-letter code, and mteb's have three: write eng.",
    )


def test_exclusive_languages_needs_languages(tmp_path):
    with pytest.raises(ConfigError, match="exclusive_languages needs languages"):
        subsets_of(tmp_path, exclusive_languages=True)


def test_plan_names_the_subsets(tmp_path):
    assert subset_lines(jobs_of(tmp_path)) == ["Subsets of STS17: en-en.", "Subsets of STS22: en."]
