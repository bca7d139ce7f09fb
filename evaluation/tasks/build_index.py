"""Builds the task index, the file that `evaluation.tasks.index` reads, from the installed mteb.

Run it as `python -m evaluation.tasks.build_index`. Imports mteb only inside functions. The file leaves out
whatever a reader can tell from a default.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.system.atomic_files import write_text
from evaluation.tasks.index import SCHEMA_VERSION, SHIPPED_INDEX
from evaluation.tasks.index_entries import languages_in_subset_name
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask
    from mteb.abstasks.task_metadata import PromptDict
    from mteb.benchmarks import Benchmark

ENCODING_ATTRIBUTES = (
    "samples_per_label",
    "n_experiments",
    "train_split",
    "is_cross_validation",
    "n_samples",
    "max_eval_samples",
    "max_document_to_embed",
    "max_fraction_of_documents_to_embed",
    "parallel_subsets",
    "ignore_identical_ids",
)
"""Attributes of mteb's task classes that decide how many texts are encoded and which results count."""


def build_index() -> dict[str, Any]:
    """Returns the content of an index of the installed mteb, in JSON's types; the same on every call."""
    import mteb

    tasks = _all_task_classes()
    bases = {_base_class(task) for task in tasks if _is_text(task)}
    defaults = {base.__name__: _encoding_attributes(base) for base in bases}
    return {
        "schema_version": SCHEMA_VERSION,
        "mteb_version": mteb.__version__,
        "class_defaults": {name: defaults[name] for name in sorted(defaults) if defaults[name]},
        "tasks": [_task_record(task) for task in tasks],
        "benchmarks": sorted(map(_benchmark_record, mteb.get_benchmarks()), key=lambda record: str(record["name"])),
    }


def render_index(content: dict[str, Any]) -> str:
    """Renders JSON with one line per task and benchmark.

    A diff between two versions of mteb then stays readable, and a reader decodes only the lines that it needs.
    """
    parts = []
    for key, value in content.items():
        records = "[\n" + ",\n".join(map(_json, value)) + "\n]" if isinstance(value, list) else _json(value)
        parts.append(f"{_json(key)}:{records}")
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Writes the index of the installed mteb to --output, by default over the shipped one."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.tasks.build_index", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=SHIPPED_INDEX, metavar="FILE", help="default: %(default)s")
    write_text(parser.parse_args().output, render_index(build_index()))


def _all_task_classes() -> list[type[AbsTask]]:
    """Returns all registered tasks and the parts of aggregates, sorted by name.

    Returns classes, because making a task may warn or draw random numbers.
    """
    from mteb.abstasks.aggregated_task import AbsTaskAggregate
    from mteb.get_tasks import TASK_LIST

    tasks = {task.metadata.name: task for task in TASK_LIST}
    for aggregate in TASK_LIST:
        if issubclass(aggregate, AbsTaskAggregate):
            for part in aggregate.metadata.tasks:
                tasks.setdefault(part.metadata.name, type(part))
    return [tasks[name] for name in sorted(tasks, key=lambda name: (name.casefold(), name))]


def _task_record(task: type[AbsTask]) -> dict[str, Any]:
    meta = task.metadata
    record: dict[str, Any] = {"name": meta.name, "type": meta.type}
    if list(meta.modalities) != ["text"]:
        record["modalities"] = sorted(meta.modalities)
    if not _is_text(task):
        return record
    base = _base_class(task)
    parts = [part.metadata.name for part in getattr(meta, "tasks", ())]
    optional = {
        "splits": _unless(["test"], list(meta.eval_splits)),
        **_subset_fields(meta.hf_subsets_to_langscripts),
        "dataset": None if parts else meta.dataset["path"],
        "revision": None if parts else meta.dataset["revision"],
        "prompt": _query_prompt(meta.prompt),
        "base_class": _unless(TASK_CLASS_BY_TYPE[meta.type], base.__name__),
        "parts": parts or None,
    }
    record |= {"languages": meta.languages, "main_score": meta.main_score}
    record |= {key: value for key, value in optional.items() if value is not None}
    # Not filtered: a None here says that the task lifts a limit of its class.
    defaults = _encoding_attributes(base)
    return record | {key: value for key, value in _encoding_attributes(task).items() if value != defaults.get(key)}


def _query_prompt(prompt: str | PromptDict | None) -> str | None:
    """Returns mteb's sentence for the queries, or texts, of a task; none of its tasks has one for documents."""
    return (prompt.get("query") if isinstance(prompt, dict) else prompt) or None


def _benchmark_record(benchmark: Benchmark) -> dict[str, Any]:
    record: dict[str, Any] = {"name": benchmark.name}
    if benchmark.aliases:
        record["aliases"] = list(benchmark.aliases)
    if not any(_is_text(type(task)) for task in benchmark.tasks):
        return record
    return record | {"tasks": [_benchmark_task(task) for task in benchmark.tasks]}


def _benchmark_task(task: AbsTask) -> str | dict[str, Any]:
    """Returns the name alone where the benchmark takes a task as it is, else with what it chose."""
    chosen: dict[str, Any] = {}
    if list(task.eval_splits) != list(task.metadata.eval_splits):
        chosen["splits"] = list(task.eval_splits)
    if list(task.hf_subsets) != list(task.metadata.hf_subsets):
        codes = _codes_of_all_pairs(task.hf_subsets)
        chosen |= {"subsets": list(task.hf_subsets)} if codes is None else {"subset_pairs": codes}
    return {"name": task.metadata.name, **chosen} if chosen else task.metadata.name


def _subset_fields(languages_by_subset: dict[str, list[str]]) -> dict[str, Any]:
    """Returns the subsets: a list where their names tell the languages, name -> codes, or the codes of all pairs."""
    codes = {name: {tag.split("-")[0] for tag in tags} for name, tags in languages_by_subset.items()}
    if list(codes) == ["default"]:
        return {}
    shows = len(codes) == 1 or len(set.union(*codes.values())) == 1
    if not shows and any(languages_in_subset_name(name) != found for name, found in codes.items()):
        return {"subsets": {name: " ".join(sorted(found)) for name, found in codes.items()}}
    pairs = _codes_of_all_pairs(list(codes))
    return {"subsets": list(codes)} if pairs is None else {"subset_pairs": pairs}


def _codes_of_all_pairs(subsets: Sequence[str]) -> list[str] | None:
    """Returns the codes whose ordered pairs are these subsets in this order; Flores has 41,412 such pairs."""
    codes = list(dict.fromkeys(name.partition("-")[0] for name in subsets))
    pairs = [f"{first}-{second}" for first in codes for second in codes if first != second]
    return codes if len(codes) > 2 and pairs == list(subsets) else None


def _is_text(task: type[AbsTask]) -> bool:
    return list(task.metadata.modalities) == ["text"] and task.metadata.type in TASK_CLASS_BY_TYPE


def _base_class(task: type[AbsTask]) -> type:
    return next(base for base in task.__mro__ if base.__module__.startswith("mteb.abstasks"))


def _encoding_attributes(task: type) -> dict[str, Any]:
    return {key: getattr(task, key) for key in ENCODING_ATTRIBUTES if hasattr(task, key)}


def _unless(default: object, value: object) -> Any:  # noqa: ANN401 - any JSON value
    return None if value == default else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
