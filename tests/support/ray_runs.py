"""A run with a corpus of several shards, and what tests of executor ray look at."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.data import text
from support.small_runs import write_small_run

from evaluation import load_config, run
from evaluation.config.run_config import RunConfig
from evaluation.execution.ray.address import prepare
from evaluation.execution.reporting import Reporter, RunOutcome, WorkerProgress
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore

prepare("127.0.0.1")  # before ray is imported: whatever the tests start stays on the loopback interface

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def write_run(
    folder: Path,
    save_bert: Callable[..., Path],
    *,
    n_documents: int = 1_000,
    sizes: dict[str, int] | None = None,
    **ray: Any,
) -> Path:
    """A config whose corpus has many shards (of 131,072 characters), with some texts and ids that are easily lost."""
    documents = [{"_id": f"d{n}", "title": "", "text": text(n % (n_documents - 40), 60)} for n in range(n_documents)]
    documents[7]["title"] = "a title"
    return write_small_run(
        folder,
        ("Pairs", "Search", "Kinds", "Order"),
        {"e5": "e5", "none": "none"},
        model=save_bert(folder / "model", **SIZES | (sizes or {})),
        name="spread",
        documents=documents,
        runtime={"max_tokens": 512, "ray": ray},
    )


def config_of(file: Path, executor: str, **overrides: Any) -> RunConfig:
    """The config with another executor, in a results folder of its own."""
    settings = {"runtime.executor": executor, "output": str(file.parent / executor), **overrides}
    return load_config(file, overrides=[f"{key}={json.dumps(value)}" for key, value in settings.items()])


def records_of(folder: Path) -> dict[tuple[str, str], JobRecord]:
    """Of a finished run, every file of it checked by the store on the way."""
    return {(record.label, record.task): record for record in RunStore(folder).current_records()}


def assert_same_runs(found: Path, expected: Path) -> None:
    """The same jobs, scores, audit and stored tables, to the last bit."""
    ours, theirs = records_of(found), records_of(expected)
    assert ours.keys() == theirs.keys()
    for key, record in ours.items():
        other = theirs[key]
        assert record.state == other.state == "done", record.error
        assert record.fingerprint == other.fingerprint
        assert record.scores == other.scores, key
        assert _audit_of(record) == _audit_of(other), key
        assert _tables_of(record) == _tables_of(other), key


def _audit_of(record: JobRecord) -> dict[str, Any]:
    """The audit without the time that the proof took, which each cache makes once."""
    audit = record.audit.model_dump() if record.audit else {}
    (audit.get("proof") or {}).pop("seconds", None)
    return audit


def _tables_of(record: JobRecord) -> dict[str, str]:
    return {name: sha256 for name, sha256 in record.files.items() if name.endswith(".parquet")}


class Watcher(Reporter):
    """Calls an action once, when a condition on the workers holds; keeps what was said."""

    def __init__(self, condition: Callable[[Sequence[WorkerProgress]], bool], action: Callable[[], None]) -> None:
        self._condition, self._action = condition, action
        self.has_acted = False
        self.notices: list[str] = []

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        if not self.has_acted and self._condition(workers):
            self.has_acted = True
            self._action()

    def notice(self, sentence: str) -> None:
        self.notices.append(sentence)


def watched_run(config: RunConfig, watcher: Watcher) -> tuple[RunOutcome, dict[str, Any]]:
    """A run and what run.json says of its executor."""
    outcome = run(config, reporter=watcher)
    facts = RunStore(outcome.folder).read_run().executor or {}
    return outcome, facts


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables for nodes that are started meanwhile; they find this package where the tests do."""
    wanted = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **variables}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
