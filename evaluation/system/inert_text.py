"""Makes foreign text inert, one function for each kind of output: it is shown as text and never acts.

Foreign text is whatever data, records, labels, servers and checkpoints hold. Each function returns text that a reader
of that output sees as it was, apart from line ends where the output has lines of its own.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and line feed, and C1: they move the cursor, colour, ring
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the writing direction
    "\ud800-\udfff"  # lone surrogates, which can't be encoded as UTF-8
    "\ufffe\uffff]"  # noncharacters; with those above, all that XML 1.0 can't hold (its production 2, Char)
)
_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]")
_WORKFLOW_COMMAND = re.compile(r"(?<!\S):(?=:[A-Za-z])|#(?=#\[)")
_FORMULA = re.compile(r"\s*[=+\-@]|[\t\r]")


def printable(text: str) -> str:
    r"""The text with control characters as escapes; fit for XML, and the first step of every other function.

    >>> printable("red \x1b[31m text")
    'red \\x1b[31m text'
    """
    return _CONTROLS.sub(_escape, text)


def for_terminal(text: str) -> str:
    r"""Text for a terminal or a log: nothing in it moves a cursor or is a workflow command to GitHub Actions.

    Line feeds and tabs stay. Actions reads `::error::` at the start of a line and `##[error]` anywhere as commands.

    >>> for_terminal("text\n::error::text")
    'text\n\\x3a:error::text'
    """
    return _WORKFLOW_COMMAND.sub(_escape, printable(text))


def on_one_line(text: str) -> str:
    """Returns the text on one line, with spaces for line ends and tabs: a cell of a table, or a sentence."""
    return for_terminal(_BREAKS.sub(" ", text))


def for_workflow_command(text: str, *, is_property: bool = False) -> str:
    """Text within a workflow command of GitHub Actions, escaped as actions/toolkit's packages/core/src/command.ts does.

    Args:
        is_property: It is such a value.
    """
    escaped = printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))
    return escaped.replace(":", "%3A").replace(",", "%2C") if is_property else escaped


def for_html(text: str) -> str:
    r"""Text for a page that escapes markup itself: control characters as symbols (U+2400 on), other marks as escapes.

    >>> for_html("red \x1b[31m text")
    'red ␛[31m text'
    """
    return _CONTROLS.sub(lambda found: _symbol(found.group()), text)


def for_csv(text: str) -> str:
    """A cell of a CSV file: an apostrophe before what a spreadsheet would take for a formula.

    >>> for_csv("=1+1")
    "'=1+1"
    """
    safe = printable(text)
    return f"'{safe}" if _FORMULA.match(text) else safe


# ----------------------------------------------------------------------------------------------------------- Markdown

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$#])")


def for_markdown(text: str) -> str:
    r"""A line or a table's cell of Markdown, shown as it is: no emphasis, link, HTML, or end of the cell.

    >>> for_markdown("a|b <c>")
    'a\\|b &lt;c&gt;'
    """
    safe = on_one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", safe).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


# -------------------------------------------------------------------------------------------------------------- LaTeX

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after \\ a bracket would be a length
    "]": "{]}",
    "`": r"\textasciigrave{}",
}
_COMBINING = frozenset("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327")


def for_latex(text: str) -> str:
    """A line of LaTeX that prints the text as it is; letters that its standard fonts lack appear as code points."""
    escaped = "".join(_latex_letter(letter) for letter in on_one_line(text))
    return escaped.replace("--", "-{}-").replace("--", "-{}-")  # two hyphens would become a dash


def _latex_letter(letter: str) -> str:
    if letter in _LATEX_SPECIAL or letter.isascii():
        return _LATEX_SPECIAL.get(letter, letter)
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _COMBINING:
        return letter
    return f"{{[}}U+{ord(letter):04X}{{]}}"


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return f"\\x{ord(character):02x}" if character in ":#" else ascii(character)[1:-1]


def _symbol(control: str) -> str:
    if control == "\x7f":
        return "\u2421"
    return chr(0x2400 + ord(control)) if ord(control) < 0x20 else ascii(control)[1:-1]
