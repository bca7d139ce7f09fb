"""Reads sealed JSON files as typed models of one schema version, whole or not at all. Knows no particular model."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.errors import DamagedFileError, SchemaVersionError
from evaluation.system.atomic_files import read_sealed_json

SCHEMA_VERSION: Final = 2
"""Of record.json and run.json. Version 1 held audit, timing and provenance as mappings of any shape."""


class StoredModel(BaseModel):
    """Base of everything that is stored: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Model = TypeVar("Model", bound=StoredModel)


def read_model(file: Path, model: type[Model]) -> Model:
    """Reads a sealed file as a model.

    Raises:
        FileNotFoundError: There is no such file.
        SchemaVersionError: The file has another schema version.
        DamagedFileError: The file is not what was written.
        StoreError: The file can't be read.
    """
    content = read_sealed_json(file)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise SchemaVersionError(file, version, SCHEMA_VERSION)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"])) or "the whole" for fault in error.errors()})
        raise DamagedFileError(file, f"it is not as run-benchmark writes it (see {', '.join(places[:3])})") from error
