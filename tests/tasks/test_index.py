"""The shipped task index against the installed mteb, and the reader on its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from evaluation.config.task_types import TaskType
from evaluation.errors import EvaluationError
from evaluation.system.cache_folder import user_cache_dir
from evaluation.tasks import index as index_module
from evaluation.tasks.index import SHIPPED_INDEX, TaskIndex, load_index
from evaluation.tasks.index_entries import BenchmarkTask
from evaluation.tasks.installed_mteb import descriptive_stats_file, installed_mteb_version, load_statistics
from evaluation.tasks.types import TASK_TYPES

PACKAGE_ROOT = Path(index_module.__file__).parents[2]


@pytest.fixture(scope="module")
def shipped() -> TaskIndex:
    return load_index(SHIPPED_INDEX)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty user cache, and no index remembered from before or for later."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    index_module._installed_index.cache_clear()
    yield tmp_path / "cache"
    index_module._installed_index.cache_clear()


@pytest.fixture(scope="module")
def mteb(shipped: TaskIndex) -> Any:  # noqa: ANN401 - a module
    if installed_mteb_version() != shipped.mteb_version:
        pytest.skip(f"the shipped index describes mteb {shipped.mteb_version}")
    return pytest.importorskip("mteb")


def _run_python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True).stdout


# The shipped file and mteb


def test_shipped_index_is_what_a_fresh_build_writes(shipped: TaskIndex, tmp_path: Path) -> None:
    if installed_mteb_version() != shipped.mteb_version:
        pytest.skip(f"the shipped index describes mteb {shipped.mteb_version}")
    fresh = tmp_path / "new folder" / "index.json"
    _run_python("-m", "evaluation.tasks.build_index", "--output", str(fresh))
    assert fresh.read_text(encoding="utf-8") == SHIPPED_INDEX.read_text(encoding="utf-8")
    assert [file.name for file in fresh.parent.iterdir()] == ["index.json"]


def test_every_listed_task_has_an_entry_that_agrees_with_mteb(shipped: TaskIndex, mteb: Any) -> None:  # noqa: ANN401
    with pytest.warns(UserWarning, match="beta"):
        tasks = mteb.get_tasks(exclude_superseded=False, exclude_private=False, exclude_beta=False)
    for task in tasks:
        entry, meta = shipped.task(task.metadata.name), task.metadata
        assert (entry.type, entry.modalities) == (
            meta.type,
            tuple(meta.modalities) if len(meta.modalities) == 1 else tuple(sorted(meta.modalities)),
        )
        if not entry.is_text:
            continue
        assert entry.subsets == tuple(meta.hf_subsets), entry.name
        assert entry.splits == tuple(meta.eval_splits), entry.name
        assert (entry.main_score, entry.languages) == (meta.main_score, tuple(meta.languages)), entry.name
        assert entry.is_aggregate == task.is_aggregate, entry.name
        if not entry.is_aggregate:
            assert (entry.dataset, entry.revision) == (meta.dataset["path"], meta.dataset["revision"]), entry.name
        for name in ("samples_per_label", "train_split", "max_document_to_embed", "max_fraction_of_documents_to_embed"):
            assert getattr(entry, name) == getattr(task, name, None), (entry.name, name)
        for name in ("ignore_identical_ids", "parallel_subsets", "is_cross_validation"):
            assert getattr(entry, name) == getattr(task, name, False), (entry.name, name)
        expected_file = meta.descriptive_stat_path
        assert descriptive_stats_file(entry) == (expected_file if expected_file.is_file() else None), entry.name


@pytest.mark.parametrize("languages", [["eng"], ["deu", "slk"]])
def test_language_filter_keeps_the_subsets_that_mteb_keeps(shipped: TaskIndex, mteb: Any, languages: list[str]) -> None:  # noqa: ANN401
    by_language = mteb.get_tasks(languages=languages, task_types=list(TASK_TYPES), modalities=["text"])
    kept = {task.metadata.name: tuple(task.hf_subsets) for task in by_language}
    assert len(kept) > 100
    for name, subsets in kept.items():
        if shipped.task(name).is_text:
            assert shipped.task(name).subsets_in(languages) == subsets, name


def test_benchmarks_choose_the_tasks_splits_and_subsets_of_mteb(shipped: TaskIndex, mteb: Any) -> None:  # noqa: ANN401
    for benchmark in mteb.get_benchmarks():
        tasks = shipped.benchmark(benchmark.name)
        if not tasks:
            modalities = [set(task.metadata.modalities) for task in benchmark.tasks]
            assert {"text"} not in modalities or all(
                not shipped.task(task.metadata.name).is_text for task in benchmark.tasks
            )
            continue
        assert [task.name for task in tasks] == [task.metadata.name for task in benchmark.tasks]
        for ours, theirs in zip(tasks, benchmark.tasks, strict=True):
            entry = shipped.task(ours.name)
            assert (ours.splits or entry.splits) == tuple(theirs.eval_splits), (benchmark.name, ours.name)
            assert (ours.subsets or entry.subsets) == tuple(theirs.hf_subsets), (benchmark.name, ours.name)
        for alias in benchmark.aliases:
            assert shipped.benchmark(alias) == tasks


def test_facts_of_the_types_are_those_of_mteb(shipped: TaskIndex, mteb: Any) -> None:  # noqa: ANN401
    assert tuple(TASK_TYPES) == get_args(TaskType)
    names = [record["name"] for record in json.loads(SHIPPED_INDEX.read_text(encoding="utf-8"))["tasks"]]
    entries = [entry for entry in map(shipped.task, names) if entry.is_text]
    for task_type, facts in TASK_TYPES.items():
        used = [entry.main_score for entry in entries if entry.type == task_type]
        assert facts.instruction == getattr(mteb.abstasks, facts.task_class).abstask_prompt, task_type
        if task_type != "InstructionReranking":
            assert facts.main_score == max(set(used), key=used.count), task_type


# What the shipped file says


@pytest.mark.parametrize(
    ("name", "count"), [("MTEB(eng, v1)", 56), ("MTEB(eng, v2)", 41), ("BEIR", 15), ("NanoBEIR", 13)]
)
def test_benchmark_has_its_published_number_of_text_tasks(shipped: TaskIndex, name: str, count: int) -> None:
    tasks = shipped.benchmark(name)
    assert len(tasks) == count
    assert all(shipped.task(task.name).is_text for task in tasks)


def test_benchmark_keeps_its_choice_of_splits_and_subsets(shipped: TaskIndex) -> None:
    tasks = {task.name: task for task in shipped.benchmark("MTEB(eng, v1)")}
    assert tasks["STS17"] == BenchmarkTask("STS17", splits=None, subsets=("en-en",))
    assert tasks["MassiveIntentClassification"].splits == ("test",)
    assert shipped.task("MassiveIntentClassification").splits == ("validation", "test")
    assert tasks["SciFact"] == BenchmarkTask("SciFact")


def test_benchmark_is_found_by_alias(shipped: TaskIndex) -> None:
    assert shipped.benchmark("MTEB(eng, classic)") == shipped.benchmark("MTEB(eng, v1)")
    assert "MTEB(eng, classic)" not in shipped.benchmark_names


def test_benchmark_without_text_is_known_by_name_only(shipped: TaskIndex) -> None:
    assert shipped.benchmark("ViDoRe(v1)") == ()
    assert "ViDoRe(v1)" in shipped.benchmark_names


def test_aggregate_lists_its_parts(shipped: TaskIndex) -> None:
    entry = shipped.task("CQADupstackRetrieval")
    assert entry.is_aggregate
    assert len(entry.parts) == 12
    assert all(shipped.task(part).is_text and not shipped.task(part).is_aggregate for part in entry.parts)


def test_entry_combines_class_defaults_with_what_a_task_changes(shipped: TaskIndex) -> None:
    plain, changed = shipped.task("Banking77Classification"), shipped.task("EmotionClassification")
    assert (plain.samples_per_label, plain.n_experiments, plain.train_split) == (8, 10, "train")
    assert (changed.samples_per_label, changed.n_experiments) == (16, 10)
    clustering = shipped.task("BlurbsClusteringS2S.v2")
    assert (clustering.max_document_to_embed, clustering.max_fraction_of_documents_to_embed) == (2048, None)
    assert shipped.task("STS12").samples_per_label is None
    assert shipped.task("ArguAna").ignore_identical_ids
    assert not shipped.task("SciFact").ignore_identical_ids
    assert shipped.task("MSMARCO").splits == ("dev",)


def test_all_pairs_of_flores_are_listed(shipped: TaskIndex) -> None:
    entry = shipped.task("FloresBitextMining")
    assert entry.parallel_subsets
    assert len(entry.subsets) == len(set(entry.subsets)) == 204 * 203
    assert "eng_Latn-slk_Latn" in entry.subsets_in(["slk"])


def test_task_of_other_modalities_is_known_but_not_text(shipped: TaskIndex) -> None:
    entry = shipped.task("CIFAR10")
    assert (entry.type, entry.modalities, entry.is_text) == ("ImageClassification", ("image",), False)
    assert "CIFAR10" in shipped


def test_text_task_of_an_unknown_type_does_not_count_as_text(shipped: TaskIndex) -> None:
    entry = shipped.task("WebQAT2TRetrieval")
    assert (entry.type, entry.modalities, entry.is_text) == ("Any2AnyRetrieval", ("text",), False)


def test_unknown_names_raise_key_error(shipped: TaskIndex) -> None:
    assert "Banking78" not in shipped
    with pytest.raises(KeyError):
        shipped.task("Banking78")
    with pytest.raises(KeyError):
        shipped.benchmark("MTEB(eng, v99)")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Banking77", "Banking77Classification"),
        ("scifact", "SciFact"),
        ("trec-covid", "TRECCOVID"),
        ("Bankng77Clasification", "Banking77Classification"),
    ],
)
def test_nearest_task_ignores_case_punctuation_and_slips(shipped: TaskIndex, name: str, nearest: str) -> None:
    found = shipped.nearest_tasks(name)
    assert found[0] == nearest
    assert len(found) <= 3


def test_nearest_names_are_usable_ones(shipped: TaskIndex) -> None:
    assert shipped.nearest_benchmarks("mteb(ENG,v2)")[0] == "MTEB(eng, v2)"
    assert shipped.nearest_benchmarks("biere")[0] == "BEIR"
    assert all(shipped.task(name).is_text for name in shipped.nearest_tasks("CIFAR10"))
    assert shipped.nearest_tasks("") == shipped.nearest_tasks("qqqqzzzz") == ()


def test_statistics_come_from_the_installed_mteb(shipped: TaskIndex) -> None:
    if installed_mteb_version() is None:
        pytest.skip("mteb is not installed")
    statistics = load_statistics(shipped.task("Banking77Classification"))
    assert statistics is not None
    assert statistics["test"]["num_samples"] == 3080
    assert load_statistics(shipped.task("CQADupstackRetrieval")) is None


# Lightness, and which file is read


def test_reading_imports_neither_mteb_nor_torch() -> None:
    code = (
        "import sys; from evaluation.tasks.index import load_index; from evaluation.tasks.installed_mteb import "
        "load_statistics; index = load_index(); "
        "load_statistics(index.task('STS12')); index.benchmark('BEIR'); index.nearest_tasks('STS'); "
        "import json; json.dump(sorted(sys.modules), sys.stdout)"
    )
    loaded = set(json.loads(_run_python("-c", code)))
    assert loaded.isdisjoint({"mteb", "torch", "pandas", "numpy", "datasets", "transformers", "pydantic"})


def test_shipped_index_serves_its_own_version_and_machines_without_mteb(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shipped: TaskIndex
) -> None:
    for version in (shipped.mteb_version, None):
        monkeypatch.setattr(index_module, "installed_mteb_version", lambda version=version: version)
        index_module._installed_index.cache_clear()
        assert load_index().mteb_version == shipped.mteb_version
        assert load_index() is load_index()
    assert not cache.exists()


@pytest.mark.parametrize("leftover", [None, "", "{}", '{"schema_version":0}'])
def test_other_version_is_built_once_into_the_user_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shipped: TaskIndex, leftover: str | None
) -> None:
    built: list[Path] = []

    def write_for_other_version(path: Path, version: str) -> None:
        built.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = SHIPPED_INDEX.read_text(encoding="utf-8").replace(shipped.mteb_version, "0.1")
        path.write_text(text, encoding="utf-8")

    monkeypatch.setattr(index_module, "installed_mteb_version", lambda: "0.1")
    monkeypatch.setattr(index_module, "_build_in_subprocess", write_for_other_version)
    if leftover is not None:
        cache.mkdir()
        (cache / "task-index-0.1.json").write_text(leftover, encoding="utf-8")
    for _ in range(2):  # the second time from the file
        index_module._installed_index.cache_clear()
        assert load_index().mteb_version == "0.1"
    assert built == [cache / "task-index-0.1.json"]


def test_failed_build_says_why_and_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "installed_mteb_version", lambda: "0.1")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EvaluationError, match=r"mteb 0\.1 .*exit code 1.*E5_EVALUATION_CACHE"):
        load_index()


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"schema_version":1,\n"tasks":[\n],\n"benchmarks":[\n]}\n'])
def test_file_that_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "index.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match="can't be used"):
        load_index(file)
    with pytest.raises(EvaluationError, match="can't be used"):
        load_index(tmp_path / "missing.json")


def test_folder_named_mteb_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mteb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mteb", raising=False)
    assert installed_mteb_version() is None


def test_user_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "own"))
    assert user_cache_dir() == tmp_path / "own"
    monkeypatch.delenv("E5_EVALUATION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "e5-evaluation"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == Path.home() / ".cache" / "e5-evaluation"
