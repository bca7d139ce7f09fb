"""Verdicts as tables, Markdown, annotations and JUnit XML, whatever a label or an error message holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from markdown_it import MarkdownIt

from evaluation.analysis.gate.junit import render_junit
from evaluation.analysis.gate.rule import Check, GateReport, GateRule, Verdict
from evaluation.analysis.tables.gate_text import gate_markdown, gate_table, headline, remarks, workflow_commands

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[2] / "support" / "junit.xsd")
NASTY = "a|b `c` <script>alert(1)</script> [x](y) & \"q\" 'r' 100%, ::error::z\x1b[31m\x00\ud800 *é*"
NUMBERS = {"baseline": 50.0, "score": 47.0, "change": -3.0, "interval": (-4.125, -2.0), "p": 0.00123}


def check(verdict: Verdict, name: str = "Task", label: str = "E5-small", **changes) -> Check:
    unknown = verdict in {Verdict.MISSING, Verdict.FAILED, Verdict.CHANGED, Verdict.NEW}
    numbers = {} if unknown else NUMBERS
    return Check(label, name, verdict, **{"reason": f"said of {name}", **numbers, **changes})


def report(*tasks: Check, suites: tuple[Check, ...] = (), notes: tuple[str, ...] = ()) -> GateReport:
    return GateReport("results/now", "results/before.json", GateRule(), tasks, suites, notes)


EVERYTHING = report(
    *(check(verdict, f"Task{number}") for number, verdict in enumerate(Verdict)),
    check(Verdict.REGRESSION, NASTY, "other | model", reason=NASTY + "\nsecond line"),
    suites=(check(Verdict.NO_DROP, "mean of 7 tasks", reason=""),),
    notes=("Versions differ: mteb 1 -> 2.", NASTY),
)
FINE = report(check(Verdict.NO_DROP, reason=""), check(Verdict.INCONCLUSIVE, "Better", change=-0.5))


# --------------------------------------------------------------------------------------------------------------- table


def header(report: GateReport) -> list[str]:
    return [cell.text for cell in gate_table(report).header]


def rows(report: GateReport) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in gate_table(report).rows]


def test_table_has_a_row_per_check_and_a_model_column_where_needed() -> None:
    assert header(FINE)[:2] == ["Task", "Verdict"]
    assert header(EVERYTHING)[:3] == ["Model", "Task", "Verdict"]
    expected = ["Task", "no drop beyond max-drop", "50.00", "47.00", "-3.00", "-4.12 to -2.00", "0.0012"]
    assert rows(FINE)[0] == expected
    assert rows(report(check(Verdict.MISSING)))[0] == ["Task", "MISSING", "-", "-", "-", "-", "-"]
    assert rows(report(check(Verdict.NO_DROP, p=0.00009)))[0][6] == "< 0.0001"
    assert all(len(row) == len(header(EVERYTHING)) for row in rows(EVERYTHING))
    assert len(rows(EVERYTHING)) == len(Verdict) + 2


def test_headline_counts() -> None:
    assert headline(FINE) == (
        "PASSED: results/now against results/before.json; of 2 checks 1 without a drop beyond 1.00, 1 inconclusive"
    )
    assert headline(EVERYTHING) == (
        "FAILED: results/now against results/before.json, 5 of 9 checks; 2 without a drop beyond 1.00, 1 inconclusive, "
        "1 new"
    )


def test_remarks_begin_with_failures() -> None:
    found = remarks(
        report(check(Verdict.INCONCLUSIVE, "A"), check(Verdict.NO_DROP, "B", reason=""), check(Verdict.MISSING, "C"))
    )
    assert found == ["E5-small, C: missing: said of C.", "E5-small, A: inconclusive: said of A."]


# ------------------------------------------------------------------------------------------------------------ markdown


def test_markdown_shows_everything_as_it_is() -> None:
    text = gate_markdown(EVERYTHING)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<script>" not in html and "<a " not in html and "<code>" not in html
    tree = ET.fromstring(f"<div>{html}</div>")
    (table,) = tree.iter("table")
    head = ["".join(cell.itertext()) for cell in table.iter("th")]
    cells = [["".join(cell.itertext()) for cell in row.iter("td")] for row in table.iter("tr")][1:]
    assert head == header(EVERYTHING)
    assert cells[:7] == rows(EVERYTHING)[:7]
    assert cells[7][0] == "other | model" and cells[7][1].startswith("a|b `c` <script>alert(1)</script> [x](y) &")
    said = "".join(tree.itertext())
    for sentence in (headline(EVERYTHING), *EVERYTHING.rule.sentences(), "Versions differ: mteb 1 -> 2."):
        assert sentence in said
    assert [item.text for item in tree.iter("strong")] == ["Failures", "Remarks", "Rule", "What else differs"]


def test_markdown_of_a_clean_run_has_no_failures() -> None:
    text = gate_markdown(report(check(Verdict.NO_DROP, reason="")))
    assert text.startswith(
        "## PASSED: results/now against results/before.json; of 1 check 1 without a drop beyond 1.00\n"
    )
    assert "Failures" not in text and "Remarks" not in text and "differs" not in text.lower().partition("rule")[0]


# --------------------------------------------------------------------------------------------------------- annotations


def test_annotations_name_failures_and_doubts() -> None:
    found = workflow_commands(
        report(check(Verdict.NO_DROP), check(Verdict.INCONCLUSIVE, "A"), check(Verdict.CHANGED, "B"))
    )
    assert found == [
        "::error title=E5-small%2C B::changed: said of B",
        "::warning title=Inconclusive::dropped, but inconclusive: E5-small on A (-3.00)",
    ]
    assert workflow_commands(FINE) == [], "a drop within max-drop is no warning"


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
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["9", "2", "3", None]
    assert [root[0].get(name) for name in ("tests", "failures", "errors", "skipped")] == ["8", "1", "3", "1"]
    outcomes = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    of_verdict = {verdict: outcomes[f"Task{number}"] for number, verdict in enumerate(Verdict)}
    assert of_verdict == {
        Verdict.REGRESSION: ["failure"],
        Verdict.MISSING: ["error"],
        Verdict.FAILED: ["error"],
        Verdict.CHANGED: ["error"],
        Verdict.INCONCLUSIVE: ["system-out"],
        Verdict.NO_DROP: ["system-out"],
        Verdict.NEW: ["skipped"],
    }
    failure = next(root.iter("failure"))
    assert failure.get("type") == "regression" and failure.get("message") == "said of Task0"
    assert failure.text == ("50.00 -> 47.00 points, 95 % interval of the change -4.12 to -2.00, p = 0.0012 after Holm")


def test_inconclusive_that_fails_the_gate_is_a_failure_of_junit() -> None:
    strict = replace(report(check(Verdict.INCONCLUSIVE)), rule=GateRule(require_conclusive=True))
    assert [child.tag for child in next(ET.fromstring(render_junit(strict)).iter("testcase"))] == ["failure"]
    assert headline(strict).startswith("FAILED: results/now against results/before.json, 1 of 1 check")


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
