"""Keeps secrets and terminal control characters out of what is written and shown. Knows nothing of where texts go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_URL_LOGIN = re.compile(r"://([^/\s:@]+:[^/\s:@]+)@")  # user:password of a proxy or an index
_SECRET_SHAPES = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}")
_MIN_SECRET_LENGTH = 8
_HIDDEN = "[secret]"

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, C1: they move the cursor, colour, ring
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of writing direction
    "\ud800-\udfff"  # lone surrogates, which no terminal can be sent
    "\ufffe\uffff]"  # no characters; with those above, all that XML 1.0 can't hold (its production 2, Char)
)


def redactor() -> Callable[[str], str]:
    """A function: text -> the text without the secrets that the environment holds now, or what has the shape of one.

    Secrets are the values of variables that are named like one, such as HF_TOKEN, and logins inside addresses. Values
    of fewer than 8 characters stay, as they would be found in ordinary text.
    """
    found = [value for name, value in os.environ.items() if _SECRET_NAMES.search(name)]
    found += [login for value in os.environ.values() for login in _URL_LOGIN.findall(value)]
    secrets = sorted({value for value in found if len(value) >= _MIN_SECRET_LENGTH}, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, _HIDDEN)
        return _SECRET_SHAPES.sub(_HIDDEN, text)

    return redact


def printable(text: str) -> str:
    r"""The text with control characters as escapes, so that a dataset's text can't drive a terminal.

    >>> printable("red \x1b[31m text")
    'red \\x1b[31m text'
    """
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], text)
