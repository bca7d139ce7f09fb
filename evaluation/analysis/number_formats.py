"""Numbers as people read them, the same in every table, note, page and verdict: points, intervals, p-values."""

from __future__ import annotations

from evaluation.records.job_record import PeakMemory

MISSING = "-"


def points(value: float | None, *, signed: bool = False) -> str:
    """Two decimals, or the sign for a missing score; what rounds to zero has no minus.

    >>> points(-0.001, signed=True)
    '+0.00'
    """
    if value is None:
        return MISSING
    shown = round(value, 2) + 0.0
    return f"{shown:+.2f}" if signed else f"{shown:.2f}"


def span(low: float, high: float, *, signed: bool = False) -> str:
    """The ends of an interval.

    >>> span(-1.5, 2, signed=True)
    '-1.50 to +2.00'
    """
    return f"{points(low, signed=signed)} to {points(high, signed=signed)}"


def brackets(low: float, high: float, *, signed: bool = False) -> str:
    """The same, shorter, for a table's cell.

    >>> brackets(-1.5, 2, signed=True)
    '[-1.50, +2.00]'
    """
    return f"[{points(low, signed=signed)}, {points(high, signed=signed)}]"


def counted(number: float, noun: str) -> str:
    """A number and its noun, in the plural unless it is 1.

    >>> counted(1.0, "point"), counted(0.5, "point"), counted(1200, "query")
    ('1 point', '0.5 points', '1,200 queries')
    """
    told = f"{number:g}" if number % 1 else f"{int(number):,}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{told} {noun if number == 1 else plural}"


def p_value(p: float) -> str:
    """Four decimals where small, and never 0.

    >>> p_value(0.00001), p_value(0.0123), p_value(0.5)
    ('< 0.0001', '0.0123', '0.50')
    """
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def p_equation(p: float) -> str:
    """The same with its sign, for a sentence.

    >>> p_equation(0.0123)
    'p = 0.0123'
    """
    told = p_value(p)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def peak_memory(peak: PeakMemory) -> str:
    """Whole MiB, and where they were if that is not the process.

    >>> peak_memory(PeakMemory(where="process", bytes=1300 * 2**20, at_most=True))
    'at most 1,300 MiB'
    >>> peak_memory(PeakMemory(where="gpu", bytes=5 * 2**20))
    '5 MiB (GPU)'
    """
    told = f"{peak.bytes / 2**20:,.0f} MiB" + (" (GPU)" if peak.where == "gpu" else "")
    return f"at most {told}" if peak.at_most else told
