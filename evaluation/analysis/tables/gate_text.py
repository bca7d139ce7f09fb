"""A gate's verdicts for people: table rows, a Markdown summary for CI pages, annotations for GitHub Actions."""

from __future__ import annotations

import re

from evaluation.analysis.gate.verdicts import Check, GateReport, Verdict
from evaluation.system.redaction import printable

_NOTHING = "-"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def headline(report: GateReport) -> str:
    """One line: passed or failed, and how many of what."""
    against = f"{report.run} against {report.baseline}"
    shown = ((Verdict.UNJUDGED, "too small to judge"), (Verdict.IMPROVED, "improved"), (Verdict.NEW, "new"))
    counts = [
        f"{n} {what}" for verdict, what in shown if (n := sum(check.verdict is verdict for check in report.checks))
    ]
    n = len(report.checks)
    if report.passed:
        return ", ".join([f"PASSED: {against}, {n} checks", *counts])
    return ", ".join([f"FAILED: {against}, {len(report.failures)} of {n} checks", *counts])


def header(report: GateReport) -> list[str]:
    """Column names; a model column where there are several."""
    return [
        *(["Model"] if _several(report) else []),
        "Task",
        "Baseline",
        "Now",
        "Change",
        "95 % interval",
        "p (Holm)",
        "Shows drops from",
        "Verdict",
    ]


def rows(report: GateReport) -> list[list[str]]:
    """A row a check, suites last, in points."""
    return [
        [
            *([printable(check.label)] if _several(report) else []),
            printable(check.name),
            _number(check.baseline),
            _number(check.score),
            _number(check.change, "+.2f"),
            _NOTHING if check.interval is None else f"{check.interval[0]:+.2f} to {check.interval[1]:+.2f}",
            _NOTHING if check.p is None else "<0.0001" if check.p < 0.0001 else f"{check.p:.4f}",
            _number(check.detectable),
            str(check.verdict),
        ]
        for check in report.checks
    ]


def remarks(report: GateReport) -> list[str]:
    """A sentence for each check that has something to say, failures first."""
    said = [check for check in report.checks if check.reason]
    return [sentence(check) for check in sorted(said, key=lambda check: not check.verdict.fails)]


def sentence(check: Check) -> str:
    """A check in one line."""
    verdict = check.verdict.lower() if check.verdict.fails else str(check.verdict)
    return printable(f"{check.label}, {check.name}: {verdict}: {check.reason}.")


def render_markdown(report: GateReport) -> str:
    """The whole report for a CI page."""
    head = header(report)
    n_text = 2 if _several(report) else 1
    lines = [f"## {_escape(headline(report))}", "", _line(head)]
    lines.append("|" + "|".join(["---"] * n_text + ["---:"] * (len(head) - n_text - 1) + ["---"]) + "|")
    lines += [_line(row) for row in rows(report)]
    if report.failures:
        lines += ["", "**Failures**", "", *(f"- {_escape(sentence(check))}" for check in report.failures)]
    others = [check for check in report.checks if check.reason and not check.verdict.fails]
    if others:
        lines += ["", "**Remarks**", "", *(f"- {_escape(sentence(check))}" for check in others)]
    lines += ["", "**Rule**", "", *(f"- {_escape(line)}" for line in report.rule.sentences())]
    if report.notes:
        lines += ["", "**What else differs**", "", *(f"- {_escape(note)}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def workflow_commands(report: GateReport) -> list[str]:
    """Workflow commands: an error for each failure, a warning for each drop that is too small to judge.

    Escaped as actions/toolkit's packages/core/src/command.ts does.
    """
    lines = [_command("error", check) for check in report.failures]
    lines += [_command("warning", check) for check in report.checks if check.verdict is Verdict.UNJUDGED]
    return lines


def _command(level: str, check: Check) -> str:
    title = _escape_data(f"{check.label}, {check.name}").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escape_data(f'{check.verdict.lower()}: {check.reason}')}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _several(report: GateReport) -> bool:
    return len({check.label for check in report.checks}) > 1


def _number(value: float | None, form: str = ".2f") -> str:
    return _NOTHING if value is None else format(value, form)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    """Text as Markdown that shows it as it is, on one line."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
