"""compare-results as a user starts it: output, files, exit codes and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support.published_results import write_result

from evaluation.commands.compare_results import compare_results
from evaluation.errors import UsageError

REPOSITORY = Path(__file__).parents[2]
START = "from evaluation.commands.entry import compare_results; compare_results()"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Run:
    """A function: arguments -> the finished process, started outside the checkout."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", START, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80"},
            capture_output=True,
            text=True,
            encoding=os.environ.get("PYTHONIOENCODING", "utf-8"),
            check=False,
            timeout=120,
        )

    return run


TABLE = """\
model,source,revision,protocol,task,task_type,split,subset,metric,main_score
org/a,s,,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.5
org/a,s,,e5,NFCorpus,Retrieval,test,default,ndcg_at_10,0.25
org/b,s,,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.75
org/b,s,,none,SciFact,Retrieval,test,default,ndcg_at_10,0.5
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "mine.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path / "mine.csv"


def test_table_on_standard_output(command: Run, table: Path) -> None:
    done = command(table, "--model", "a s", "--baseline", "a s")
    assert (done.returncode, done.stderr) == (0, "")
    assert "SciFact" in done.stdout and "50.00" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_table_on_a_terminal_of_any_encoding(command: Run, table: Path, encoding: str, monkeypatch) -> None:
    signs = table.read_text(encoding="utf-8").replace("org/b", "org/β¹–中")
    table.write_text(signs, encoding="utf-8")
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.setenv("PYTHONUTF8", "0")
    done = command(table, "--mixed", "--format", "markdown")
    assert (done.returncode, done.stderr) == (0, "")
    assert "75.00" in done.stdout
    assert command(table, "--mixed").returncode == 0


def test_protocols_are_refused_together_with_exit_code_2(command: Run, table: Path) -> None:
    done = command(table)
    assert (done.returncode, done.stdout) == (2, "")
    assert "differ in protocol" in done.stderr and "--mixed" in done.stderr
    mixed = command(table, "--mixed")
    assert mixed.returncode == 0
    assert "Mixed: the columns differ in protocol" in mixed.stdout and "b s none [none]" in mixed.stdout


@pytest.mark.parametrize("name", ["markdown", "latex", "csv", "json", "terminal"])
def test_every_format_goes_to_a_file_and_to_standard_output(command: Run, table: Path, name: str) -> None:
    file = table.parent / "out" / f"comparison.{name}"
    written = command(table, "--mixed", "--format", name, "--output", file)
    printed = command(table, "--mixed", "--format", name)
    assert (written.returncode, written.stdout, printed.returncode) == (0, "", 0)
    assert file.read_text(encoding="utf-8") == printed.stdout
    match name:
        case "csv":
            assert set(pd.read_csv(file)["kind"]) >= {"task", "mean", "borda"}
        case "json":
            assert [row["task"] for row in json.loads(printed.stdout)["rows"]] == ["SciFact", "NFCorpus"]


def test_citations_are_printed_or_written(command: Run, table: Path) -> None:
    printed = command(table, "--cite")
    assert (printed.returncode, printed.stderr, len(printed.stdout.splitlines())) == (0, "", 3)
    assert "a s: org/a, protocol e5; ndcg_at_10 50.00 on SciFact, ndcg_at_10 25.00 on NFCorpus; " in printed.stdout
    assert command(table, "--cite", "--output", "cite.txt").stdout == ""
    assert (table.parent / "cite.txt").read_text(encoding="utf-8") == printed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a run folder"),
        (("mine.csv", "--cite", "--format", "csv"), "--cite prints plain lines"),
        (("nowhere",), "nowhere is not a run: it does not exist"),
        (("mine.csv", "--mixed", "--baseline", "c"), "--baseline 'c': no column has this label"),
        (("mine.csv", "--mixed", "--benchmark", "MTEBB"), "mteb has no benchmark of this name"),
        (("mine.csv", "--format", "pdf"), "pdf"),
        (("mine.csv", "--label", "tab:a"), "add --format latex"),
        (("mine.csv", "--mixed", "--output", "mine.csv/x"), "--output: "),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(
    command: Run, table: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("margin", [float("inf"), float("nan"), 1e9, 100.5, 0.0, -1.0])
def test_a_margin_that_is_no_share_of_the_scale_is_refused(margin: float) -> None:
    with pytest.raises(UsageError, match="give points of score, above 0 and at most 100") as found:
        compare_results([Path("mine.csv")], margin=margin)
    assert str(found.value).startswith(f"--margin {margin:g}: ")


def test_published_takes_a_folder_or_nothing(command: Run, table: Path) -> None:
    write_result(table.parent / "all", "x/one", "SciFact", {("test", "default"): 0.5})
    for arguments in (["--published", "all"], ["--published=all"]):
        done = command(*arguments, "--format", "csv")
        assert (done.returncode, done.stderr) == (0, "")
        assert "x/one" in done.stdout and "org/a" not in done.stdout
    beside = command("--published", "mine.csv", "--mixed")  # a table is still a RUN
    assert beside.returncode == 0 and "a s" in beside.stdout
    lost = command("--published", "nowhere")
    assert lost.returncode == 2 and "--published nowhere: there is no such folder" in lost.stderr


def test_56_tasks_and_13_models_are_compared_without_heavy_imports() -> None:
    """What makes it quick; benchmarks/startup.py has the seconds."""
    arguments = ["--published", "--mixed", "--benchmark", "MTEB(eng, v1)", "--model", "*card", "--model", "all-MiniLM*"]
    code = f"""
import sys
from evaluation.commands.compare_results import main
sys.argv = ["compare-results", *{arguments!r}, "--format", "json"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({{"pandas", "numpy", "scipy", "pyarrow", "torch", "mteb"}} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    content = json.loads(done.stdout)
    assert (len(content["rows"]), len(content["columns"])) == (56, 13)
