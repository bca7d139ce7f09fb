"""Data folders as people have them: each is read as mteb reads the same data, or refused with file, line and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import mteb
import pytest
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
from support.data_layouts import LAYOUTS, Layout, beir, hub_repository

from evaluation import load_config
from evaluation.errors import ConfigError
from evaluation.jobs import build_jobs
from evaluation.tasks.loading import load_task, make_task

READ = [layout for layout in LAYOUTS if not layout.says]
REFUSED = [layout for layout in LAYOUTS if layout.says]


def test_there_are_60_layouts():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS) >= 60


@pytest.fixture(scope="session")
def read_by_mteb(tmp_path_factory) -> dict[str, Any]:
    """Task type -> the dataset as mteb's own loader reads it from a repository of the Hub."""
    folder = tmp_path_factory.mktemp("hub")
    read: dict[str, Any] = {}
    for task_type in {layout.type for layout in LAYOUTS}:
        repository = str(hub_repository(folder / task_type, task_type))
        if task_type in {"Retrieval", "Reranking"}:
            read[task_type] = RetrievalDatasetLoader(repository, None, split="test").load()
        else:
            read[task_type] = datasets.load_dataset(repository)
    return read


def plan(folder: Path, layout: Layout, data: Path, **task: Any) -> Any:
    config = folder / "config" / "c.yaml"
    config.parent.mkdir(exist_ok=True)
    document = {
        "name": "layouts",
        "models": [{"label": "m", "model": "builtin:all-MiniLM-L6-v2", "protocol": "none"}],
        "tasks": [{"local": "Own", "type": layout.type, "data": str(data), **task}],
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    (job,) = build_jobs(load_config(config))
    return job


def loaded(job: Any) -> Any:
    task = make_task(job.task, seed=42)
    load_task(task, job.task, None)
    return task


@pytest.mark.parametrize("layout", READ, ids=lambda layout: layout.name)
def test_layout_is_read_as_mteb_reads_the_same_data(layout, tmp_path, read_by_mteb):
    job = plan(tmp_path, layout, layout.write(tmp_path / "config" / "folder"))
    assert job.task.splits == ("test",)
    task, expected = loaded(job), read_by_mteb[layout.type]
    if isinstance(task, AbsTaskRetrieval):
        ours = task.dataset["default"]["test"]
        for name in ("corpus", "queries"):
            assert (
                ours[name].select_columns(["id", "text"]).to_list()
                == expected[name].select_columns(["id", "text"]).to_list()
            )
        assert ours["corpus"]["title"][:] == expected["corpus"]["title"][:]
        assert ours["relevant_docs"] == expected["relevant_docs"]
        assert ours["top_ranked"] == expected["top_ranked"]
    else:
        assert set(task.dataset) == set(expected)
        for split in expected:
            columns = zip(task.dataset[split].column_names, expected[split].column_names, strict=True)
            assert all(task.dataset[split][one][:] == expected[split][other][:] for one, other in columns)


@pytest.mark.parametrize("layout", REFUSED, ids=lambda layout: layout.name)
def test_layout_is_refused_with_file_and_remedy(layout, tmp_path):
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, layout, layout.write(tmp_path / "config" / "folder"))
    for part in layout.says:
        assert part in str(caught.value)
    assert "c.yaml, line 1: " in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- real scores


def score_by_mteb(checkpoint: Path, repository: Path) -> float:
    """mteb's own class of retrieval, its own loader and its own model wrapper on the same data."""
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    task = mteb.get_task("SciFact")
    pinned = {"path": str(repository), "revision": "local"}
    task.metadata = task.metadata.model_copy(update={"dataset": pinned})
    model = SentenceTransformerEncoderWrapper(str(checkpoint), device="cpu")
    done = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    return done.task_results[0].scores["test"][0]["main_score"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize(
    "entry", [{"local": "Own", "type": "Retrieval"}, {"mteb": "SciFact"}, {"beir": "scifact"}], ids=str
)
def test_unknown_documents_and_negative_judgements_score_as_in_mteb(entry, tmp_path, run_job, tiny_checkpoint):
    expected = score_by_mteb(tiny_checkpoint, hub_repository(tmp_path / "hub", "Retrieval"))
    result = run_job({**entry, "data": beir(tmp_path / "beir")}, tiny_checkpoint, "none")
    assert result.scores["test"][0].main_score == pytest.approx(expected, abs=1e-5)
    assert result.counts["judgements of unknown documents"] == 3
    assert result.counts["judgements below 0, which count as not relevant"] == 2
    assert 0 < expected < 0.9
