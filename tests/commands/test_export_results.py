"""export-results from a user's side: what it refuses."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.fake_runs import retrieval, write_run

from evaluation.analysis.handover.exports import write_trec
from evaluation.commands.export_results import main
from evaluation.errors import UsageError
from evaluation.system.atomic_files import read_sealed_json, write_sealed_json

CALL = "import sys; from evaluation.commands.export_results import main; sys.argv[0] = 'export-results'; main()"


@pytest.mark.parametrize("target", ["mteb", "model-card", "trec"])
def test_folder_that_is_no_run_is_wrong_usage(tmp_path: Path, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(tmp_path), "--to", target],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr == f"export-results: {tmp_path} is not a run folder: it has no run.json.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["model-card", "trec"])
@pytest.mark.parametrize("label", ["../../planted", "/tmp/planted", "a/b", ".planted"])
def test_forged_label_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, label: str
) -> None:
    run = write_run(tmp_path / "run", [retrieval(np.ones(3))])
    (file,) = run.rglob("record.json")
    ranking = file.with_name("run.parquet")
    columns = {"split": "test", "subset": "default", "query_id": "q", "corpus_id": "d", "rank": 1, "score": 0.5}
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), ranking)
    hashes = {**read_sealed_json(file)["files"], "run.parquet": hashlib.sha256(ranking.read_bytes()).hexdigest()}
    write_sealed_json(file, {**read_sealed_json(file), "label": label, "files": hashes})
    before = sorted(tmp_path.rglob("*"))
    output = tmp_path / "a" / "b"
    monkeypatch.setattr(sys, "argv", ["export-results", str(run), "--to", target, "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in {2, 3}
    assert "can't be the name of a" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_trec_export_of_ids_with_spaces_writes_nothing(tmp_path: Path) -> None:
    """One of two jobs can be written, the other can't: a part of an export must not be left behind."""
    run = write_run(tmp_path / "run", [retrieval(np.ones(3), task="A"), retrieval(np.ones(3), task="B")])
    for file, query in zip(sorted(run.rglob("record.json")), ["q", "q 1"], strict=True):
        ranking = file.with_name("run.parquet")
        columns = {"split": "test", "subset": "default", "query_id": query, "corpus_id": "d", "rank": 1, "score": 0.5}
        pq.write_table(pa.table({name: [value] for name, value in columns.items()}), ranking)
        hashes = {**read_sealed_json(file)["files"], "run.parquet": hashlib.sha256(ranking.read_bytes()).hexdigest()}
        write_sealed_json(file, {**read_sealed_json(file), "files": hashes})
    with pytest.raises(UsageError, match="can't hold ids with spaces"):
        write_trec(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_that_can_not_be_written_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, blocked = write_run(tmp_path / "run", [retrieval(np.ones(3))]), tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["export-results", str(run), "--to", "model-card", "--output", str(blocked)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"export-results: --output: {blocked / 'E5-small.md'} can't be written: Not a directory.\n"
