"""Defines the entries of the task index: tasks and benchmarks as mteb declares them, decoded from the file's records.

The file is made by `evaluation.tasks.build_index` and read by `evaluation.tasks.index`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.tasks.types import TASK_CLASS_BY_TYPE


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as mteb declares it. A task that is not `is_text` has only its name, type and modalities.

    The attributes from `samples_per_label` on are those of the task's class that decide how many texts are encoded
    and which results count, under mteb's names; None (or False) where its class has no such attribute.

    Attributes:
        languages: ISO 639-3 codes, sorted.
        splits: The splits that mteb evaluates when none are named.
        subsets: All subsets, in mteb's order, which is the order in which its samplers draw.
        subset_languages: The language codes of each of `subsets`, separated by spaces; empty where they follow from
            `languages` or from the subsets' names. Use `subsets_in` to read it.
        dataset: The Hub repository; empty for an aggregate.
        prompt: mteb's sentence for instruction-tuned models; empty where the task's type decides.
        base_class: The first class of `mteb.abstasks` that the task derives from.
        parts: For an aggregate, the names of the tasks whose mean it is.
        parallel_subsets: Whether one table with a column per language serves all subsets, so that each column is
            encoded once.
    """

    name: str
    type: str
    modalities: tuple[str, ...] = ("text",)
    languages: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    subsets: tuple[str, ...] = ("default",)
    subset_languages: tuple[str, ...] = ()
    main_score: str = ""
    dataset: str = ""
    revision: str = ""
    prompt: str = ""
    base_class: str = ""
    parts: tuple[str, ...] = ()
    samples_per_label: int | None = None
    n_experiments: int | None = None
    train_split: str | None = None
    is_cross_validation: bool = False
    n_samples: int | None = None
    max_eval_samples: int | None = None
    max_document_to_embed: int | None = None
    max_fraction_of_documents_to_embed: float | None = None
    parallel_subsets: bool = False
    ignore_identical_ids: bool = False

    @property
    def is_text(self) -> bool:
        """Whether a text model can run it: it reads only text and its type is one of `TASK_TYPES`."""
        return self.modalities == ("text",) and self.type in TASK_CLASS_BY_TYPE

    @property
    def is_aggregate(self) -> bool:
        """Whether it is the mean of other tasks, its `parts`, and has no data of its own."""
        return bool(self.parts)

    def subsets_in(self, languages: Collection[str], *, exclusive: bool = False) -> tuple[str, ...]:
        """Returns the subsets with at least one of these ISO 639-3 codes, as mteb's `filter_languages` keeps them.

        Args:
            languages: The codes.
            exclusive: Keep only subsets with no other code, as mteb's `exclusive_language_filter`.
        """
        wanted = frozenset(languages)
        by_subset = self._languages_by_subset()
        return tuple(
            name
            for name, codes in by_subset
            if (wanted.issuperset(codes) if exclusive else not wanted.isdisjoint(codes))
        )

    def _languages_by_subset(self) -> Iterator[tuple[str, Collection[str]]]:
        if self.subset_languages:
            return zip(self.subsets, (codes.split() for codes in self.subset_languages), strict=True)
        if len(self.subsets) == 1 or len(self.languages) == 1:
            return ((name, self.languages) for name in self.subsets)
        return ((name, languages_in_subset_name(name)) for name in self.subsets)


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A task of a benchmark; None where the benchmark leaves the choice of splits or subsets to the task."""

    name: str
    splits: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkEntry:
    """A benchmark of mteb. One without any text task has only its name and aliases."""

    name: str
    aliases: tuple[str, ...] = ()
    tasks: tuple[BenchmarkTask, ...] = ()


def languages_in_subset_name(subset: str) -> frozenset[str]:
    """Returns the codes in a subset's name where it is made of them: `eng_Latn-deu_Latn` gives eng and deu."""
    return frozenset(part.partition("_")[0] for part in subset.split("-"))


def task_entry(record: Mapping[str, Any], class_defaults: Mapping[str, Mapping[str, Any]]) -> TaskEntry:
    """Decodes a task's record; attributes that it leaves out are those of its class."""
    is_full = "main_score" in record
    base_class = record.get("base_class", TASK_CLASS_BY_TYPE[record["type"]] if is_full else "")
    fields: dict[str, Any] = {**class_defaults.get(base_class, {}), "base_class": base_class}
    fields |= {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    subsets = _subsets(record)
    if subsets is not None:
        fields.pop("subset_pairs", None)
        fields["subsets"] = subsets
    if isinstance(record.get("subsets"), dict):
        fields["subset_languages"] = tuple(record["subsets"].values())
    return TaskEntry(**fields)


def benchmark_entry(record: Mapping[str, Any]) -> BenchmarkEntry:
    """Decodes a benchmark's record."""
    tasks = tuple(map(_benchmark_task, record.get("tasks", ())))
    return BenchmarkEntry(record["name"], tuple(record.get("aliases", ())), tasks)


def _benchmark_task(item: str | Mapping[str, Any]) -> BenchmarkTask:
    if isinstance(item, str):
        return BenchmarkTask(item)
    return BenchmarkTask(item["name"], tuple(item["splits"]) if "splits" in item else None, _subsets(item))


def _subsets(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns a record's subsets if it names any; `subset_pairs` stands for all ordered pairs of different codes."""
    if "subset_pairs" in record:
        codes = record["subset_pairs"]
        return tuple(f"{first}-{second}" for first in codes for second in codes if first != second)
    return tuple(record["subsets"]) if "subsets" in record else None
