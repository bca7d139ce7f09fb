"""Verdicts as tables, Markdown, annotations and JUnit XML, whatever a label or an error message holds."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from markdown_it import MarkdownIt

from evaluation.analysis.gate.junit import render_junit
from evaluation.analysis.gate.verdicts import Check, GateReport, GateRule, Verdict
from evaluation.analysis.tables.gate_text import header, headline, remarks, render_markdown, rows, workflow_commands

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[2] / "support" / "junit.xsd")
NASTY = "a|b `c` <script>alert(1)</script> [x](y) & \"q\" 'r' 100%, ::error::z\x1b[31m\x00\ud800 *é*"
NUMBERS = {"baseline": 50.0, "score": 47.0, "change": -3.0, "interval": (-4.125, -2.0), "p": 0.00123, "detectable": 1.5}


def check(verdict: Verdict, name: str = "Task", label: str = "E5-small", **changes) -> Check:
    unknown = verdict in {Verdict.MISSING, Verdict.FAILED, Verdict.CHANGED, Verdict.NEW}
    numbers = {} if unknown else NUMBERS
    return Check(label, name, verdict, **{"reason": f"said of {name}", **numbers, **changes})


def report(*tasks: Check, suites: tuple[Check, ...] = (), notes: tuple[str, ...] = ()) -> GateReport:
    return GateReport("results/now", "results/before.json", GateRule(), tasks, suites, notes)


EVERYTHING = report(
    *(check(verdict, f"Task{number}") for number, verdict in enumerate(Verdict)),
    check(Verdict.REGRESSED, NASTY, "other | model", reason=NASTY + "\nsecond line"),
    suites=(check(Verdict.OK, "mean of 7 tasks", reason=""),),
    notes=("Versions differ: mteb 1 -> 2.", NASTY),
)
FINE = report(check(Verdict.OK, reason=""), check(Verdict.IMPROVED, "Better"))


# --------------------------------------------------------------------------------------------------------------- table


def test_table_has_a_row_a_check_and_a_model_column_where_needed() -> None:
    assert header(FINE)[0] == "Task"
    assert header(EVERYTHING)[:2] == ["Model", "Task"]
    assert rows(FINE)[0] == ["Task", "50.00", "47.00", "-3.00", "-4.12 to -2.00", "0.0012", "1.50", "ok"]
    assert rows(report(check(Verdict.MISSING)))[0] == ["Task", "-", "-", "-", "-", "-", "-", "MISSING"]
    assert rows(report(check(Verdict.OK, p=0.00009)))[0][5] == "<0.0001"
    assert all(len(row) == len(header(EVERYTHING)) for row in rows(EVERYTHING))
    assert len(rows(EVERYTHING)) == len(Verdict) + 2


def test_headline_counts() -> None:
    assert headline(FINE) == "PASSED: results/now against results/before.json, 2 checks, 1 improved"
    assert headline(EVERYTHING) == (
        "FAILED: results/now against results/before.json, 5 of 11 checks, 1 too small to judge, 1 improved, 1 new"
    )


def test_remarks_begin_with_failures() -> None:
    found = remarks(
        report(check(Verdict.UNJUDGED, "A"), check(Verdict.OK, "B", reason=""), check(Verdict.MISSING, "C"))
    )
    assert found == ["E5-small, C: missing: said of C.", "E5-small, A: too small to judge: said of A."]


# ------------------------------------------------------------------------------------------------------------ markdown


def test_markdown_shows_everything_as_it_is() -> None:
    text = render_markdown(EVERYTHING)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<script>" not in html and "<a " not in html and "<code>" not in html
    tree = ET.fromstring(f"<div>{html}</div>")
    (table,) = tree.iter("table")
    head = ["".join(cell.itertext()) for cell in table.iter("th")]
    cells = [["".join(cell.itertext()) for cell in row.iter("td")] for row in table.iter("tr")][1:]
    assert head == header(EVERYTHING)
    assert cells[:9] == rows(EVERYTHING)[:9]
    assert cells[9][0] == "other | model" and cells[9][1].startswith("a|b `c` <script>alert(1)</script> [x](y) &")
    said = "".join(tree.itertext())
    for sentence in (headline(EVERYTHING), *EVERYTHING.rule.sentences(), "Versions differ: mteb 1 -> 2."):
        assert sentence in said
    assert [item.text for item in tree.iter("strong")] == ["Failures", "Remarks", "Rule", "What else differs"]


def test_markdown_of_a_clean_run_has_no_failures() -> None:
    text = render_markdown(report(check(Verdict.OK, reason="")))
    assert text.startswith("## PASSED: results/now against results/before.json, 1 checks\n")
    assert "Failures" not in text and "Remarks" not in text and "differs" not in text.lower().partition("rule")[0]


# --------------------------------------------------------------------------------------------------------- annotations


def test_annotations_name_failures_and_doubts() -> None:
    found = workflow_commands(report(check(Verdict.OK), check(Verdict.UNJUDGED, "A"), check(Verdict.CHANGED, "B")))
    assert found == [
        "::error title=E5-small%2C B::changed: said of B",
        "::warning title=E5-small%2C A::too small to judge: said of A",
    ]
    assert workflow_commands(FINE) == []


def test_annotations_are_one_line_whatever_they_hold() -> None:
    (found,) = workflow_commands(report(check(Verdict.MISSING, "a:b,c", "50%", reason="100%\r\n::error::x")))
    assert found == "::error title=50%25%2C a%3Ab%2Cc::missing: 100%25%0D%0A::error::x"


# --------------------------------------------------------------------------------------------------------------- junit


@pytest.mark.parametrize("found", [EVERYTHING, FINE], ids=["everything", "fine"])
def test_junit_fits_the_schema(found: GateReport, tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    file.write_bytes(render_junit(found))
    SCHEMA.validate(file)
    assert render_junit(found) == file.read_bytes(), "no time, no host"


def test_schema_finds_what_is_wrong() -> None:
    good = render_junit(FINE).decode()
    SCHEMA.validate(good.partition("?>")[2])
    for before, after in (
        ('tests="2"', 'tests="two"'),
        ("<testcase ", "<testcase unknown='1' "),
        ('name="Task"', 'name="Better"'),
        ("properties", "propertees"),
        ("</testcase>", "<failure/></testcase>"),
    ):
        assert before in good
        assert not SCHEMA.is_valid(good.partition("?>")[2].replace(before, after)), before


def test_junit_tells_failures_errors_and_skipped_apart() -> None:
    root = ET.fromstring(render_junit(EVERYTHING))
    assert [suite.get("name") for suite in root] == ["E5-small", "other | model"]
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["11", "2", "3", None]
    assert [root[0].get(name) for name in ("tests", "failures", "errors", "skipped")] == ["10", "1", "3", "1"]
    outcomes = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    of_verdict = {verdict: outcomes[f"Task{number}"] for number, verdict in enumerate(Verdict)}
    assert of_verdict == {
        Verdict.REGRESSED: ["failure"],
        Verdict.MISSING: ["error"],
        Verdict.FAILED: ["error"],
        Verdict.CHANGED: ["error"],
        Verdict.UNJUDGED: ["system-out"],
        Verdict.SMALL: ["system-out"],
        Verdict.OK: ["system-out"],
        Verdict.IMPROVED: ["system-out"],
        Verdict.NEW: ["skipped"],
    }
    failure = next(root.iter("failure"))
    assert failure.get("type") == "regressed" and failure.get("message") == "said of Task0"
    assert failure.text == (
        "50.00 -> 47.00 points, 95 % interval of the change -4.12 to -2.00, p 0.0012 after Holm, "
        "shows drops from 1.50 points"
    )


def test_junit_declares_the_rule_and_what_differs() -> None:
    suite = ET.fromstring(render_junit(EVERYTHING))[0]
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties == {"run": "results/now", "baseline": "results/before.json", "max_drop": "1", "alpha": "0.05"}
    said = suite.findtext("system-out", "")
    assert all(sentence in said for sentence in EVERYTHING.rule.sentences())
    assert "Versions differ: mteb 1 -> 2." in said


def test_junit_holds_no_character_that_xml_forbids() -> None:
    root = ET.fromstring(render_junit(EVERYTHING))
    (case,) = (case for case in root.iter("testcase") if case.get("classname") == "other | model")
    assert case.get("name") == NASTY.replace("\x1b", r"\x1b").replace("\x00", r"\x00").replace("\ud800", r"\ud800")
