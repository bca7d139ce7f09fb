"""Renders a gate's verdicts as JUnit XML, which CI servers show as tests: a suite per model, a test per task."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from evaluation.analysis.gate.rule import Check, GateReport, Verdict
from evaluation.analysis.number_formats import p_equation, points, span
from evaluation.system.inert_text import printable


def render_junit(report: GateReport) -> bytes:
    """Returns the report as a JUnit file, UTF-8. The same report gives the same bytes: no time, no host.

    A regression is a failure, and so is an inconclusive verdict that fails the gate. What could not be compared is an
    error, and a task that the baseline lacks is skipped.
    """
    labels = list(dict.fromkeys(check.label for check in report.checks))
    root = ET.Element("testsuites", {"name": "check-regression", **_counts(report, report.checks)})
    for label in labels:
        _add_suite(root, report, label, [check for check in report.checks if check.label == label])
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _add_suite(root: ET.Element, report: GateReport, label: str, checks: Sequence[Check]) -> None:
    n_skipped = sum(_kind(report, check) == "skipped" for check in checks)
    suite = ET.SubElement(
        root, "testsuite", {"name": printable(label), **_counts(report, checks), "skipped": str(n_skipped)}
    )
    properties = ET.SubElement(suite, "properties")
    values = {
        "run": report.run,
        "baseline": report.baseline,
        "max_drop": f"{report.rule.max_drop:g}",
        "alpha": f"{report.rule.alpha:g}",
    }
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": printable(value)})
    for check in checks:
        _add_case(suite, report, check)
    ET.SubElement(suite, "system-out").text = printable("\n".join([*report.rule.sentences(), *report.notes]))


def _add_case(suite: ET.Element, report: GateReport, check: Check) -> None:
    names = {"classname": printable(check.label), "name": printable(check.name)}
    case = ET.SubElement(suite, "testcase", {**names, "time": "0"})
    what = {"type": str(check.verdict).lower(), "message": printable(check.reason)}
    kind = _kind(report, check)
    if kind:
        ET.SubElement(case, kind, what).text = None if kind == "skipped" else printable(_numbers(check))
    if kind != "failure" and check.change is not None:
        parts = [f"{check.verdict}: {_numbers(check)}", check.reason]
        ET.SubElement(case, "system-out").text = printable("; ".join(part for part in parts if part))


def _kind(report: GateReport, check: Check) -> str:
    match check.verdict:
        case Verdict.REGRESSION:
            return "failure"
        case Verdict.INCONCLUSIVE if report.rule.require_conclusive:
            return "failure"
        case Verdict.MISSING | Verdict.FAILED | Verdict.CHANGED:
            return "error"
        case Verdict.NEW:
            return "skipped"
        case _:
            return ""


def _counts(report: GateReport, checks: Sequence[Check]) -> dict[str, str]:
    kinds = [_kind(report, check) for check in checks]
    counts = {"tests": len(kinds), "failures": kinds.count("failure"), "errors": kinds.count("error"), "time": 0}
    return {name: str(n) for name, n in counts.items()}


def _numbers(check: Check) -> str:
    parts = []
    if check.baseline is not None and check.score is not None:
        parts.append(f"{points(check.baseline)} -> {points(check.score)} points")
    if check.interval is not None:
        parts.append(f"95 % interval of the change {span(*check.interval, signed=True)}")
    if check.p is not None:
        parts.append(f"{p_equation(check.p)} after Holm")
    return ", ".join(parts)
