"""The base of all config models, their faults in values below them, and the rule for labels."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+@=,-]{0,99}")
"""What a label is made of; it names a folder, too."""


class Declared(BaseModel):
    """Base of all config models: frozen, unknown keys are errors, wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class FaultBelow(ValueError):
    """A fault that a model of the config finds in a value below it, such as an item of one of its lists.

    Args:
        path: Where the value is, from the model on.
        fault: What is wrong with it, without a full stop.
    """

    def __init__(self, path: tuple[str | int, ...], fault: str) -> None:
        super().__init__(fault)
        self.path = path


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
