"""What run-benchmark says at its end of the run's stored forms."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.fake_runs import FakeJob, job_record, write_run

from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.run_view import read_run_view
from evaluation.commands.run_benchmark.run import judging_command
from evaluation.errors import ComparisonError

OWN, FORM = job_record("e5", "Search"), job_record("e5@int8", "Search", stored="int8")
BARE = job_record("minilm", "Search", protocol="none", audit=None)


def test_the_command_that_is_named_compares_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "my run", [FakeJob(record, None) for record in (OWN, FORM)])
    assert shlex.split(judging_command(read_run_view(folder))) == ["compare-results", str(folder)]
    assert compare(folder).stored is not None


def test_a_run_of_two_protocols_is_compared_with_mixed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [FakeJob(record, None) for record in (OWN, FORM, BARE)])
    assert judging_command(read_run_view(folder)) == f"compare-results {folder} --mixed"
    with pytest.raises(ComparisonError, match="--mixed"):
        compare(folder)
    assert compare(folder, mixed=True).stored is not None


def test_without_stored_forms_no_command_is_named(tmp_path: Path) -> None:
    assert judging_command(read_run_view(write_run(tmp_path / "run", [FakeJob(OWN, None)]))) == ""
