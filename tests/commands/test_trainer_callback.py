"""The callback on real trainers: one series in one run, a significant drop, and training that goes on after a fault."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, cast

import pytest
from sentence_transformers import SentenceTransformer
from support.data import text, write_files
from transformers import TrainerControl, TrainerState, TrainingArguments

from evaluation import EvaluationCallback, compare
from evaluation.analysis.comparison.series import find_series
from evaluation.analysis.gate.series import check_series
from evaluation.analysis.report.report import write_report
from evaluation.config.loading import load_config
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError


@pytest.fixture
def config(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Retrieval of documents by their own text, at which a random model is good and a constant one is not."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    texts = [text(number, 6) for number in range(60)]
    files = {
        "corpus.jsonl": [{"_id": f"d{number}", "text": own} for number, own in enumerate(texts)],
        "queries.jsonl": [{"_id": f"q{number}", "text": own} for number, own in enumerate(texts)],
        "qrels/test.tsv": [(f"q{number}", f"d{number}", 1) for number in range(60)],
    }
    write_files(tmp_path / "data" / "Same", files)
    document = {
        "name": "dev",
        "models": [{"label": "model", "model": str(tiny_checkpoint), "protocol": "none"}],
        "tasks": [{"local": "Same", "type": "Retrieval", "data": "data/Same"}],
        "runtime": {"device": "cpu"},
        "output": str(tmp_path / "results"),
    }
    (tmp_path / "dev.yaml").write_text(json.dumps(document), encoding="utf-8")
    return load_config(tmp_path / "dev.yaml")


@pytest.fixture
def model(tiny_checkpoint: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_checkpoint), device="cpu")


def end_step(callback: EvaluationCallback, model: object, step: int) -> TrainerControl:
    """What a trainer does at the end of a step; its arguments are not read."""
    state = TrainerState(global_step=step)
    return callback.on_step_end(cast(TrainingArguments, None), state, TrainerControl(), model=model)


def begin(callback: EvaluationCallback, step: int) -> None:
    callback.on_train_begin(cast(TrainingArguments, None), TrainerState(global_step=step), TrainerControl())


def test_trainer_of_five_steps_writes_a_series(config: RunConfig, model: SentenceTransformer, tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import CosineSimilarityLoss

    rows = {"sentence1": ["a b"] * 10, "sentence2": ["c d"] * 10, "score": [0.0, 1.0] * 5}
    settings = {"max_steps": 5, "per_device_train_batch_size": 2, "report_to": "none", "save_strategy": "no"}
    callback = EvaluationCallback(config, every_steps=2)
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(str(tmp_path / "training"), use_cpu=True, **settings),
        train_dataset=Dataset.from_dict(rows),
        loss=CosineSimilarityLoss(model),
        callbacks=[callback],
    ).train()
    assert list(callback.outcomes) == [2, 4, 5]
    (folder,) = {outcome.folder for outcome in callback.outcomes.values()}
    assert folder.name == "dev-training"
    weights = {record.provenance.model.weights_sha256 for o in callback.outcomes.values() for record in o.records}
    assert len(weights) == 3  # every evaluation saw the weights of its step
    assert model.training  # as the trainer left it
    check_series_is_read(folder, [2, 4, 5])


def check_series_is_read(folder: Path, steps: list[int]) -> None:
    """The readers of a series of checkpoint folders read this one."""
    comparison = compare(folder)
    labels = [f"model-step-{step}" for step in steps]
    assert [column.label for column in comparison.columns] == labels
    (series,) = find_series(comparison)
    assert [(one.label, one.step) for one in series.checkpoints] == list(zip(labels, steps, strict=True))
    report = check_series(folder)
    assert {check.label for check in report.checks} == {labels[-1]}


def test_plain_transformers_trainer_writes_a_series(config: RunConfig, bert_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertForMaskedLM, Trainer

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    ids = tokenizer(["a b c d"])["input_ids"][0]
    callback = EvaluationCallback(config, every_steps=3)
    settings: dict[str, Any] = {"max_steps": 5, "report_to": "none", "save_strategy": "no", "use_cpu": True}
    Trainer(
        model=BertForMaskedLM.from_pretrained(bert_folder),
        args=TrainingArguments(str(tmp_path / "training"), **settings),
        train_dataset=[{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}] * 10,
        processing_class=tokenizer,
        callbacks=[callback],
    ).train()
    assert not any(outcome.failed for outcome in callback.outcomes.values())
    assert [column.step for column in compare(tmp_path / "results" / "dev-training").columns] == [3, 5]


def test_only_a_resumed_training_adds_to_a_series(config: RunConfig, model: SentenceTransformer) -> None:
    first = EvaluationCallback(config, every_steps=1)
    begin(first, 0)
    for step in (2, 4):
        end_step(first, model, step)
    again = EvaluationCallback(config, every_steps=1)
    with pytest.raises(UsageError, match=r"dev-training holds the series 'model' of another training, up to step 4"):
        begin(again, 0)
    other = config.with_models((config.models[0].model_copy(update={"label": "other"}),))
    begin(EvaluationCallback(other, every_steps=1, label="other"), 0)  # a series of its own
    begin(again, 2)
    end_step(again, model, 3)
    assert [column.step for column in compare(again.outcomes[3].folder).columns] == [2, 3]


@pytest.mark.full
def test_report_draws_the_series(config: RunConfig, model: SentenceTransformer, tmp_path: Path) -> None:
    callback = EvaluationCallback(config, every_steps=1)
    for step in (1, 2):
        end_step(callback, model, step)
    (series,) = find_series(compare(callback.outcomes[2].folder))
    write_report([callback.outcomes[2].folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert series.sentence in html.unescape(page)
    assert 'id="chart-series"' in page


@pytest.mark.parametrize("stop", [False, True])
def test_significant_drop_can_stop_the_training(
    config: RunConfig, model: SentenceTransformer, caplog: pytest.LogCaptureFixture, stop: bool
) -> None:
    callback = EvaluationCallback(config, every_steps=1, stop_on_drop=stop)
    assert not end_step(callback, model, 1).should_training_stop
    assert not end_step(callback, model, 2).should_training_stop  # nothing changed
    for weights in model.parameters():
        weights.data.fill_(0.01)  # every text gets the same vector
    assert end_step(callback, model, 3).should_training_stop is stop
    assert "step 3 is significantly worse than step 1." in caplog.text or "than step 2." in caplog.text


def test_training_goes_on_where_an_evaluation_fails(config: RunConfig, caplog: pytest.LogCaptureFixture) -> None:
    control = end_step(EvaluationCallback(config, every_steps=1), object(), 1)
    assert not control.should_training_stop
    assert "step 1 was not evaluated: models['model-step-1'] is a object" in caplog.text


def test_label_that_the_config_lacks_is_refused_at_once(config: RunConfig) -> None:
    with pytest.raises(UsageError, match=r"label='mine': no model of the config has this label \(labels: model\)"):
        EvaluationCallback(config, every_steps=1, label="mine")
