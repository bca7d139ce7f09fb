"""run.json as analysis reads it: one reader, which says so where something is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evaluation.errors import StoreError
from evaluation.records.store import RUN_FILE, RunStore


class ListedJob(BaseModel):
    """A job of the run, whether it has a record or not."""

    model_config = ConfigDict(frozen=True)

    label: str
    task: str
    fingerprint: str
    state: str
    type: str = ""
    protocol: str = ""


class RunFile(BaseModel):
    """What run.json says of a run.

    Attributes:
        config: As it was resolved; empty where that is not known.
        jobs: In the config's order.
        started, ended: ISO 8601; None where unknown, or not ended.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    config: Mapping[str, Any] = {}
    jobs: tuple[ListedJob, ...]
    config_file: str | None = None
    versions: Mapping[str, str] = {}
    source: Mapping[str, Any] = {}
    hardware: Mapping[str, Any] = {}
    started: str | None = None
    ended: str | None = None


def read_run_file(store: RunStore) -> RunFile:
    """The run.json of a run.

    Raises:
        StoreError: It is missing, damaged, or not as run-benchmark writes it.
    """
    content = {key: value for key, value in store.read_run().items() if value is not None}
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"])) for fault in error.errors()})
        raise StoreError(
            f"{store.folder / RUN_FILE} is not as run-benchmark writes it (see {', '.join(places[:3])}): run it again."
        ) from error
