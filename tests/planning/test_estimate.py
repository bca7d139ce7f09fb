"""What a plan says of tokens, operations, shared texts and hours; it needs neither network, model nor torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation import load_config
from evaluation.jobs import build_jobs
from evaluation.models.sizes import ModelShape, shape_of_folder, shape_of_name
from evaluation.planning.calibration import Calibration
from evaluation.planning.devices import DEVICES, seconds_on
from evaluation.planning.estimate import JobCost, estimate, jobs_that_fit
from evaluation.system.machine import place_name

LARGE = "intfloat/e5-large-unsupervised"
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def plan_of(make_config: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A function: tasks and models' settings -> RunCost with an empty calibration, cache on."""

    def plan(*tasks: dict[str, Any], cache_gib: float = 200.0, model: str = LARGE) -> Any:
        config = make_config(tasks, model, "e5")
        runtime = config.runtime.model_copy(update={"cache": True, "cache_gib": cache_gib})
        config = config.model_copy(update={"runtime": runtime})
        return estimate(config, build_jobs(config), Calibration(tmp_path / "none.json"))

    return plan


def test_operations_of_a_layer_by_hand() -> None:
    shape = ModelShape(layers=1, width=2, inner_width=3, vocabulary=10, max_length=8, tokenizer="x")
    assert shape.flops(tokens=5, mean_length=4) == 5 * (2 * (4 * 4 + 2 * 6) + 4 * 4 * 2)


def test_shapes_known_by_name_are_those_of_the_files(tiny_checkpoint: Path) -> None:
    known = shape_of_name(LARGE)
    assert known is not None
    assert known.parameters == pytest.approx(335_141_888, rel=0.01), "the model card's number, with its pooler"
    tiny = shape_of_folder(tiny_checkpoint, "tiny")
    assert tiny is not None
    assert (tiny.layers, tiny.width, tiny.inner_width, tiny.max_length) == (2, 48, 96, 64)
    assert tiny.tokenizer == "bert-uncased"
    assert shape_of_name("someone/else") is None


def test_corpus_of_two_tasks_is_counted_once(plan_of: Callable[..., Any]) -> None:
    cost = plan_of({"mteb": "FEVER"}, {"mteb": "ClimateFEVER"})
    fever, climate = cost.jobs
    assert fever.new_tokens == fever.tokens
    assert climate.tokens > 100 * climate.new_tokens
    assert climate.own_texts == 1_535, "its queries alone"


def test_part_of_a_corpus_is_shared_after_the_whole_only(plan_of: Callable[..., Any]) -> None:
    whole, part = plan_of({"mteb": "FEVER"}, {"mteb": "FEVERHardNegatives"}).jobs
    assert part.new_tokens == 0
    _, *parts = plan_of({"mteb": "FEVER"}, {"mteb": "FEVERHardNegatives"}, {"mteb": "NanoFEVERRetrieval"}).jobs
    assert [part.new_tokens for part in parts] == [0, 0]
    part, whole = plan_of({"mteb": "FEVERHardNegatives"}, {"mteb": "FEVER"}).jobs
    assert whole.new_tokens == whole.tokens, "a shard that lacks one text is encoded whole"


def test_a_cache_that_is_too_small_is_a_warning_with_the_size_needed(plan_of: Callable[..., Any]) -> None:
    tasks = {"mteb": "FEVER"}, {"mteb": "ClimateFEVER"}
    (note,) = plan_of(*tasks, cache_gib=5.0).notes
    assert "is limited to 5 GiB" in note
    assert note.endswith("raise runtime.cache_gib to 21.")
    assert plan_of(*tasks, cache_gib=21.0).notes == []


def test_tokens_follow_the_maximum_length(plan_of: Callable[..., Any]) -> None:
    (long,) = plan_of({"mteb": "BigPatentClustering.v2"}).jobs
    assert long.tokens == pytest.approx(512 * long.unique_texts, rel=0.01), "32,000 characters on average"


def test_unknown_model_is_unknown_until_fetched(plan_of: Callable[..., Any]) -> None:
    cost = plan_of({"mteb": "STSBenchmark"}, model="someone/else")
    assert cost.jobs[0].tokens is None
    assert cost.model_bytes == {"someone/else": None}
    (note,) = cost.notes
    assert note == "the size of someone/else is not known; its cost is unknown until the model is fetched."


def test_characters_per_token_are_kept_for_tokenizer_and_task(tmp_path: Path) -> None:
    file = tmp_path / "planning.json"
    fresh = Calibration(file)
    usual = fresh.characters_per_token("bert-uncased", "english", "A")
    fresh.note_texts("bert-uncased", "english", "A", 600, 100)
    fresh.note_texts("bert-uncased", "english", "B", 200, 100)
    fresh.note_texts("bert-uncased", "english", "B", 9_999, 1)  # a second run of a task adds nothing
    fresh.note_scoring("here", "A", 2.5)
    fresh.save()
    kept = Calibration(file)
    assert usual == 4.4
    assert kept.characters_per_token("bert-uncased", "english", "A") == 6
    assert kept.characters_per_token("bert-uncased", "english", "unseen") == 4
    assert kept.characters_per_token("xlm-roberta", "english", "A") == 4.0
    assert kept.scoring_s("here", "A") == 2.5


@pytest.mark.parametrize(
    "content", ["[", "[]", '{"tokenizers": []}', '{"tokenizers": {"bert-uncased": {"english": 3}}}']
)
def test_calibration_file_of_another_shape_counts_as_empty_and_is_written_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "planning.json"
    file.write_text(content, encoding="utf-8")
    calibration = Calibration(file)
    assert calibration.characters_per_token("bert-uncased", "english", "A") == 4.4
    calibration.note_texts("bert-uncased", "english", "A", 600, 100)
    calibration.note_speed("here", "shape", {16: 1e-6})
    calibration.save()
    assert Calibration(file).characters_per_token("bert-uncased", "english", "A") == 6
    assert Calibration(file).seconds_per_token("here", "shape") == {16: 1e-6}


def test_jobs_that_fit_are_the_shortest(plan_of: Callable[..., Any]) -> None:
    def job(task: str, seconds: float | None, state: str = "waiting") -> JobCost:
        return JobCost("a", task, state, seconds=seconds)

    jobs = [job("long", 3_000), job("short", 600), job("middle", 1_200), job("stored", 0.0, "done"), job("?", None)]
    assert {task for _, task in jobs_that_fit(jobs, 0.5)} == {"short", "middle", "stored"}
    assert {task for _, task in jobs_that_fit(jobs, 0.1)} == {"stored"}


def test_time_on_a_named_card_is_its_peak_at_the_assumed_share() -> None:
    assert seconds_on("a100", 0.3 * DEVICES["a100"] * 1e12) == pytest.approx(1)


STARTS = """
import json, sys
from evaluation.commands.run_benchmark.command import main
sys.argv = ["run-benchmark", *sys.argv[1:]]
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending.code
heavy = {"torch", "mteb", "datasets", "transformers", "pandas", "beir", "huggingface_hub"} & set(sys.modules)
print("loaded:" + json.dumps(sorted(heavy)))
"""


@pytest.mark.parametrize("name", ["mteb-eng-v1", "mteb-eng-v2", "beir"])
def test_plan_of_a_suite_loads_neither_torch_nor_mteb(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path))
    known = Calibration()
    known.note_speed(place_name("auto"), "1024x4096 auto", {16: 1e-4, 512: 2e-4})
    known.save()
    config = CONFIGS / f"e5-large-unsupervised-{name}.yaml"
    command = [sys.executable, "-c", STARTS, str(config), "--plan", "--on", "a100:2", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table, _, loaded = done.stdout.rpartition("loaded:")
    assert json.loads(loaded) == []
    assert f"{len(build_jobs(load_config(config)))} jobs" in table
    assert "On one a100:" in table
    assert "at 2 per hour" in table
    assert "?" not in table.replace("size unknown", ""), "every cost is known"


@pytest.mark.full
def test_tokens_from_statistics_alone_are_near_the_truth(
    shared_data: Path, make_config: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    """The plan knows the tasks by name only; the run has their texts."""
    from evaluation import run

    names: list[dict[str, Any]] = [
        {"mteb": "STSBenchmark"},
        {"mteb": "BornholmBitextMining"},
        {"mteb": "FinancialPhrasebankClassification"},
        {"mteb": "MBPPRetrieval"},
        {"mteb": "SIB200ClusteringS2S", "subsets": ["eng_Latn"]},
    ]
    model = "builtin:all-MiniLM-L6-v2"
    planned = {job.task: job.tokens for job in plan_of(*names, model=model).jobs}
    with_data = [{**task, "data": shared_data / task["mteb"]} for task in names]
    outcome = run(make_config(with_data, model, "e5"))
    assert [record.error for record in outcome.failed] == []
    for record in outcome.records:
        truth = sum(side.tokens_kept for side in record.audit.sides.values())
        assert planned[record.task] == pytest.approx(truth, rel=0.15), record.task
