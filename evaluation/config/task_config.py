"""Declares the options of a task: mteb's and BEIR's by name, benchmarks, and own tasks on local data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from evaluation.config.declared import Declared, check_label
from evaluation.config.task_types import TaskType


class _TaskChoice(Declared):
    splits: tuple[str, ...] | None = Field(
        None, min_length=1, description="Splits to score; null: those that the protocol chooses."
    )
    subsets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Subsets to score; null: all of the task's."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Attributes to set on mteb's task class.")


class MtebTask(_TaskChoice):
    """A task of mteb, on the Hub's data or on a local folder."""

    mteb: str = Field(description="mteb's name of the task.")
    data: str | None = Field(None, description="Local folder that replaces the Hub's dataset.")


class BenchmarkTasks(Declared):
    """The tasks of an mteb benchmark, filtered."""

    mteb_benchmark: str = Field(description='mteb\'s name of the benchmark, such as "MTEB(eng, v2)".')
    types: tuple[TaskType, ...] | None = Field(None, min_length=1, description="Keep only these task types.")
    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only subsets with at least one of these languages, such as eng."
    )
    exclusive_languages: bool = Field(
        False, description="Keep only subsets with no other language than those, as mteb's exclusive_language_filter."
    )
    subsets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only subsets of these names, and tasks that have one."
    )
    only: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only tasks that match one of these globs."
    )
    exclude: tuple[str, ...] = Field((), description="Exclude tasks that match one of these globs.")


class BeirTask(Declared):
    """A BEIR dataset, run and scored through beir."""

    beir: str = Field(description="BEIR's name of the dataset, such as scifact; any name if data: is given.")
    data: str | None = Field(None, description="Local folder in BEIR's layout that replaces the Hub's dataset.")
    splits: tuple[str, ...] | None = Field(
        None, min_length=1, description="Splits to score; null: those that the protocol chooses."
    )


class LocalTask(_TaskChoice):
    """A new task on local data, scored by mteb's task class of its type."""

    local: str = Field(description="Name of the task.")
    type: TaskType = Field(description="Task type; it decides the layout of the folder and the metrics.")
    data: str = Field(description="Folder with the data.")
    main_score: str | None = Field(None, description="Metric shown in tables; null: the usual metric of the type.")
    language: str = Field(
        "eng",
        pattern=r"^[a-z]{3}$",
        description="ISO 639-3 code of the language, such as deu, for BM25's stop words and stemmer.",
    )
    max_documents: int | None = Field(None, ge=2, description="Clustering only: embed at most this many rows.")

    _local = field_validator("local")(check_label)


TASK_KINDS: dict[str, type[Declared]] = {
    "mteb": MtebTask,
    "mteb_benchmark": BenchmarkTasks,
    "beir": BeirTask,
    "local": LocalTask,
}


def _task_kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Declared) else ()
    kinds = [kind for kind in TASK_KINDS if kind in keys]
    return kinds[0] if len(kinds) == 1 else None


TaskConfig = Annotated[
    Annotated[MtebTask, Tag("mteb")]
    | Annotated[BenchmarkTasks, Tag("mteb_benchmark")]
    | Annotated[BeirTask, Tag("beir")]
    | Annotated[LocalTask, Tag("local")],
    Discriminator(_task_kind),
]
