"""check-regression --power: prints which drops a gate will find before anything is run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.analysis.gate.baseline_file import load_pilot
from evaluation.analysis.gate.check import read_baseline
from evaluation.analysis.gate.detectable_drops import DECLARED_SHARE, Pilot, plan_gate
from evaluation.analysis.gate.rule import GateRule
from evaluation.system.inert_text import printable

_WIDE = 120


def print_power(baseline: Path, *, max_drop: float, alpha: float, changed: float | None) -> None:
    """Prints a row per task: examples, the drop that is found four times in five, and the examples missing.

    Raises:
        UsageError: The baseline cannot be used, or a value is out of range.
    """
    rule = GateRule(max_drop, alpha)
    snapshot = read_baseline(baseline)
    pilot = None if baseline.is_dir() else load_pilot(baseline)
    plans = plan_gate(snapshot, rule, pilot, changed)
    console = Console()
    table = Table(show_edge=False, pad_edge=False, header_style="bold" if console.is_terminal else "")
    table.add_column("Task", no_wrap=True)
    for name in ("Examples", "Drop found 4 times in 5", f"Examples to find {max_drop:.2f}", "More needed"):
        table.add_column(name, justify="right")
    for plan in plans:
        cells = (
            f"{plan.n_examples:,}" if plan.n_examples else "-",
            "-" if plan.drop is None else f"{plan.drop:.2f}",
            "-" if plan.needed is None else f"{plan.needed:,}",
            "-" if plan.missing is None else f"{plan.missing:,}",
        )
        table.add_row(Text(printable(plan.task)), *cells)
    console.width = max(console.width, _WIDE) if not console.is_terminal else console.width
    console.print(table)
    for line in ("", *_explained(rule, pilot, changed)):
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False)


def _explained(rule: GateRule, pilot: Pilot | None, changed: float | None) -> list[str]:
    if changed is not None:
        source = f"a declared share of {changed:.0%} of examples that turn right or wrong (--changed)"
    elif pilot is not None:
        source = f"the pilot {pilot.run}, another checkpoint's run that the baseline stores"
    else:
        source = (
            f"an assumed share of {DECLARED_SHARE:.0%} of examples that turn right or wrong; give --changed, or store "
            "a pilot with --update-baseline --pilot RUN"
        )
    return [
        f"A gate with alpha {rule.alpha:g} finds a true drop of this size (points) four times in five; smaller ones "
        "often pass.",
        f"How far examples differ is not measured by this run: it comes from {source}.",
        "A task without examples (clustering, or nothing but its score stored) has no test.",
    ]
