"""Reads the local data of all task types other than retrieval: one table per split, one column per role.

Knows nothing of BEIR's layout, of subsets, of mteb or torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from evaluation.tasks.local.files import REFUSED, Rows, read_rows
from evaluation.tasks.local.layouts import DataPath, Table, find_table
from evaluation.tasks.local.notes import Notes, show
from evaluation.tasks.types import TRAINED_TYPES

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")  # as str(int) writes it: "007" stays a string
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CSV_FLAGS: Final = {"0": 0, "1": 1, "false": 0, "true": 1}
_LABEL: Final = "a non-empty string or an integer"

_Check: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class TableSplit:
    """One split: documented column name -> values, all columns in file order.

    Texts are strings; labels are strings or integers, of one kind per split, or lists of them; scores and values are
    floats; the labels of pairs are 0 or 1.
    """

    columns: dict[str, list[Any]]


def read_tables(notes: Notes, folder: DataPath, task_type: str, splits: Sequence[str]) -> dict[str, TableSplit]:
    """Reads the splits of one subset; leaves out a split with a problem, which `notes` then has."""
    read: dict[str, TableSplit] = {}
    kind_before: tuple[str, str] | None = None
    for split in splits:
        files = find_table(notes, folder, split)
        if files is None:
            continue
        path = files[0]
        before = notes.total
        columns = _read_columns(notes, files, task_type)
        if notes.total > before:
            continue
        read[split] = TableSplit(columns)
        if task_type in TRAINED_TYPES:  # they learn from one split and score another
            kind = next((_kind(label) for label in _flatten(columns.get("label", []))), None)
            if kind and kind_before and kind != kind_before[1]:
                other, other_kind = kind_before
                notes.problem(path, f"the labels are {kind}s, but {other_kind}s in {other}; use one kind.")
            kind_before = (path.name, kind) if kind else kind_before
    return read


def _read_columns(notes: Notes, files: Table, task_type: str) -> dict[str, list[Any]]:
    """Reads and checks the columns of one split."""
    schema = _SCHEMAS[task_type]
    sets = _SENTENCE_SETS if task_type == "Clustering" else {}
    *most, last = schema
    needs = f"every row needs {', '.join(most)} and {last}"
    needs += f", or {' and '.join(sets)}" if sets else ""
    rows = read_rows(notes, files, list(schema), needs, optional=list(sets))
    present = rows.columns.keys()
    if sets and sets.keys() <= present:
        if schema.keys() <= present:
            both = f"both {' and '.join(schema)}, and {' and '.join(sets)}"
            notes.problem(rows.path, f"has {both}; keep only one of the pairs.")
        schema = sets
    columns = {name: read(rows, name) for name, read in schema.items()}
    for left, right in (("machine_summaries", "relevance"), ("sentences", "labels")):
        if left in columns and right in columns:
            _check_lengths(rows, columns, left, right)
    return columns


def _check_lengths(rows: Rows, columns: Mapping[str, list[Any]], left: str, right: str) -> None:
    for at, (one, other) in enumerate(zip(columns[left], columns[right], strict=True)):
        if one is not REFUSED and other is not REFUSED and len(one) != len(other):
            lengths = f'"{left}" has {len(one)} items and "{right}" {len(other)}'
            rows.notes.problem(rows.place(at), f"{lengths}; they must have the same length.")


def _read_texts(rows: Rows, name: str) -> list[Any]:
    return rows.texts(name)


def _read_numbers(rows: Rows, name: str) -> list[Any]:
    return rows.convert(name, "a finite number", _as_cell_number if rows.is_csv else _as_number)


def _read_flags(rows: Rows, name: str) -> list[Any]:
    return rows.convert(name, "0 or 1, or false or true", _as_cell_flag if rows.is_csv else _as_flag)


def _read_labels(rows: Rows, name: str) -> list[Any]:
    """Reads strings or integers; in CSV, integers where every cell is one."""
    cells = rows.columns.get(name, [])
    if rows.is_csv and all(_INTEGER.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells] if cells else rows.convert(name, _LABEL, _as_label)
    return _one_kind(rows, name, rows.convert(name, _LABEL, _as_label))


def _read_label_lists(rows: Rows, name: str, *, least: int) -> list[Any]:
    must_be = "a list of labels (strings or integers)"
    return _one_kind(rows, name, _read_lists(rows, name, must_be, _as_label, least))


def _read_labels_or_levels(rows: Rows, name: str) -> list[Any]:
    """Reads labels, or for a hierarchy a list of labels per row, the outermost level first."""
    cells = rows.columns.get(name, [])
    if rows.is_csv:
        has_levels = bool(cells) and all(cell.startswith("[") for cell in cells)
    else:
        has_levels = any(isinstance(cell, list) for cell in cells)
    return _read_label_lists(rows, name, least=1) if has_levels else _read_labels(rows, name)


def _read_text_lists(rows: Rows, name: str) -> list[Any]:
    lists = _read_lists(rows, name, "a list of at least one string", _as_text, 1)
    rows.count_blank(list(_flatten(lists)))
    return lists


def _read_number_lists(rows: Rows, name: str) -> list[Any]:
    return _read_lists(rows, name, "a list of finite numbers", _as_number, 1)


def _read_lists(rows: Rows, name: str, must_be: str, check: _Check, least: int) -> list[Any]:
    """Reads lists of at least `least` items that each pass `check`; a CSV cell holds a list as JSON."""

    def as_list(value: Any) -> Any:  # returns the value to keep or REFUSED
        if rows.is_csv:
            try:
                value = rows.notes.parse_json(value)
            except ValueError:
                return REFUSED
        if not isinstance(value, list) or len(value) < least:
            return REFUSED
        kept = [check(item) for item in value]
        return REFUSED if any(item is REFUSED for item in kept) else kept

    return rows.convert(name, must_be + (", written as JSON" if rows.is_csv else ""), as_list)


def _one_kind(rows: Rows, name: str, labels: list[Any]) -> list[Any]:
    """Returns the labels; notes a problem at the first that is of another kind than the first of all."""
    first: tuple[str, int, object] | None = None
    for at, value in enumerate(labels):
        for label in _flatten([value]):
            if first is None:
                first = (_kind(label), at, label)
            elif _kind(label) != first[0]:
                before = rows.place(first[1]).removeprefix(f"{rows.file_of(at)}, ")
                mixed = f'"{name}" is the {_kind(label)} {show(label)}, but in {before} it is the {first[0]}'
                rows.notes.problem(rows.place(at), f"{mixed} {show(first[2])}; use one kind in the whole file.")
                return labels
    return labels


def _flatten(values: Sequence[Any]) -> Iterator[Any]:
    """Yields the items of lists, and the values that are not lists, without refused ones."""
    for value in values:
        if isinstance(value, list):
            yield from value
        elif value is not REFUSED:
            yield value


def _kind(label: object) -> str:
    return "string" if isinstance(label, str) else "integer"


def _as_text(value: Any) -> Any:
    return value if isinstance(value, str) else REFUSED


def _as_label(value: Any) -> Any:
    return value if (isinstance(value, str) and value) or type(value) is int else REFUSED


def _as_flag(value: Any) -> Any:
    return int(value) if isinstance(value, int) and value in (0, 1) else REFUSED  # true is an int


def _as_cell_flag(cell: str) -> Any:
    return _CSV_FLAGS.get(cell.strip().lower(), REFUSED)


def _as_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return REFUSED
    try:
        return float(value) if math.isfinite(value) else REFUSED
    except OverflowError:  # an integer past the largest float
        return REFUSED


def _as_cell_number(cell: str) -> Any:
    return _as_number(float(cell)) if _NUMBER.fullmatch(cell.strip()) else REFUSED


_Reader: TypeAlias = Callable[[Rows, str], list[Any]]
_PAIR: Final[dict[str, _Reader]] = {"sentence1": _read_texts, "sentence2": _read_texts}
_SENTENCE_SETS: Final[dict[str, _Reader]] = {
    "sentences": _read_text_lists,
    "labels": partial(_read_label_lists, least=1),
}
_SCHEMAS: Final[dict[str, dict[str, _Reader]]] = {
    "Classification": {"text": _read_texts, "label": _read_labels},
    "MultilabelClassification": {"text": _read_texts, "label": partial(_read_label_lists, least=0)},
    "Regression": {"text": _read_texts, "value": _read_numbers},
    "Clustering": {"text": _read_texts, "label": _read_labels_or_levels},
    "PairClassification": {**_PAIR, "label": _read_flags},
    "STS": {**_PAIR, "score": _read_numbers},
    "Summarization": {
        "text": _read_texts,
        "human_summaries": _read_text_lists,
        "machine_summaries": _read_text_lists,
        "relevance": _read_number_lists,
    },
    "BitextMining": _PAIR,
}
