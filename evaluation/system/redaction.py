"""Keeps secrets out of what is written and shown. Knows nothing of where texts go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_URL_LOGIN = re.compile(r"://([^/\s:@]+:[^/\s:@]+)@")  # user:password of a proxy or an index
_SECRET_SHAPES = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}")
_MIN_SECRET_LENGTH = 8
_HIDDEN = "[secret]"


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
