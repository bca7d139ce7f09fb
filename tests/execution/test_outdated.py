"""A run of an earlier release is never matched in silence, nor run again without a word."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from support.data import write_files
from support.tiny_models import write_tiny_bert

from evaluation import load_config, run
from evaluation.execution import job_running, local_executor
from evaluation.execution.runner import RunOutcome

SENTENCE = "1 stored jobs run again, because each was stored by an earlier release and its identity lacks"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single_thread: None):
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    write_tiny_bert(tmp_path / "model", 0)
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n * 7 % 5}", "score": float(n % 6)} for n in range(20)]
    write_files(tmp_path / "pairs", {"test.jsonl": rows})
    document = {
        "name": "t",
        "models": [{"label": "tiny", "model": "./model", "protocol": "none"}],
        "tasks": [{"local": "Pairs", "type": "STS", "data": "pairs"}],
        "runtime": {"device": "cpu"},
        "output": str(tmp_path / "results"),
    }
    (tmp_path / "c.yaml").write_text(json.dumps(document), encoding="utf-8")

    def begin(*, as_earlier: bool) -> RunOutcome:
        with monkeypatch.context() as earlier:
            if as_earlier:
                earlier.setattr(job_running, "IDENTITY_VERSION", None)
                earlier.setattr(local_executor, "fingerprint", lambda *_: "0" * 64)
            return run(load_config(tmp_path / "c.yaml"))

    return begin


def test_job_of_an_earlier_release_runs_again_and_says_why(start, caplog: pytest.LogCaptureFixture) -> None:
    first = start(as_earlier=True)
    caplog.set_level(logging.WARNING)
    second = start(as_earlier=False)
    assert SENTENCE in caplog.text
    assert "the old records are kept" in caplog.text
    assert second.records[0].main_score == first.records[0].main_score
    assert len(list(second.folder.glob("jobs/*/*/*/record.json"))) == 2
    caplog.clear()
    start(as_earlier=False)
    assert "earlier release" not in caplog.text
