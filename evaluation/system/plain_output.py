"""Decides what a stream that can't encode all of Unicode shows instead, such as a terminal in cp1252 or ASCII.

Streams that use `PLAIN` as their `errors` never fail: known signs get a spelling of their own, other characters an
escape.
"""

from __future__ import annotations

import codecs
from typing import Final

PLAIN: Final = "plain"
"""Name of the error handler, for `open`, `reconfigure` and `str.encode`."""

_SPELLINGS: Final = {
    "–": "-", "—": "-", "−": "-", "‑": "-", "…": "...", "×": "x", "·": ".", "•": "*", "±": "+/-", "≤": "<=", "≥": ">=",
    "≈": "~", "≠": "!=", "→": "->", "←": "<-", "Δ": "d", "α": "alpha", "ρ": "rho", "†": "+", "‡": "++", "§": "S",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "✓": "ok", "✗": "x", "▲": "^", "▼": "v", "█": "#", "━": "-", "─": "-", "│": "|", "╸": "-", "╺": "-",
}  # fmt: skip
_SUPERSCRIPTS: Final = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))


def plain_spelling(text: str) -> str:
    r"""Returns characters as ASCII: a superscript as ^ and a digit, what has no spelling as an escape.

    >>> plain_spelling("±0.5¹²…")
    '+/-0.5^12...'
    """
    spelt, raised = "", False
    for character in text:
        is_raised = character in _SUPERSCRIPTS
        if is_raised:
            spelt += ("" if raised else "^") + _SUPERSCRIPTS[character]
        elif character.isascii():
            spelt += character
        else:
            spelt += _SPELLINGS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        raised = is_raised
    return spelt


def _on_error(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain_spelling(error.object[error.start : error.end]), error.end


codecs.register_error(PLAIN, _on_error)
