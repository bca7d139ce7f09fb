"""Declares the forms that a config may store vectors in, and the name of each form. Computes no vector."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evaluation.system.nearest_names import nearest_hint

Precision = Literal["float32", "float16", "int8", "binary"]
_PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
PLAIN: Final = "float32"
"""The name of vectors that are stored as the model gives them."""
BITS: Final[dict[Precision, int]] = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
"""Bits per number."""
_DEPTH: Final = re.compile(r"_at_(\d+)")
FORM_IN_LABEL: Final = re.compile(rf"@(?:(?:dims|pca)=\d+|{'|'.join(_PRECISIONS)})(?:,|$)", re.IGNORECASE)
"""What follows a label in the name of a stored row."""
SCHEMES_VERSION: Final = 1
"""The version of what each form computes (`evaluation.stored_forms`); part of a stored row's fingerprint."""

_DECLARED = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True, defer_build=True)


class Rescoring(BaseModel):
    """A second form that orders the documents which the first one has found."""

    model_config = _DECLARED

    precision: Literal["float32", "float16", "int8"] = Field(
        "int8", alias="with", description="Precision of the vectors that order the candidates."
    )
    candidates: int = Field(ge=1, description="Documents per query that the smaller form finds.")

    @property
    def name(self) -> str:
        """Precision and number of candidates, such as int8x40."""
        return f"{self.precision}x{self.candidates}"


class StoredForm(BaseModel):
    """How the vectors of documents are stored; queries stay as they are unless queries: same."""

    model_config = _DECLARED

    dims: int | None = Field(None, ge=1, description="Keep the first dimensions of a vector, normalised again.")
    pca: int | None = Field(None, ge=1, description="Keep the first principal components of the documents.")
    precision: Precision = Field(PLAIN, alias="as", description="Precision of each stored number.")
    center: bool = Field(False, description="Subtract the documents' mean from both sides; with as: binary only.")
    rescore: Rescoring | None = Field(None, description="Order the best documents again; retrieval tasks only.")
    queries: Literal["float32", "same"] = Field("float32", description="Precision of queries; same: as the documents.")

    @model_validator(mode="after")
    def _makes_sense(self) -> StoredForm:
        if self.dims is not None and self.pca is not None:
            raise ValueError("dims and pca can't be combined; give one of them")
        if self.center and (self.precision != "binary" or self.pca is not None):
            raise ValueError("center: true belongs to as: binary without pca, which is centred anyway")
        is_named = "precision" in self.model_fields_set and self.rescore is None and self.queries != "same"
        if self.is_plain and not is_named:
            raise ValueError("float32 vectors are stored as they are; add as:, dims: or pca:")
        again = None if self.dims or self.pca else self.rescore
        if again is not None and BITS[again.precision] <= BITS[self.precision]:
            raise ValueError(
                f"rescore with {again.precision} is not finer than {self.precision}, which finds the candidates; "
                "choose a finer one, or remove rescore"
            )
        return self

    @property
    def is_plain(self) -> bool:
        """Whether documents are stored as the model gives them."""
        return self.precision == PLAIN and self.dims is None and self.pca is None

    def misfit(self, width: int) -> str | None:
        """Returns why the form can't be made of vectors of a width, or changes nothing there; None if it can."""
        kept = self.dims or self.pca or 0
        if kept < width or (kept == width and self.dims is None):
            return None
        option, fault = "dims" if self.dims else "pca", "more dimensions than" if kept > width else "all dimensions of"
        return f"{option}: {kept} keeps {fault} the model's vectors, which have {width}; lower it, or remove {option}"

    @property
    def name(self) -> str:
        """The form in one word, such as int8, dims=256,int8 or binary,center,rescore=int8x40,queries."""
        parts = [f"dims={self.dims}"] if self.dims is not None else []
        parts += [f"pca={self.pca}"] if self.pca is not None else []
        parts += [self.precision] if self.precision != PLAIN or not parts else []
        parts += ["center"] if self.center else []
        parts += [f"rescore={self.rescore.name}"] if self.rescore is not None else []
        parts += ["queries"] if self.queries == "same" else []
        return ",".join(parts)


def _from_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in _PRECISIONS:
        raise ValueError(f"no form has this name{nearest_hint(value, _PRECISIONS)} (allowed: {', '.join(_PRECISIONS)})")
    return {"as": value}


DeclaredForm = Annotated[StoredForm, BeforeValidator(_from_name, json_schema_input_type=Precision | StoredForm)]
"""A form as a config writes it: a precision alone, or a mapping."""


def metric_depth(name: str) -> int:
    """Returns how many documents of a ranking a metric looks at; 0 where its name says nothing.

    >>> metric_depth("ndcg_at_10"), metric_depth("accuracy")
    (10, 0)
    """
    found = _DEPTH.search(name)
    return int(found[1]) if found else 0
