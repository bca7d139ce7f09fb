"""Renders a gate's verdicts for people: table rows, Markdown for CI pages, annotations for GitHub Actions."""

from __future__ import annotations

import re

from evaluation.analysis.gate.rule import Check, GateReport, Verdict
from evaluation.system.redaction import printable

_NOTHING = "-"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def headline(report: GateReport) -> str:
    """Returns one line: passed or failed, and how many checks have which verdict."""
    against = f"{report.run} against {report.baseline}"
    drop = f"{report.rule.max_drop:.2f}"
    shown = (
        (Verdict.NO_DROP, f"without a drop beyond {drop}"),
        (Verdict.INCONCLUSIVE, "inconclusive"),
        (Verdict.NEW, "new"),
    )
    counts = [
        f"{n} {what}" for verdict, what in shown if (n := sum(check.verdict is verdict for check in report.checks))
    ]
    n = len(report.checks)
    if report.passed:
        return f"PASSED: {against}; of {n} checks {', '.join(counts)}"
    return "; ".join([f"FAILED: {against}, {len(report.failures)} of {n} checks", *filter(None, [", ".join(counts)])])


def header(report: GateReport) -> list[str]:
    """Returns the column names; with a model column where there are several models."""
    return [
        *(["Model"] if _several(report) else []),
        "Task",
        "Baseline",
        "Now",
        "Change",
        "95 % interval",
        "p (Holm)",
        "Verdict",
    ]


def rows(report: GateReport) -> list[list[str]]:
    """Returns a row per check in points, means last."""
    return [
        [
            *([printable(check.label)] if _several(report) else []),
            printable(check.name),
            _number(check.baseline),
            _number(check.score),
            _number(check.change, "+.2f"),
            _NOTHING if check.interval is None else f"{check.interval[0]:+.2f} to {check.interval[1]:+.2f}",
            _NOTHING if check.p is None else "<0.0001" if check.p < 0.0001 else f"{check.p:.4f}",
            str(check.verdict),
        ]
        for check in report.checks
    ]


def remarks(report: GateReport) -> list[str]:
    """Returns a sentence for each check that has something to say, failures first."""
    said = [check for check in report.checks if check.reason]
    return [sentence(check) for check in sorted(said, key=lambda check: not report.rule.fails(check.verdict))]


def sentence(check: Check) -> str:
    """Returns a check in one line."""
    verdict = check.verdict.lower()
    return printable(f"{check.label}, {check.name}: {verdict}: {check.reason}.")


def render_markdown(report: GateReport) -> str:
    """Returns the whole report for a CI page."""
    head = header(report)
    n_text = 2 if _several(report) else 1
    lines = [f"## {_escape(headline(report))}", "", _line(head)]
    lines.append("|" + "|".join(["---"] * n_text + ["---:"] * (len(head) - n_text - 1) + ["---"]) + "|")
    lines += [_line(row) for row in rows(report)]
    if report.failures:
        lines += ["", "**Failures**", "", *(f"- {_escape(sentence(check))}" for check in report.failures)]
    others = [check for check in report.checks if check.reason and not report.rule.fails(check.verdict)]
    if others:
        lines += ["", "**Remarks**", "", *(f"- {_escape(sentence(check))}" for check in others)]
    lines += ["", "**Rule**", "", *(f"- {_escape(line)}" for line in report.rule.sentences())]
    if report.notes:
        lines += ["", "**What else differs**", "", *(f"- {_escape(note)}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def workflow_commands(report: GateReport) -> list[str]:
    """Returns workflow commands: an error for each failure, and one warning that lists drops beyond max-drop left open.

    Escaped as actions/toolkit's packages/core/src/command.ts does.
    """
    lines = [_command("error", f"{check.label}, {check.name}", check) for check in report.failures]
    open_ = [
        check
        for check in report.checks
        if check.verdict is Verdict.INCONCLUSIVE and check.change is not None and -check.change > report.rule.max_drop
    ]
    if open_ and not report.rule.require_conclusive:
        names = ", ".join(f"{check.label} on {check.name} ({check.change:+.2f})" for check in open_)
        lines.append(f"::warning title=Inconclusive::{_escape_data(f'dropped, but inconclusive: {printable(names)}')}")
    return lines


def _command(level: str, title: str, check: Check) -> str:
    title = _escape_data(title).replace(":", "%3A").replace(",", "%2C")
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
    """Text as Markdown that shows it unchanged, on one line."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
