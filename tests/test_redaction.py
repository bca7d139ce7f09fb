"""Secrets and control characters: hidden in records, logs and terminals; numbers and ordinary texts untouched."""

from __future__ import annotations

import json
import logging
from io import StringIO
from pathlib import Path

import pytest
from support.fake_runs import job_record

from evaluation.commands.run_benchmark.run import _LateFile, _Redacting
from evaluation.system.atomic_files import read_sealed_json, write_json, write_sealed_json
from evaluation.system.inert_text import printable
from evaluation.system.redaction import redactor

TOKEN = "hf_" + "aB3" * 11


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HF_TOKEN": TOKEN,
        "OPENAI_API_KEY": "not-shaped-like-a-key",
        "MY_PASSWORD": "short",
        "HTTPS_PROXY": "http://user:pass word@proxy:3128",
        "http_proxy": "http://me:hunter2@proxy:3128",
        "AWS_SECRET_ACCESS_KEY": "0123456789012345",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("secrets")
def test_values_of_secret_variables_and_logins_are_hidden() -> None:
    text = f"GET {TOKEN} not-shaped-like-a-key http://me:hunter2@proxy short 0123456789012345"
    assert redactor()(text) == "GET [secret] [secret] http://[secret]@proxy short [secret]"


def test_tokens_are_hidden_by_their_shape_alone() -> None:
    assert redactor()(f"Authorization: Bearer abcdefgh123, {TOKEN}") == "Authorization: Bearer [secret], [secret]"
    assert redactor()("Bearer of news, hf_hub, hf_short") == "Bearer of news, hf_hub, hf_short"


@pytest.mark.usefixtures("secrets")
def test_stored_json_holds_no_secret_and_all_numbers(tmp_path: Path) -> None:
    content = {"error": f"401 for {TOKEN}", "inner": [{"x": TOKEN}], "score": 0.0123456789012345, "n": 123456789012345}
    write_json(tmp_path / "plain.json", content)
    write_sealed_json(tmp_path / "sealed.json", content)
    for found in (json.loads((tmp_path / "plain.json").read_bytes()), read_sealed_json(tmp_path / "sealed.json")):
        assert found == {**content, "error": "401 for [secret]", "inner": [{"x": "[secret]"}]}


@pytest.mark.usefixtures("secrets")
def test_the_log_holds_no_secret_and_no_control_character(tmp_path: Path) -> None:
    handler = _LateFile(tmp_path / "below" / "run.log", encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(_Redacting("%(message)s"))
    handler.emit(logging.makeLogRecord({"msg": f"token {TOKEN} \x1b[31m \ud800"}))
    handler.close()
    assert (tmp_path / "below" / "run.log").read_text(encoding="utf-8") == "token [secret] \\x1b[31m \\ud800\n"


def test_a_log_that_can_not_be_written_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    handler = _LateFile(tmp_path / "file" / "run.log", encoding="utf-8", delay=True)
    handler.emit(logging.makeLogRecord({"msg": "x"}))
    full = _LateFile("/dev/full", encoding="utf-8", delay=True)
    full.emit(logging.makeLogRecord({"msg": "x"}))
    full.close()
    assert capsys.readouterr() == ("", "")


def test_control_characters_become_escapes() -> None:
    assert printable("a\x1b[2Jb\x07\r\x9b\x00") == "a\\x1b[2Jb\\x07\\r\\x9b\\x00"
    assert printable("right \u202egnorw\u202c and \u2066x\u2069") == "right \\u202egnorw\\u202c and \\u2066x\\u2069"
    assert printable("\ud83d alone") == "\\ud83d alone"
    assert printable("שלום עולم 👩‍👩‍👧 tab\tline\n") == "שלום עולم 👩‍👩‍👧 tab\tline\n"


def test_tables_show_markup_and_control_characters_as_they_are() -> None:
    from evaluation.analysis.tables.formats import render_markdown, render_plain
    from evaluation.analysis.tables.table import Table, TableRow, TextCell

    header = tuple(map(TextCell, ("Task", "Type", "[red]x\x1b[0m")))
    row = TableRow(tuple(map(TextCell, ("[bold]a|b[/bold]", "<script>", "1.00"))))
    table = Table("", header, 2, (row,), ("[/] note\x07",))
    said = render_plain([table])
    assert "[bold]a|b[/bold]" in said
    assert "[red]x\\x1b[0m" in said
    assert "[/] note\\x07" in said
    assert "\x1b" not in said
    markdown = render_markdown([table])
    assert r"\[bold\]a\|b\[/bold\]" in markdown
    assert "<script>" not in markdown
    assert "\x07" not in markdown


def test_errors_of_jobs_are_shown_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from evaluation.commands.run_benchmark.progress import ConsoleReporter

    class Named:
        name = "tiny on [red]Task"

    stream = StringIO()
    reporter = ConsoleReporter(Console(file=stream, width=200))
    reporter.run_started([], 0, {})
    record = job_record("x", "x", None, error="the text '[link=x]\x1b]0;title\x07' is bad")
    reporter.job_ended(Named(), record)  # type: ignore[arg-type]
    said = stream.getvalue()
    assert "tiny on [red]Task: failed: the text '[link=x]\\x1b]0;title\\x07' is bad" in said
    assert "\x1b" not in said
