"""What may be handed on and in which form: refusals, run files, model cards. test_offline.py has a whole export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mteb.results import TaskResult
from support.fake_runs import write_manifest

from evaluation import run
from evaluation.adapters.mteb_export import export_for_mteb
from evaluation.analysis.handover.exports import write_model_cards, write_trec
from evaluation.errors import DamagedFileError, UsageError
from evaluation.records.mteb_files import read_mteb_files
from evaluation.records.origin import DatasetProvenance
from evaluation.records.store import RunStore

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart"


@pytest.fixture
def stored(make_config: Callable[..., Any], tiny_checkpoint: Path) -> Path:
    """A run of a retrieval and an STS task on local data."""
    tasks = [
        {"local": "TownDesk", "type": "Retrieval", "data": QUICKSTART / "TownDeskRetrieval"},
        {"mteb": "STSBenchmark", "data": QUICKSTART / "EverydaySTS"},
    ]
    return run(make_config(tasks, tiny_checkpoint, "e5")).folder


def test_local_data_local_weights_and_other_protocols_are_refused_all_at_once(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        export_for_mteb(stored, tmp_path / "out", experiment=False)
    lines = str(refused.value).splitlines()
    both = "tiny e5 on TownDesk, tiny e5 on STSBenchmark: "
    assert [line.startswith(both) for line in lines] == [True] * 3
    for reason in ("it ran on local data", "is not a model of the Hub", "protocol 'e5' is not mteb's"):
        assert sum(reason in line for line in lines) == 1
    with pytest.raises(UsageError) as still:
        export_for_mteb(stored, tmp_path / "out", experiment=True)
    assert len(str(still.value).splitlines()) == 2, "an experiment lifts the protocol only"
    assert not (tmp_path / "out").exists()


COMMIT, STS_REVISION = "c" * 40, "b0fddb56ed78048fa8b90373c8a3cfc37b684831"
PLACE = f"someone__tiny/{COMMIT}"


@pytest.fixture
def of_hub(stored: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function: label -> folder below mteb/results, changed scores -> a run as if of the Hub's model and dataset."""
    source = RunStore(stored)
    record = next(record for record in source.current_records() if record.task == "STSBenchmark")
    result, meta = read_mteb_files(source, record).values()
    assert record.provenance.model is not None
    model = record.provenance.model.model_copy(update={"name": "someone/tiny", "revision": COMMIT})
    dataset = DatasetProvenance(name="mteb/stsbenchmark-sts", revision=STS_REVISION)
    provenance = record.provenance.model_copy(update={"model": model, "dataset": dataset})

    def make(places: Mapping[str, str], *, other_score: bool = False) -> Path:
        store, records = RunStore(tmp_path / "of-hub"), []
        for label, place in places.items():
            scores: Any = {"test": [dict(entry) for entry in result["scores"]["test"]]}
            if other_score and records:
                scores["test"][0]["main_score"] = 0.25
            files = {
                f"{place}/STSBenchmark.json": {**result, "scores": scores, "dataset_revision": STS_REVISION},
                f"{place}/model_meta.json": {**meta, "name": "someone/tiny", "revision": COMMIT},
            }
            changed = {"label": label, "protocol": "mteb", "provenance": provenance, "files": {}}
            records.append(store.save(record.model_copy(update=changed), {}, files))
        return write_manifest(store.folder, records)

    return make


def test_each_label_hands_on_its_own_file_whatever_lies_in_the_shown_tree(
    of_hub: Callable[..., Path], tmp_path: Path
) -> None:
    folder = of_hub({"plain": PLACE, "short": f"{PLACE}/experiments/max_length_64"})
    shown = folder / "mteb" / "results" / PLACE / "STSBenchmark.json"
    shown.parent.mkdir(parents=True)
    shown.write_text("{", encoding="utf-8")
    exported = export_for_mteb(folder, tmp_path / "out", experiment=False)
    names = [file.relative_to(tmp_path / "out" / "results").as_posix() for file in exported.files]
    assert names == [
        f"{place}/{name}"
        for place in (PLACE, f"{PLACE}/experiments/max_length_64")
        for name in ("STSBenchmark.json", "model_meta.json")
    ]
    assert TaskResult.from_disk(exported.files[0]).dataset_revision == STS_REVISION


def test_damage_to_a_jobs_own_file_is_one_sentence(of_hub: Callable[..., Path], tmp_path: Path) -> None:
    folder = of_hub({"plain": PLACE})
    (file,) = folder.rglob("mteb.json")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match=f"{file} is damaged"):
        export_for_mteb(folder, tmp_path / "out", experiment=False)
    assert not (tmp_path / "out").exists()


def test_two_results_that_are_one_file_to_mteb_are_refused(of_hub: Callable[..., Path], tmp_path: Path) -> None:
    folder = of_hub({"auto": PLACE, "float32": PLACE}, other_score=True)
    with pytest.raises(UsageError, match="auto and float32 differ on STSBenchmark, but mteb stores them in one file"):
        export_for_mteb(folder, tmp_path / "out", experiment=False)
    assert not (tmp_path / "out").exists()


def test_trec_run_file_scores_as_the_record_does(stored: Path, tmp_path: Path) -> None:
    import pytrec_eval

    (file,) = write_trec(stored, tmp_path)
    assert file.name == "TownDesk.test.run"
    cells = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()]
    assert cells[0][1] == "Q0"
    assert cells[0][3] == "1"
    assert {row[5] for row in cells} == {"tiny_e5"}
    results: dict[str, dict[str, float]] = {}
    for query, _, document, _, score, _ in cells:
        results.setdefault(query, {})[document] = float(score)
    lines = (QUICKSTART / "TownDeskRetrieval" / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    qrels: dict[str, dict[str, int]] = {}
    for query, document, grade in (line.split("\t") for line in lines):
        qrels.setdefault(query, {})[document] = int(grade)
    scored = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(results)
    mean = sum(values["ndcg_cut_10"] for values in scored.values()) / len(qrels)
    record = next(record for record in RunStore(stored).current_records() if record.task == "TownDesk")
    assert mean == pytest.approx(record.main_score, abs=1e-5), "mteb rounds to five decimals"


def test_model_card_parses_and_names_the_protocol(stored: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    (file,), notes = write_model_cards(stored, tmp_path)
    data = ModelCard(file.read_text(encoding="utf-8")).data
    assert notes == []
    assert data.model_name == "local/tiny"
    first, second = data.eval_results
    assert (first.task_type, first.dataset_type, first.metric_type) == ("Retrieval", "local/TownDesk", "ndcg_at_10")
    assert first.metric_name == "ndcg_at_10 (protocol e5)"
    assert first.metric_args["protocol"] == "e5"
    assert second.dataset_revision.startswith("local-")
    record = RunStore(stored).current_records()[0]
    assert first.metric_value == pytest.approx(100 * record.main_score)


def test_plan_and_truth_stand_side_by_side(stored: Path) -> None:
    for job in RunStore(stored).read_run().jobs:
        assert job.cost is not None and job.cost.truth is not None
        plan, truth = job.cost.plan, job.cost.truth
        assert plan.unique_texts == truth.unique_texts
        assert plan.tokens == pytest.approx(truth.tokens, rel=0.15)
        assert truth.new_tokens == truth.tokens, "nothing was cached"
        assert truth.seconds is not None and truth.seconds > 0
