"""The base of all config models, and the rule for labels."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+@=,-]{0,99}")
"""What a label is made of; it names a folder, too."""


class Declared(BaseModel):
    """Base of all config models: frozen, unknown keys are errors, wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def check_label(value: str) -> str:
    """Returns a label that may name a folder.

    Raises:
        ValueError: It may not; the message says what a label is made of.

    >>> check_label("e5-small@int8")
    'e5-small@int8'
    """
    if not LABEL.fullmatch(value) or value.endswith((".", " ")):
        raise ValueError(
            "it names a folder, so it may contain only letters, digits, space and . _ + @ = , -, "
            "must begin with a letter or digit, must not end with a space or dot, and may have at most 100 characters"
        )
    return value
