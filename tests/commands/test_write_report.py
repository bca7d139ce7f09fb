"""write-report from a user's side: what it says, what it leaves, how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_runs import write_manifest
from support.synthetic_suite import write_suite

from evaluation.commands.write_report import main

CALL = "import sys; from evaluation.commands.write_report import main; sys.argv[0] = 'write-report'; main()"


def write_report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("runs") / "harbours", ["STSBenchmark"], n_models=2, n_units=20)


def test_report_is_written_and_named(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "report.html"
    done = write_report(run, "--output", file, "--baseline", "model-02")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Report: {file}\n"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_output_that_is_a_folder_is_refused(run: Path, tmp_path: Path) -> None:
    done = write_report(run, "--output", tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"write-report: --output {tmp_path} is a folder; name a file, such as {tmp_path / 'report.html'}.\n"
    )


def test_output_that_can_not_be_written_is_wrong_usage(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    file = tmp_path / "file" / "report.html"
    monkeypatch.setattr(sys, "argv", ["write-report", str(run), "--output", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"write-report: --output: {file} can't be written: Not a directory.\n"


def test_unknown_baseline_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    done = write_report(run, "--output", tmp_path / "r.html", "--baseline", "model-2")
    assert done.returncode == 2
    assert "model-2" in done.stderr
    assert "model-02" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.html").exists()


def test_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    done = write_report(tmp_path / "nothing", "--output", tmp_path / "r.html")
    assert done.returncode in {2, 3}
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_without_any_score_still_ends_in_a_sentence(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "empty", [], waiting=[("a", "STSBenchmark")])
    done = write_report(folder, "--output", tmp_path / "r.html")
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert "No model has a score" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_damaged_samples_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "harbours", ["SciFact"], n_models=1, n_units=20)
    file = next(folder.rglob("samples.parquet"))
    file.write_bytes(file.read_bytes()[:-7])
    done = write_report(folder, "--output", tmp_path / "r.html")
    assert done.returncode == 3
    assert f"{file} is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.html").exists()
