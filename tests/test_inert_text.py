"""Hostile text in every output: all of it is shown, none of it acts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from support.fake_comparisons import comparison
from support.fake_runs import FakeJob, job_record, write_run
from support.synthetic_suite import write_suite

from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.frame import SUMMARY_COLUMNS, summary_rows
from evaluation.analysis.gate.junit import render_junit
from evaluation.analysis.gate.rule import Check, GateReport, GateRule, Verdict
from evaluation.analysis.report.contents import gather
from evaluation.analysis.report.page import render
from evaluation.analysis.tables.comparison_table import comparison_tables
from evaluation.analysis.tables.csv_json import comparison_csv, csv_of
from evaluation.analysis.tables.formats import render_latex, render_markdown
from evaluation.analysis.tables.gate_text import gate_markdown, gate_table, remarks, workflow_commands
from evaluation.analysis.tables.terminal import render_plain
from evaluation.commands.console import shown
from evaluation.system.inert_text import for_csv, for_html, for_markdown, for_terminal, for_workflow_command, printable

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07 \x9b31m",
    "NUL and backspace": "a\x00b\x08c\x7f",
    "carriage return": "good\rbad",
    "direction": "abc \u202edcba\u202c \u2066x\u2069 \u200f",
    "surrogate": "half \ud83d",
    "noncharacter": "\ufffe\uffff",
    "script": "<script>window.planted=1</script>",
    "image": "<img src=x onerror=planted()>",
    "attribute": "\" onmouseover=planted() x='",
    "end of style": "</style></script>--><svg onload=planted()>",
    "entity": "&lt;b&gt; &amp;#x1b;",
    "template": "{{ 7 * 7 }} {% raw %}",
    "Markdown": "**b** _i_ `c` [x](javascript:planted) | # h ~~s~~ http://planted.example www.planted.example $x$",
    "console markup": "[bold red]x[/] [link=file:///etc/passwd]y[/link]",
    "LaTeX": "\\input{/etc/passwd} $x$ % # & ~ ^ -- {} \\\\[1cm]",
    "formula": '=HYPERLINK("http://planted.example")',
    "formula with plus": "+1+cmd|' /C calc'!A0",
    "formula with minus": "-1+1",
    "formula with at": "@SUM(1+1)",
    "formula after a tab": "\t=1+1",
    "formula after a space": " =1+1",
    "formula after a break": "\r\n=1+1",
    "workflow command": "x\n::error::planted",
    "workflow command, indented": "  ::warning file=x::planted",
    "workflow command, old": "x ##[error]planted",
    "workflow, after a return": "x\r::stop-commands::planted",
    "lines": "a\u2028b\u2029c\x85d\x0be",
}
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def compared(hostile: str) -> Comparison:
    """Hostile in every place that a run can fill."""
    made = comparison({hostile: [50.0], "b": [60.0]}, p_adjusted={"b": [0.01]})
    rows = tuple(replace(row, task=hostile, type=hostile, metric=hostile) for row in made.rows)
    return replace(made, rows=rows, name=hostile, benchmark=hostile, notes=(hostile,))


def judged(hostile: str) -> GateReport:
    check = Check(hostile, hostile, Verdict.FAILED, reason=hostile)
    return GateReport(hostile, hostile, GateRule(), (check, Check("b", "T", Verdict.NO_DROP)), (), (hostile,))


def is_command(line: str) -> bool:
    """Whether the runner of GitHub Actions takes a line of output for a command (its ActionCommand.cs)."""
    return line.lstrip().startswith("::") or "##[" in line


def text_outputs(hostile: str) -> dict[str, str]:
    """Every text that a command prints or writes for people."""
    report = judged(hostile)
    tables = [*comparison_tables(compared(hostile)), gate_table(report)]
    return {
        "terminal": render_plain(tables) + "\n".join(map(shown, remarks(report))),
        "Markdown": render_markdown(tables),
        "CI page": gate_markdown(report),
        "LaTeX": render_latex(tables),
        "CSV": comparison_csv(compared(hostile)),
        "JUnit": render_junit(report).decode(),
        "annotations": "\n".join(workflow_commands(report)),
    }


def test_no_output_holds_a_character_that_acts(hostile: str) -> None:
    for name, text in text_outputs(hostile).items():
        assert ACTS.search(text) is None, name


def test_log_of_github_actions_holds_no_command(hostile: str) -> None:
    outputs = text_outputs(hostile)
    for name in ("terminal", "Markdown", "CI page"):
        assert not [line for line in outputs[name].splitlines() if is_command(line)], name
    lines = outputs["annotations"].split("\n")
    assert [line.partition(" ")[0] for line in lines] == ["::error"]
    assert len(lines[0].split("::")) == 3 or "::" in hostile


def test_markdown_shows_text_only(hostile: str) -> None:
    for name in ("Markdown", "CI page"):
        markdown = text_outputs(hostile)[name]
        page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown)
        tags = set(re.findall(r"<(\w+)", page))
        assert tags <= {
            "p",
            "strong",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "ins",
            "sub",
            "h2",
            "ul",
            "li",
            "br",
        }
        cell = for_markdown(hostile)
        assert "\n" not in cell
        assert cell.strip() in markdown or not cell.strip()


def test_csv_holds_no_formula_and_loads_back(hostile: str) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compared(hostile)), newline="")))
    assert len(rows) >= 2
    summary = csv_of([{"label": hostile, "score": -1.5}], ["label", "score"])
    (row,) = csv.DictReader(io.StringIO(summary, newline=""))
    assert float(row["score"]) == -1.5
    for text in (*(row[name] for row in rows for name in ("task", "type", "label")), row["label"]):
        assert not text.lstrip().startswith(("=", "+", "-", "@")), text
        assert not text.startswith(("\t", "\r")), text
    assert row["label"].removeprefix("'") == printable(hostile)


def test_junit_is_xml(hostile: str) -> None:
    root = ET.fromstring(render_junit(judged(hostile)))
    assert {case.get("name") for case in root.iter("testcase")} == {printable(hostile), "T"}


class Elements(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_shows_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All hostile texts at once: as a model's name, a failure, a warning, an example, a setting, a data set."""
    monkeypatch.setattr("evaluation.analysis.report.page.vega_bundle", lambda: "// Vega")
    plain = Elements(render(gather([write_suite(tmp_path / "plain", ["STSBenchmark"], n_models=1, n_units=9)])))
    jobs = []
    for number, hostile in enumerate(HOSTILE.values()):
        fields = {
            "warnings": (hostile,),
            "model": {"name": hostile, "declared": hostile},
            "settings": {"device": hostile},
            "dataset": {"name": hostile, "revision": hostile},
        }
        jobs.append(FakeJob(job_record(f"model {number}", "STSBenchmark", type="STS", **fields), None))
        jobs.append(FakeJob(job_record(f"model {number}", "SciFact", None, error=hostile), None))
    config = {"name": "x", "models": [{"label": text, "model": text} for text in HOSTILE.values()]}
    page = render(gather([write_run(tmp_path / "run", jobs, config=config, versions={"a": "\x1b"})]))
    found = Elements(page)
    assert ACTS.search(page) is None
    assert found.tags <= plain.tags | {"ul", "li", "h4", "sup", "wbr"}
    assert not [name for name in found.attributes if name.startswith("on")]
    for hostile in HOSTILE.values():
        stored = hostile.encode("utf-8", "replace").decode()  # as records are written
        assert for_html(stored).strip() in found.text


def test_summary_csv_of_records_is_inert() -> None:
    found = csv_of(summary_rows([job_record("=1+1", "T")]), SUMMARY_COLUMNS)
    assert "\n'=1+1,local/small," in found


def test_ordinary_text_is_left_as_it_is() -> None:
    for inert in (for_terminal, printable, for_html, for_csv, for_workflow_command):
        inert_text: Callable[[str], str] = inert
        for text in ("שלום عالم 👩‍👩‍👧 é", "std::vector and ::1", "a tab\tand # [x]"):
            assert inert_text(text) == text
