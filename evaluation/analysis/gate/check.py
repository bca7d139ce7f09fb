"""A run held against a baseline, both read from disk: the public `check_regression`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluation.analysis.gate.baseline_file import load_baseline
from evaluation.analysis.gate.snapshots import Snapshot, check_complete, read_run
from evaluation.analysis.gate.verdicts import GateReport, GateRule, judge


def check_regression(
    run: str | Path, baseline: str | Path, *, max_drop: float = 1.0, alpha: float = 0.05
) -> GateReport:
    """Judge a run by a baseline; `passed` of what comes back is the verdict.

    Args:
        run: A run's folder, such as results/quickstart.
        baseline: Another run's folder, or a file that `check-regression --update-baseline` wrote.
        max_drop: Points that a task may lose, whatever the statistics.
        alpha: Level of the tests, after Holm's correction.

    Raises:
        UsageError: One of the two can't be read, is limited or damaged; the baseline is incomplete; a value is out of
            range.
    """
    rule = GateRule(max_drop, alpha)
    report = judge(read_baseline(Path(baseline)), read_run(Path(run)), rule)
    return replace(report, run=str(run), baseline=str(baseline))


def read_baseline(path: Path) -> Snapshot:
    """The snapshot of a baseline file or of a complete run.

    Raises:
        UsageError: It can't be read, is limited, damaged or incomplete.
    """
    snapshot = read_run(path) if path.is_dir() else load_baseline(path)
    check_complete(snapshot, str(path))
    return snapshot
