"""Declares settings of which every combination becomes a row, and names each combination. Knows no model."""

from __future__ import annotations

import re
from itertools import product
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pooling = Literal["mean", "cls", "last"]

_COMBINATION: Final = re.compile(r"(?:,(?:max_length|pooling)=\w+)+$")


class Grid(BaseModel):
    """Settings of which every combination is a row of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    max_length: tuple[Annotated[int, Field(ge=8)], ...] | None = Field(
        None, min_length=1, description="Tokens kept per text."
    )
    pooling: tuple[Pooling, ...] | None = Field(None, min_length=1, description="How token vectors become one vector.")

    @model_validator(mode="after")
    def _has_different_values(self) -> Grid:
        if not self.keys:
            raise ValueError("it needs at least one of max_length and pooling, each with a list of values")
        for key in self.keys:
            values = getattr(self, key)
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"{key} has {twice} twice; remove one")
        return self

    @property
    def keys(self) -> list[str]:
        """The settings that it varies."""
        return [key for key in type(self).model_fields if getattr(self, key) is not None]

    def combinations(self) -> list[dict[str, Any]]:
        """Returns the settings of each row, the last setting varying first."""
        keys = self.keys
        return [dict(zip(keys, values, strict=True)) for values in product(*(getattr(self, key) for key in keys))]


def combined_label(label: str, settings: dict[str, Any]) -> str:
    """Returns the label of a row, such as e5-small,max_length=128,pooling=mean."""
    return ",".join([label, *(f"{key}={value}" for key, value in settings.items())])


def declared_label(label: str) -> str:
    """Returns the label that the config gives to a row's model."""
    return _COMBINATION.sub("", label)
