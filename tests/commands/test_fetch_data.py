"""fetch-data on a config without anything of the Hub: it writes the lock that `run-benchmark --locked` asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.commands.fetch_data.fetch import fetch_and_lock
from evaluation.execution.downloads import locked_config
from evaluation.hub.lock import lock_file
from evaluation.jobs import build_jobs


@pytest.mark.usefixtures("logging_as_before")
def test_a_config_of_folders_is_locked(make_config, write_data, tiny_checkpoint, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    rows = [{"sentence1": f"a {n}", "sentence2": "b", "score": n} for n in range(4)]
    data = write_data("sts", {"test.jsonl": rows})
    config = make_config([{"local": "S", "type": "STS", "data": data}], tiny_checkpoint, "none")
    jobs, file = build_jobs(config), tmp_path / "config.yaml"
    fetch_and_lock(config, jobs, file, is_whole=True, sizes_only=False)
    assert locked_config(config, jobs, lock_file(file)).models == config.models
