"""mteb's results repository as it lies on disk: layouts, preferences, faults, and the table in the user's cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mteb.cache import ResultCache
from support.published_results import write_result

from evaluation.analysis.comparison import results_repository
from evaluation.analysis.comparison.result_files import parse_result
from evaluation.analysis.comparison.results_repository import ResultsRepository, read_repository
from evaluation.errors import ComparisonError
from evaluation.tasks.index import load_index

TEST = ("test", "default")


def read(content: object) -> tuple[tuple[str, str, float], ...]:
    return parse_result(json.dumps(content).encode(), load_index()).scores


def points(repository: ResultsRepository) -> dict[tuple[str, str, str, str], float]:
    return {(row.model, row.task, row.split, row.subset): row.score for row in repository.scores()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


def test_scores_are_those_that_mteb_reads(tmp_path: Path) -> None:
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.5})
    write_result(tmp_path, "org/a", "STS17", {("test", "en-en"): 0.75, ("test", "ar-ar"): 0.25})
    write_result(tmp_path, "org/b", "SciFact", {TEST: 0.125}, revision="external", mteb_version=None)
    ours = points(read_repository(tmp_path))
    loaded = ResultCache(tmp_path).load_results(include_remote=False)
    theirs = {
        (model.model_name, task.task_name, split, entry["hf_subset"]): 100 * entry["main_score"]
        for model in loaded.model_results
        for task in model.task_results
        for split, entries in task.scores.items()
        for entry in entries
    }
    assert ours == theirs and len(ours) == 4


@pytest.mark.parametrize("place", ["", "results", "remote"])
def test_repository_cache_and_results_folder_are_all_taken(tmp_path: Path, place: str) -> None:
    write_result(tmp_path / ("remote" if place == "remote" else ""), "org/a", "SciFact", {TEST: 0.5})
    folder = tmp_path / "results" if place == "results" else tmp_path
    assert points(read_repository(folder)) == {("org/a", "SciFact", *TEST): 50.0}


def test_reruns_and_model_cards_keep_their_source(tmp_path: Path) -> None:
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.5})
    write_result(tmp_path, "org/b", "SciFact", {TEST: 0.5}, revision="external")
    rows = {row.model: (row.protocol, row.source) for row in read_repository(tmp_path).scores()}
    assert rows == {
        "org/a": ("mteb", "MTEB results repository, mteb 2.6.7"),
        "org/b": ("authors", "model card, by MTEB's results repository"),
    }


def test_one_file_counts_per_model_task_and_split(tmp_path: Path) -> None:
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.1}, revision="old", mteb_version="1.9.0")
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.2}, revision="new", mteb_version="1.12.0")
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.3}, revision="external", mteb_version="2.6.7")
    write_result(
        tmp_path, "org/a", "SciFact", {TEST: 0.4, ("train", "default"): 0.9}, revision="x", dataset_revision="other"
    )
    repository = read_repository(tmp_path)
    assert points(repository) == {("org/a", "SciFact", *TEST): 20.0, ("org/a", "SciFact", "train", "default"): 90.0}
    assert repository.origin.n_set_aside == 3


def test_layouts_of_early_versions_are_read() -> None:
    assert read({"test": {"accuracy": 0.5}, "mteb_dataset_name": "Banking77Classification"}) == ((*TEST, 0.5),)
    assert read({"test": {"cos_sim": {"spearman": 0.5}}, "mteb_dataset_name": "STS13"}) == ((*TEST, 0.5),)
    assert read({"test": {"cos_sim": {"ap": 0.5}}, "mteb_dataset_name": "TwitterURLCorpus"}) == ((*TEST, 0.5),)
    assert read({"test": {"map": 0.5, "mrr": 0.9}, "mteb_dataset_name": "MindSmallReranking"}) == ((*TEST, 0.5),)
    by_subset = {"test": {"en": {"accuracy": 0.5}, "de": {"accuracy": 0.25}}, "mteb_version": "1.1.1"}
    task = {"mteb_dataset_name": "MTOPDomainClassification"}
    assert read({**by_subset, **task}) == (("test", "en", 0.5), ("test", "de", 0.25))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "it is not a JSON object"),
        ("{}", "it names no task"),
        ("{", "Expecting"),
        ('{"task_name": "SciFact", "scores": {}}', "it holds no main score"),
        ('{"task_name": "SciFact", "scores": [1]}', "its scores are not in mteb's layout"),
        ('{"task_name": "SciFact", "scores": {"test": [{"hf_subset": "default"}]}}', "not in mteb's layout"),
        (
            '{"task_name": "SciFact", "scores": {"test": [{"hf_subset": "default", "main_score": 67.7}]}}',
            "from -1 to 1",
        ),
        ('{"task_name": "SciFact", "scores": {"test": [{"hf_subset": "default", "main_score": NaN}]}}', "from -1 to 1"),
    ],
)
def test_files_that_cannot_be_used_are_counted_and_named(tmp_path: Path, content: str, message: str) -> None:
    good = write_result(tmp_path, "org/a", "STSBenchmark", {TEST: 0.5})
    (good.parent / "SciFact.json").write_text(content, encoding="utf-8")
    repository = read_repository(tmp_path)
    assert (repository.origin.n_files, repository.origin.n_faults) == (1, 1)
    (fault,) = repository.origin.faults
    assert fault.startswith("results/org__a/r1/SciFact.json: ") and message in fault


def test_links_are_not_followed(tmp_path: Path) -> None:
    write_result(tmp_path / "outside", "org/b", "SciFact", {TEST: 0.5})
    write_result(tmp_path / "in", "org/a", "SciFact", {TEST: 0.5})
    (tmp_path / "in" / "results" / "org__b").symlink_to(tmp_path / "outside" / "results" / "org__b")
    assert read_repository(tmp_path / "in").models == ("org/a",)


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="there is no such folder"):
        read_repository(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ComparisonError, match="holds no results of mteb"):
        read_repository(tmp_path / "empty")


def test_second_reading_takes_the_kept_table_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_result(tmp_path / "in", "org/a", "SciFact", {TEST: 0.5})
    first = read_repository(tmp_path / "in")
    parse = results_repository.parse_result
    monkeypatch.setattr(results_repository, "parse_result", lambda *_: pytest.fail("it was parsed again"))
    second = read_repository(tmp_path / "in")
    assert (points(second), second.origin) == (points(first), first.origin)
    monkeypatch.setattr(results_repository, "parse_result", parse)
    file.write_text(file.read_text(encoding="utf-8").replace("0.5", "0.6"), encoding="utf-8")
    os.utime(file, ns=(1, 1))
    changed = read_repository(tmp_path / "in")
    assert points(changed) == {("org/a", "SciFact", *TEST): 60.0}
    assert changed.origin.sha256 != first.origin.sha256


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_table_is_made_again(tmp_path: Path, damage: str) -> None:
    write_result(tmp_path / "in", "org/a", "SciFact", {TEST: 0.5})
    read_repository(tmp_path / "in")
    (kept,) = (tmp_path / "cache" / "published").iterdir()
    kept.write_bytes(kept.read_bytes()[:100] if damage == "cut" else b"PAR1")
    assert points(read_repository(tmp_path / "in")) == {("org/a", "SciFact", *TEST): 50.0}


@pytest.mark.parametrize("packed", [False, True])
def test_commit_of_a_checkout_is_named(tmp_path: Path, packed: bool) -> None:
    write_result(tmp_path, "org/a", "SciFact", {TEST: 0.5})
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs\n{'a' * 40} refs/heads/main\n", encoding="utf-8")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{'a' * 40}\n", encoding="utf-8")
    assert read_repository(tmp_path).origin.commit == "a" * 40
