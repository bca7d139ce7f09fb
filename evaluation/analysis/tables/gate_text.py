"""A gate's verdicts for people: a table, a Markdown summary for CI pages, annotations for GitHub Actions."""

from __future__ import annotations

from evaluation.analysis.gate.rule import Check, GateReport, Verdict
from evaluation.analysis.number_formats import MISSING, counted, p_value, points, span
from evaluation.analysis.tables.formats import render_markdown
from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.system.inert_text import for_markdown, for_workflow_command

_NUMBERS = ("Baseline", "Now", "Change", "95 % interval", "p (Holm)")


def headline(report: GateReport) -> str:
    """One line: passed or failed, and the number of checks by verdict."""
    against = f"{report.run} against {report.baseline}"
    shown = (
        (Verdict.NO_DROP, f"without a drop beyond {points(report.rule.max_drop)}"),
        (Verdict.INCONCLUSIVE, "inconclusive"),
        (Verdict.NEW, "new"),
    )
    counts = [
        f"{n} {what}" for verdict, what in shown if (n := sum(check.verdict is verdict for check in report.checks))
    ]
    checks = counted(len(report.checks), "check")
    if report.passed:
        return f"PASSED: {against}; of {checks} {', '.join(counts)}"
    return "; ".join([f"FAILED: {against}, {len(report.failures)} of {checks}", *filter(None, [", ".join(counts)])])


def gate_table(report: GateReport) -> Table:
    """A row per check in points, suites below a rule; a model column where there are several models."""
    several = len({check.label for check in report.checks}) > 1
    texts = [*(["Model"] if several else []), "Task", "Verdict"]
    rows = []
    for position, check in enumerate(report.checks):
        cells = [*([check.label] if several else []), check.name, str(check.verdict), *_numbers(check)]
        rows.append(TableRow(tuple(map(TextCell, cells)), rule=bool(position) and position == len(report.tasks)))
    return Table("", tuple(map(TextCell, (*texts, *_NUMBERS))), len(texts), tuple(rows))


def _numbers(check: Check) -> list[str]:
    return [
        points(check.baseline),
        points(check.score),
        points(check.change, signed=True),
        _interval(check),
        MISSING if check.p is None else p_value(check.p),
    ]


def _interval(check: Check) -> str:
    if check.interval is None:
        return "unchanged" if check.unchanged else MISSING
    return span(*check.interval, signed=True)


def remarks(report: GateReport) -> list[str]:
    """A sentence per check that has a reason to give, failures first."""
    said = [check for check in report.checks if check.reason]
    return [sentence(check) for check in sorted(said, key=lambda check: not report.rule.fails(check.verdict))]


def sentence(check: Check) -> str:
    """A check in one sentence."""
    return f"{check.label}, {check.name}: {check.verdict.lower()}: {check.reason.removesuffix('.')}."


def gate_markdown(report: GateReport) -> str:
    """The whole report for a CI page."""
    others = [check for check in report.checks if check.reason and not report.rule.fails(check.verdict)]
    lists = {
        "Failures": [sentence(check) for check in report.failures],
        "Remarks": [sentence(check) for check in others],
        "Rule": report.rule.sentences(),
        "What else differs": report.notes,
    }
    lines = [f"## {for_markdown(headline(report))}", "", render_markdown([gate_table(report)]).rstrip()]
    for title, sentences in lists.items():
        if sentences:
            lines += ["", f"**{title}**", "", *(f"- {for_markdown(line)}" for line in sentences)]
    return "\n".join(lines) + "\n"


def workflow_commands(report: GateReport) -> list[str]:
    """Commands for GitHub Actions: an error per failure, one warning that lists inconclusive drops beyond max-drop."""
    lines = [_command("error", check) for check in report.failures]
    left_open = [
        f"{check.label} on {check.name} ({points(check.change, signed=True)})"
        for check in report.checks
        if check.verdict is Verdict.INCONCLUSIVE and check.change is not None and -check.change > report.rule.max_drop
    ]
    if left_open and not report.rule.require_conclusive:
        told = for_workflow_command(f"dropped, but inconclusive: {', '.join(left_open)}")
        lines.append(f"::warning title=Inconclusive::{told}")
    return lines


def _command(level: str, check: Check) -> str:
    title = for_workflow_command(f"{check.label}, {check.name}", is_property=True)
    return f"::{level} title={title}::{for_workflow_command(f'{check.verdict.lower()}: {check.reason}')}"
