"""check-regression as a user meets it: exit codes, what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy.stats import norm
from support.fake_runs import RULES, FakeJob, classification, clustering, retrieval, sts, write_run

import evaluation
from evaluation.commands.check_regression.command import main
from evaluation.errors import UsageError

Run = Callable[..., tuple[int, str, str]]
BARE = {**RULES, "protocol": "none", "query_prefix": "", "text_prefix": ""}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function: arguments -> exit code, standard output, standard error."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["check-regression", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def suite(shift: float = 0.0, **changes) -> list[FakeJob]:
    """Four tasks of one model; `shift` moves the queries' scores."""
    rng = np.random.default_rng(3)
    values, gold = rng.random(300), rng.integers(0, 5, 120)
    predictions = np.where(rng.random((4, 120)) < 0.7, gold, 0)
    scatter = rng.normal(0, 0.05, 300)
    return [
        retrieval(values + (shift + scatter - scatter.mean() if shift else 0), **changes),
        sts(gold.astype(float), gold + rng.normal(0, 2, 120), **changes),
        classification(gold, predictions, **changes),
        clustering(rng.random(10), **changes),
    ]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return write_run(tmp_path / "before", suite())


# ---------------------------------------------------------------------------------------------------------- exit codes


def test_rerun_passes(check: Run, tmp_path: Path, before: Path) -> None:
    code, out, err = check(write_run(tmp_path / "now", suite()), "--baseline", before)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (
        f"PASSED: {tmp_path}/now against {before}; of 5 checks 5 without a drop beyond 1.00"
    )
    assert "E5-small: the same weights and tokenizer as in the baseline." in out


def test_regression_is_exit_1_and_the_rule_is_declared(check: Run, tmp_path: Path, before: Path) -> None:
    code, out, _ = check(write_run(tmp_path / "now", suite(-0.04, weights="cccc")), "--baseline", before)
    assert code == 1
    assert "E5-small, Retrieve: regression: dropped 4.00 points, more than 1.00, p < 0.0001 after Holm." in out
    for said in ("dropped by more than 1.00 points", "after Holm", "below 0.05", "95 % interval"):
        assert said in out
    assert "E5-small: other weights or another tokenizer than in the baseline." in out
    assert "FAILED" in out.splitlines()[-1]


def test_limits_are_taken_from_the_command_line(check: Run, tmp_path: Path, before: Path) -> None:
    now = write_run(tmp_path / "now", suite(-0.04))
    code, out, _ = check(now, "--baseline", before, "--max-drop", "5", "--alpha", "0.01")
    assert code == 1, "the mean may not drop at all"
    assert "Retrieve: no drop beyond max-drop: dropped 4.00 points, no more than 5.00, p < 0.0001" in out
    assert "below 0.01" in out


def test_improvement_passes_and_is_listed(check: Run, tmp_path: Path, before: Path) -> None:
    code, out, _ = check(write_run(tmp_path / "now", suite(0.04)), "--baseline", before)
    assert code == 0
    assert "Retrieve: no drop beyond max-drop: rose 4.00 points, by more than chance" in out


def test_changed_protocol_fails_by_name(check: Run, tmp_path: Path, before: Path) -> None:
    code, out, _ = check(write_run(tmp_path / "now", suite(rules=BARE)), "--baseline", before)
    assert code == 1
    assert "E5-small, Similar: changed: protocol 'e5' -> 'none'; protocol's query_prefix 'query: ' -> ''" in out


def test_changed_dataset_and_missing_task_fail_by_name(check: Run, tmp_path: Path, before: Path) -> None:
    jobs = [*suite()[:1], *suite(revision="local-2")[1:3]]
    code, out, _ = check(write_run(tmp_path / "now", jobs), "--baseline", before)
    assert code == 1
    assert "E5-small, Classify: changed: dataset revision 'local-1' -> 'local-2'." in out
    assert "E5-small, Cluster: missing: the run has no such task." in out


def test_failed_job_fails_by_name(check: Run, tmp_path: Path, before: Path) -> None:
    jobs = [*suite()[:3], clustering(np.zeros(10), error="out of memory")]
    code, out, _ = check(write_run(tmp_path / "now", jobs), "--baseline", before)
    assert code == 1
    assert "E5-small, Cluster: failed: out of memory." in out


def test_interrupted_run_fails_by_name(check: Run, tmp_path: Path, before: Path) -> None:
    now = write_run(tmp_path / "now", suite())
    next((now / "jobs" / "E5-small" / "Similar").rglob("record.json")).unlink()
    code, out, _ = check(now, "--baseline", before)
    assert code == 1
    assert "E5-small, Similar: failed: never ended" in out


REFUSED = {
    "no such run": (lambda folder: [folder / "none"], "none is not a run folder"),
    "limited run": (lambda folder: [folder / "limited"], "limited is a limited run"),
    "share of changes": (lambda folder: ["--power", folder / "before", "--changed", "2"], "--changed 2: give a share"),
    "negative max-drop": (lambda folder: [folder / "now", "--max-drop=-1"], "--max-drop -1: give points, 0 or more"),
    "alpha of nan": (lambda folder: [folder / "now", "--alpha", "nan"], "--alpha nan: give a level"),
    "not a number": (lambda folder: [folder / "now", "--alpha", "x"], "Invalid value for '--alpha'"),
    "junit in a file": (lambda folder: [folder / "now", "--junit", folder / "file" / "j.xml"], "can't be written"),
    "junit is summary": (lambda folder: [folder / "now", "--junit", "a", "--summary", "a"], "name the same file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_usage_is_exit_2_and_a_sentence(check: Run, tmp_path: Path, before: Path, case: str) -> None:
    write_run(tmp_path / "now", suite())
    write_run(tmp_path / "limited", suite(), limit={"queries": 5})
    (tmp_path / "file").write_text("", encoding="utf-8")
    arguments, says = REFUSED[case]
    given = arguments(tmp_path)
    code, _, err = check(*given, *([] if "--power" in given else ["--baseline", before]))
    assert code == 2
    assert says in err


def test_baseline_is_asked_for(check: Run, before: Path) -> None:
    code, _, err = check(before)
    assert code == 2
    assert "Missing option '--baseline'" in err
    code, _, err = check("--baseline", before)
    assert code == 2 and "Missing argument 'RUN'" in err


@pytest.mark.parametrize("content", [None, "", "{}", "not json", '{"format": "e5-evaluation baseline"}'])
def test_baseline_that_can_not_be_used_is_exit_2(check: Run, tmp_path: Path, before: Path, content: str | None) -> None:
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    code, out, err = check(before, "--baseline", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"check-regression: {file}") and len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["limited", "failed"])
def test_baseline_run_that_is_no_whole_one_is_exit_2(check: Run, tmp_path: Path, before: Path, name: str) -> None:
    limit = {"queries": 5} if name == "limited" else None
    jobs = [*suite(), *([retrieval(np.ones(3), "Other", error="no memory")] if name == "failed" else [])]
    code, _, err = check(before, "--baseline", write_run(tmp_path / name, jobs, limit=limit))
    assert code == 2
    assert name in err and len(err.splitlines()) == 1


# ------------------------------------------------------------------------------------------------------------- baseline


def test_baseline_file_gives_the_verdicts_of_its_run(check: Run, tmp_path: Path, before: Path) -> None:
    file = tmp_path / "baselines" / "suite.json"
    code, out, _ = check(before, "--baseline", file, "--update-baseline")
    assert code == 0
    assert out.startswith(f"Baseline written: {file} (4 jobs, ")
    now = write_run(tmp_path / "now", suite(-0.04))
    (code, from_file, _), (_, from_run, _) = (check(now, "--baseline", base) for base in (file, before))
    assert code == 1
    assert from_file.replace(str(file), "X") == from_run.replace(str(before), "X")


def test_update_shows_what_changes_and_writes_the_same_bytes_again(check: Run, tmp_path: Path, before: Path) -> None:
    file = tmp_path / "suite.json"
    check(before, "--baseline", file, "--update-baseline")
    first = file.read_bytes()
    now = write_run(tmp_path / "now", suite(-0.04))
    code, out, _ = check(now, "--baseline", file, "--update-baseline")
    assert code == 0, "an update judges nothing"
    assert "Retrieve: regression" in out and "Baseline written" in out
    assert file.read_bytes() != first
    assert check(now, "--baseline", file)[0] == 0
    check(before, "--baseline", file, "--update-baseline")
    assert file.read_bytes() == first


def test_update_replaces_a_damaged_baseline(check: Run, tmp_path: Path, before: Path) -> None:
    file = tmp_path / "suite.json"
    check(before, "--baseline", file, "--update-baseline")
    good = file.read_bytes()
    file.write_text(json.dumps(json.loads(good) | {"run": "edited"}), encoding="utf-8")
    assert check(before, "--baseline", file)[0] == 2
    code, _, err = check(before, "--baseline", file, "--update-baseline")
    assert code == 0
    assert "damaged or was edited" in err
    assert file.read_bytes() == good


def test_update_overwrites_nothing_else(check: Run, tmp_path: Path, before: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n", encoding="utf-8")
    code, _, err = check(before, "--baseline", readme, "--update-baseline")
    assert code == 2
    assert "README.md is not a baseline file and is not overwritten" in err
    assert readme.read_text(encoding="utf-8") == "# Mine\n"
    code, _, err = check(before, "--baseline", tmp_path, "--update-baseline")
    assert code == 2
    assert "is a folder" in err


def test_update_takes_whole_runs_only(check: Run, tmp_path: Path) -> None:
    failed = write_run(tmp_path / "failed", [*suite(), retrieval(np.ones(3), "Other", error="no memory")])
    limited = write_run(tmp_path / "limited", suite(), limit={"queries": 5})
    for run, says in ((failed, "E5-small on Other: no memory"), (limited, "is a limited run")):
        code, _, err = check(run, "--baseline", tmp_path / "suite.json", "--update-baseline")
        assert code == 2
        assert says in err
    assert not (tmp_path / "suite.json").exists()


def test_update_and_reports_exclude_each_other(check: Run, tmp_path: Path, before: Path) -> None:
    code, _, err = check(before, "--baseline", tmp_path / "b", "--update-baseline", "--junit", tmp_path / "j")
    assert code == 2
    assert "leave out --junit and --summary" in err


# ------------------------------------------------------------------------------------------------------------- planning


def test_power_is_planned_from_a_share_or_from_the_stored_pilot(check: Run, tmp_path: Path, before: Path) -> None:
    file = tmp_path / "suite.json"
    other = write_run(tmp_path / "other", suite(-0.04))
    assert check(before, "--baseline", file, "--update-baseline", "--pilot", other)[0] == 0
    code, out, _ = check("--power", file)
    assert code == 0 and "the pilot other, another checkpoint's run" in out
    # Differences spread by 5 points; Holm's first step of three tasks and a mean, half of alpha for tasks: 0.05 / 6.
    row = next(line for line in out.splitlines() if line.startswith("Retrieve"))
    assert row.split("│")[1].strip() == "300"
    found = float(row.split("│")[2])
    assert found == pytest.approx((norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)) * 5 / np.sqrt(300), rel=0.15)
    declared = check("--power", file, "--changed", "0.04")[1]
    row = next(line for line in declared.splitlines() if line.startswith("Retrieve"))
    error = 100 * np.sqrt(0.04 / 300)
    assert float(row.split("│")[2]) == pytest.approx((norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)) * error, abs=0.006)
    assert "a declared share of 4%" in declared
    assert "an assumed share of 10%" in check("--power", before)[1]
    assert check(other, "--baseline", file)[0] == 1, "a baseline with a pilot judges as one without"


def test_pilot_without_a_difference_is_refused(check: Run, tmp_path: Path, before: Path) -> None:
    code, _, err = check(before, "--baseline", tmp_path / "b.json", "--update-baseline", "--pilot", before)
    assert code == 2 and "no task of it differs from the baseline's" in err


# ------------------------------------------------------------------------------------------------------------- reports


def test_reports_are_written_for_both_verdicts(check: Run, tmp_path: Path, before: Path) -> None:
    for shift, failures in ((0.0, "0"), (-0.04, "2")):  # the task, and the mean that it pulls down
        now = write_run(tmp_path / f"now{shift}", suite(shift))
        junit, summary = tmp_path / "reports" / "junit.xml", tmp_path / "reports" / "summary.md"
        code, _, _ = check(now, "--baseline", before, "--junit", junit, "--summary", summary)
        assert code == int(failures != "0")
        assert ET.parse(junit).getroot().get("failures") == failures
        assert summary.read_text(encoding="utf-8").startswith("## FAILED" if code else "## PASSED")


def test_github_actions_gets_annotations_and_its_page_is_added_to(
    check: Run, tmp_path: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = write_run(tmp_path / "now", suite(-0.04))
    assert "::error" not in check(now, "--baseline", before)[1]
    page = tmp_path / "page.md"
    page.write_text("earlier\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    code, out, _ = check(now, "--baseline", before, "--summary", page)
    assert code == 1
    assert "\n::error title=E5-small%2C Retrieve::regression: dropped 4.00 points, more than 1.00, p < 0.0001" in out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("earlier\n## FAILED")


def test_labels_of_the_terminal_table_are_no_markup(check: Run, tmp_path: Path) -> None:
    run = write_run(tmp_path / "now", [*suite(label="[red]a[bold]"), *suite(label="[b]")])
    code, out, _ = check(run, "--baseline", run)
    assert code == 0
    assert "[red]a[bold]" in out and "[b]" in out


# ----------------------------------------------------------------------------------------------------------- in Python


def test_public_function_gives_the_verdicts(tmp_path: Path, before: Path) -> None:
    report = evaluation.check_regression(write_run(tmp_path / "now", suite(-0.04)), before)
    assert not report.passed
    assert [check.name for check in report.failures] == ["Retrieve", "mean of 3 tasks"]
    assert evaluation.check_regression(str(before), str(before)).passed
    with pytest.raises(UsageError, match="--max-drop"):
        evaluation.check_regression(before, before, max_drop=-1)
