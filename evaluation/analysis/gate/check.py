"""Judges a run by a baseline, both read from disk: the public `check_regression`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluation.analysis.gate.baseline_file import load_baseline
from evaluation.analysis.gate.rule import GateReport, GateRule
from evaluation.analysis.gate.snapshots import Snapshot, check_complete, read_run
from evaluation.analysis.gate.verdicts import judge
from evaluation.system.shipped_files import find_shipped


def check_regression(
    run: str | Path,
    baseline: str | Path,
    *,
    max_drop: float = 1.0,
    alpha: float = 0.05,
    require_conclusive: bool = False,
) -> GateReport:
    """Judges a run by a baseline; `passed` of the report is the verdict.

    Example:
        >>> report = check_regression("results/new", "results/baselines/suite.json")  # doctest: +SKIP
        >>> assert report.passed, report.failures  # doctest: +SKIP

    Args:
        run: A run's folder, such as results/quickstart.
        baseline: Another run's folder, or a file that `check-regression --update-baseline` wrote.
        max_drop: Points that a task may lose.
        alpha: Level of the tests, after Holm's correction.
        require_conclusive: Whether an inconclusive verdict fails the gate.

    Raises:
        UsageError: One of the two cannot be read, is limited or damaged; the baseline is incomplete; a value is out
            of range.
    """
    rule = GateRule(max_drop, alpha, require_conclusive)
    report = judge(read_baseline(Path(baseline)), read_run(Path(run)), rule)
    return replace(report, run=str(run), baseline=str(baseline))


def read_baseline(path: Path) -> Snapshot:
    """Reads the snapshot of a baseline file or of a complete run.

    Raises:
        UsageError: It cannot be read, is limited, damaged or incomplete.
    """
    path = find_shipped(path)
    snapshot = read_run(path) if path.is_dir() else load_baseline(path)
    check_complete(snapshot, str(path))
    return snapshot
