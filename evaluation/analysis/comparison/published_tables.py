"""Tables of published scores: CSV files with a source per row -> scores, and models to compare. Matches nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean

from evaluation.analysis.task_scores import ScoredJob, TaskScore
from evaluation.errors import ComparisonError
from evaluation.protocols import DEV_TASKS
from evaluation.tasks.index import load_index

PUBLISHED_COLUMNS = (
    *("model", "source", "revision", "protocol", "task", "task_type"),
    *("split", "subset", "metric", "main_score"),
)


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One row of a published table; `score` is in points, `dataset_revision` empty where the table does not say."""

    model: str
    source: str
    revision: str
    protocol: str
    task: str
    type: str
    split: str
    subset: str
    metric: str
    score: float
    dataset_revision: str = ""


def read_published(files: Iterable[Path]) -> list[PublishedScore]:
    """Reads the rows of published tables.

    Raises:
        ComparisonError: A file can't be read or lacks a column, or a row lacks source or score; names the line.
    """
    rows: list[PublishedScore] = []
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream)
                absent = [name for name in PUBLISHED_COLUMNS if name not in (reader.fieldnames or ())]
                if absent:
                    raise ComparisonError(
                        f"{file} is not a table of published scores: it has no column {', '.join(absent)} "
                        f"(needed: {', '.join(PUBLISHED_COLUMNS)})."
                    )
                rows += [_published_score(row, file, reader.line_num) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ComparisonError(f"{file} can't be read: {error}.") from error
    return rows


def _published_score(row: Mapping[str, str | None], file: Path, line: int) -> PublishedScore:
    try:
        score = float(row["main_score"] or "")
    except ValueError:
        score = float("nan")
    if not row["source"] or not isfinite(score) or abs(score) > 1:
        wanted = "a main_score from -1 to 1" if row["source"] else "a source"
        raise ComparisonError(f"{file}, line {line}: a published score needs {wanted} (found {row['main_score']!r}).")
    text = {name: row[name] or "" for name in PUBLISHED_COLUMNS}
    return PublishedScore(
        **{name: text[name] for name in ("model", "source", "revision", "protocol", "task", "split", "subset")},
        type=text["task_type"],
        metric=text["metric"],
        score=100 * score,
    )


def tables_by_model(rows: Sequence[PublishedScore]) -> dict[tuple[str, str], list[PublishedScore]]:
    """Model and protocol -> rows of single tasks; averages over a whole benchmark are left out."""
    index = load_index()
    tables: dict[tuple[str, str], list[PublishedScore]] = {}
    for row in rows:
        if row.task in index:
            tables.setdefault((row.model, row.protocol), []).append(row)
    return tables


def published_tasks(label: str, rows: Sequence[PublishedScore]) -> dict[str, TaskScore]:
    """The published scores of a model per task, each over its splits and subsets that count."""
    found = {}
    for task in dict.fromkeys(row.task for row in rows):
        own = chosen_splits([row for row in rows if row.task == task])
        job = ScoredJob(
            label=label,
            task=task,
            type=own[0].type,
            metric=own[0].metric,
            aggregate=None,
            score=fmean(row.score for row in own) / 100,
            fault="",
            conditions={
                "protocol": own[0].protocol,
                "splits": list(dict.fromkeys(row.split for row in own)),
                "subsets": list(dict.fromkeys(row.subset for row in own)),
            },
        )
        found[task] = TaskScore(task, (job,))
    return found


def chosen_splits(rows: Sequence[PublishedScore]) -> list[PublishedScore]:
    """The rows of the split that counts: test (dev for MSMARCO), or all where the table has no such split."""
    wanted = "dev" if rows and rows[0].task in DEV_TASKS else "test"
    return [row for row in rows if row.split == wanted] or list(rows)
