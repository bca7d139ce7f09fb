"""Sets published scores beside ours: whether ours reproduce them, and why they may differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from evaluation.analysis.comparison.published_tables import PublishedScore, chosen_splits, read_published
from evaluation.analysis.task_scores import TaskScore
from evaluation.errors import ComparisonError
from evaluation.models.names import is_e5_name, is_quantized, original_name
from evaluation.protocols import TaskRules, TaskTraits, named_rules
from evaluation.records.job_record import JobRecord
from evaluation.system.shipped_files import SHIPPED
from evaluation.tasks.beir_names import mteb_name
from evaluation.tasks.index import load_index

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval

TOLERANCE_POINTS = 0.5
"""A rerun with other batches, libraries or k-means seeds moves a score by less; see the table in docs/validation.md."""

_ROUNDING_POINTS = 0.005  # published scores have two decimals
_E5_MAX_LENGTH = 512  # model cards: "long texts will be truncated to at most 512 tokens"
_NORM_MATTERS = frozenset({"Classification", "MultilabelClassification", "Regression", "Clustering"})
_FOLDER = Path("results") / "published"


@dataclass(frozen=True, slots=True)
class PublishedMatch:
    """A published score beside ours, in points.

    Attributes:
        protocol: The table's: e5 (the authors' rules), mteb (MTEB's reruns) or authors (rules of the authors that are
            not defined here).
        delta: Ours minus the published score.
        verdict: "reproduced" means within `TOLERANCE_POINTS`, and within our interval where there is one.
        causes: Likely causes of a difference, as far as the records show them; empty where reproduced.
    """

    score: float
    source: str
    protocol: str
    delta: float
    verdict: Literal["reproduced", "differs"]
    causes: tuple[str, ...] = ()


class PublishedScores:
    """Finds published scores by model and task.

    Args:
        rows: From `read_published`.
    """

    def __init__(self, rows: Sequence[PublishedScore]) -> None:
        self.rows = tuple(rows)
        self._by_task: dict[tuple[str, str], list[PublishedScore]] = {}
        for row in rows:
            self._by_task.setdefault((row.model, row.task), []).append(row)

    def matches(
        self, model: str, protocol: str, task: TaskScore, interval: Interval | None
    ) -> tuple[PublishedMatch, ...]:
        """The published scores of a model on a task, one match per table, those under our own protocol first.

        Args:
            model: The checkpoint's name; 4-bit weights count as the model they were made from.
            protocol: Our protocol.
            task: Our score, with its records.
            interval: The interval of our score, in points.
        """
        if task.points is None:
            return ()
        tables: dict[str, list[PublishedScore]] = {}
        for row in self._by_task.get((original_name(model), mteb_name(task.task)), []):
            tables.setdefault(row.protocol, []).append(row)
        order = sorted(tables, key=lambda name: (name != protocol, name))
        return tuple(_match(task, task.points, tables[name], interval) for name in order)

    def average(self, model: str, protocol: str, tasks: Sequence[str], value: float) -> tuple[PublishedMatch, ...]:
        """Published averages over a benchmark whose tasks are exactly these, under the same protocol.

        Args:
            model: The checkpoint's name.
            tasks: The tasks, by mteb's names.
            value: Our mean over them, in points.
        """
        index = load_index()
        found = []
        for (its_model, name), rows in self._by_task.items():
            if its_model != original_name(model) or name not in index.benchmark_names:
                continue
            if {task.name for task in index.benchmark(name)} == set(tasks):
                found += [
                    PublishedMatch(row.score, row.source, row.protocol, value - row.score, _verdict(value, row.score))
                    for row in rows
                    if row.protocol == protocol
                ]
        return tuple(found)


def load_published() -> PublishedScores:
    """Returns the tables in results/published: of the working directory, else those installed with the package.

    Raises:
        ComparisonError: There are none, or one is broken.
    """
    for folder in (_FOLDER, SHIPPED / _FOLDER):
        files = sorted(folder.glob("*.csv"))
        if files:
            return PublishedScores(read_published(files))
    raise ComparisonError(
        f"There are no published scores: neither {_FOLDER.absolute()} nor {SHIPPED / _FOLDER} holds a CSV file. "
        "Install the package again, or name a table of yours as a RUN."
    )


def _match(task: TaskScore, score: float, rows: Sequence[PublishedScore], interval: Interval | None) -> PublishedMatch:
    ours = {(split, subset) for record in task.records for split in record.splits for subset in record.subsets}
    same = [row for row in rows if (row.split, row.subset) in ours]
    like_with_like = bool(ours) and {(row.split, row.subset) for row in same} == ours
    used = same if like_with_like else chosen_splits(rows)
    theirs = fmean(row.score for row in used)
    limited = any(record.limit for record in task.records)  # a part of the data reproduces nothing
    verdict = _verdict(score, theirs, interval) if like_with_like and not limited else "differs"
    causes: list[str] = []
    if verdict == "differs":
        if not like_with_like:
            theirs_in, ours_in = _told((row.split, row.subset) for row in used), _told(sorted(ours))
            causes.append(f"split: theirs is {theirs_in}, ours {ours_in}")
        causes += dict.fromkeys(cause for record in task.records for cause in _causes(record, used[0]))
    sources = "; ".join(dict.fromkeys(row.source for row in used))
    return PublishedMatch(theirs, sources, used[0].protocol, score - theirs, verdict, tuple(causes))


def _told(places: Iterable[tuple[str, str]]) -> str:
    """Splits and subsets in words."""
    return ", ".join(dict.fromkeys(f"{split} ({subset})" for split, subset in places))


def _verdict(ours: float, theirs: float, interval: Interval | None = None) -> Literal["reproduced", "differs"]:
    near = abs(ours - theirs) <= TOLERANCE_POINTS
    inside = interval is None or interval.low - _ROUNDING_POINTS <= theirs <= interval.high + _ROUNDING_POINTS
    return "reproduced" if near and inside else "differs"


def _causes(record: JobRecord, row: PublishedScore) -> Iterator[str]:
    """In what a job differs from the published table, as far as its record shows."""
    model, audit = record.provenance.model, record.audit
    if record.limit:
        yield "limit: ours is a limited run"
    if record.metric != row.metric:
        yield f"metric: theirs is {row.metric}, ours {record.metric}"
    if row.protocol == "authors":
        yield "protocol: the table's own rules are not defined here"
    else:
        task = TaskTraits(record.task, record.type, tuple(sorted(_names(record))))
        yield from _rule_causes(record, named_rules(row.protocol, task), row)
    is_cut = audit is not None and any(side.truncated for side in audit.sides.values())
    length = audit.vectors.max_length if audit is not None and audit.vectors is not None else _E5_MAX_LENGTH
    if is_cut and is_e5_name(row.model) and length != _E5_MAX_LENGTH:
        yield f"truncation: ours at {length} tokens, theirs at {_E5_MAX_LENGTH}"
    if model is not None and is_quantized(model.name):
        yield "weights: ours are rounded to 4 bits"
    if model is not None and model.words is not None:
        yield f"version: ours is {model.revision}; the table's is not known"
    if model is not None and model.settings is not None and model.settings.dtype != "float32":
        yield f"precision: ours is {model.settings.dtype}"
    yield from _dataset_cause(record)


def _names(record: JobRecord) -> frozenset[str]:
    return frozenset({record.task, mteb_name(record.task), *([record.aggregate] if record.aggregate else [])})


def _rule_causes(record: JobRecord, rules: TaskRules, row: PublishedScore) -> Iterator[str]:
    """Prefixes and normalising; mteb's registry has prompts for E5 models only."""
    is_e5 = is_e5_name(row.model)
    if record.audit is None:
        return
    for side, seen in record.audit.sides.items():
        expected = rules.prefix(side) if is_e5 else ""
        if seen.prefix != expected:
            yield f"prefix: theirs on the {side} side is {expected!r}, ours {seen.prefix!r}"
    # The checkpoints of E5 declare a Normalize module.
    normalized = {"always": True, "never": False}.get(rules.normalize, True if is_e5 else None)
    if record.type not in _NORM_MATTERS or normalized is None:
        return
    if record.audit.vectors is not None and record.audit.vectors.normalize != normalized:
        theirs, ours = ("normalised", "raw") if normalized else ("raw", "normalised")
        yield f"normalisation: their vectors are {theirs}, ours {ours}"


def _dataset_cause(record: JobRecord) -> Iterator[str]:
    dataset, task, index = record.provenance.dataset, mteb_name(record.task), load_index()
    revision = dataset.revision if dataset else None
    pinned = index.task(task).revision if task in index else None
    if revision is None or pinned is None or revision == pinned:
        return
    if str(revision).startswith("local-"):
        yield "dataset: ours is a local copy, whose revision can't be checked"
    else:
        yield f"dataset revision: ours is {str(revision)[:12]}, mteb pins {pinned[:12]}"
