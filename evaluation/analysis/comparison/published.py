"""Scores that others published, and whether ours reproduce them. Reads CSV files with a source a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from evaluation.analysis.comparison.sources import PublishedScore, TaskResult, chosen_splits, mteb_name, read_published
from evaluation.config.models import is_e5_name
from evaluation.errors import ComparisonError
from evaluation.models.training_data import original_name
from evaluation.protocols import TaskRules, named_rules
from evaluation.records.store import JobRecord
from evaluation.tasks.index import load_index

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval

TOLERANCE_POINTS = 0.5
"""A rerun with other batches, libraries or k-means seeds moves a score by less than this; see README's table."""

_ROUNDING_POINTS = 0.005  # published scores have two decimals
_E5_MAX_LENGTH = 512  # model cards: "long texts will be truncated to at most 512 tokens"
_NORM_MATTERS = frozenset({"Classification", "MultilabelClassification", "Regression", "Clustering"})
_FOLDER = Path("results") / "published"


@dataclass(frozen=True, slots=True)
class PublishedMatch:
    """A published score beside ours, in points.

    Attributes:
        protocol: Of the table it stands in: e5 (the authors' rules), mteb (MTEB's reruns) or authors (rules of the
            authors that are not defined here).
        delta: Ours - published.
        verdict: reproduced: within `TOLERANCE_POINTS`, and within our interval where there is one.
        causes: Likely causes of a difference that the records show, most telling first; empty where reproduced.
    """

    score: float
    source: str
    protocol: str
    delta: float
    verdict: Literal["reproduced", "differs"]
    causes: tuple[str, ...] = ()


class PublishedScores:
    """Published tables, found by model and task.

    Args:
        rows: From `read_published`.
    """

    def __init__(self, rows: Sequence[PublishedScore]) -> None:
        self.rows = tuple(rows)
        self._by_task: dict[tuple[str, str], list[PublishedScore]] = {}
        for row in rows:
            self._by_task.setdefault((row.model, row.task), []).append(row)

    def matches(
        self, model: str, protocol: str, result: TaskResult, interval: Interval | None
    ) -> tuple[PublishedMatch, ...]:
        """Published scores of a model on a task, a match a table, tables of our own protocol first.

        Args:
            model: As records name it; 4-bit weights are set beside the model they are made of.
            protocol: Ours.
            result: Our score, with its records.
            interval: Of our score, in points.
        """
        if result.score is None:
            return ()
        tables: dict[str, list[PublishedScore]] = {}
        for row in self._by_task.get((original_name(model), mteb_name(result.task)), []):
            tables.setdefault(row.protocol, []).append(row)
        order = sorted(tables, key=lambda name: (name != protocol, name))
        return tuple(_match(result, result.score, tables[name], interval) for name in order)

    def average(self, model: str, protocol: str, tasks: Sequence[str], value: float) -> tuple[PublishedMatch, ...]:
        """Published averages over a benchmark whose tasks are exactly these, under the same protocol.

        Args:
            model: As records name it.
            protocol: Ours.
            tasks: mteb's names.
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
    """The tables in results/published: of the working directory, or of this package's checkout.

    Raises:
        ComparisonError: There are none, or one is broken.
    """
    candidates = (_FOLDER, Path(__file__).parents[3] / _FOLDER)
    for folder in candidates:
        files = sorted(folder.glob("*.csv"))
        if files:
            return PublishedScores(read_published(files))
    raise ComparisonError(
        f"There are no published scores: neither {candidates[0].absolute()} nor {candidates[1]} holds a CSV file. "
        "Start the command in a checkout of the project, or name a table of yours as a RUN."
    )


def _match(
    result: TaskResult, score: float, rows: Sequence[PublishedScore], interval: Interval | None
) -> PublishedMatch:
    ours = {(split, subset) for record in result.records for split in record.splits for subset in record.subsets}
    same = [row for row in rows if (row.split, row.subset) in ours]
    like_with_like = bool(ours) and {(row.split, row.subset) for row in same} == ours
    used = same if like_with_like else chosen_splits(rows)
    theirs = fmean(row.score for row in used)
    limited = any(record.limit for record in result.records)  # a part of the data reproduces nothing
    verdict = _verdict(score, theirs, interval) if like_with_like and not limited else "differs"
    causes: list[str] = []
    if verdict == "differs":
        if not like_with_like:
            places = ", ".join(dict.fromkeys(f"{row.split} ({row.subset})" for row in used))
            causes.append(f"split: theirs is {places}, ours {result.identity.get('split', 'unknown')}")
        causes += dict.fromkeys(cause for record in result.records for cause in _causes(record, used[0]))
    sources = "; ".join(dict.fromkeys(row.source for row in used))
    return PublishedMatch(theirs, sources, used[0].protocol, score - theirs, verdict, tuple(causes))


def _verdict(ours: float, theirs: float, interval: Interval | None = None) -> Literal["reproduced", "differs"]:
    near = abs(ours - theirs) <= TOLERANCE_POINTS
    inside = interval is None or interval.low - _ROUNDING_POINTS <= theirs <= interval.high + _ROUNDING_POINTS
    return "reproduced" if near and inside else "differs"


def _causes(record: JobRecord, row: PublishedScore) -> Iterator[str]:
    """What of a job is not as in the published table, as far as its record shows."""
    model: dict[str, Any] = record.provenance.get("model", {})
    name, settings = str(model.get("name", "")), model.get("settings", {})
    sides: dict[str, dict[str, Any]] = record.audit.get("sides", {})
    if record.limit:
        yield "limit: ours is a limited run"
    if record.metric != row.metric:
        yield f"metric: theirs is {row.metric}, ours {record.metric}"
    if row.protocol == "authors":
        yield "protocol: the table's own rules are not defined here"
    else:
        yield from _rule_causes(record, named_rules(row.protocol, record.type, _names(record)), row)
    max_length = settings.get("max_length")
    if is_e5_name(row.model) and max_length != _E5_MAX_LENGTH and any(side.get("truncated") for side in sides.values()):
        yield f"truncation: ours at {max_length} tokens, theirs at {_E5_MAX_LENGTH}"
    if name.endswith("-q4"):
        yield "weights: ours are rounded to 4 bits"
    if settings.get("dtype") not in (None, "float32"):
        yield f"precision: ours is {settings['dtype']}"
    yield from _dataset_cause(record)


def _names(record: JobRecord) -> frozenset[str]:
    return frozenset({record.task, mteb_name(record.task), *([record.aggregate] if record.aggregate else [])})


def _rule_causes(record: JobRecord, rules: TaskRules, row: PublishedScore) -> Iterator[str]:
    """Prefixes and normalising; mteb's registry has prompts for E5 models only."""
    is_e5 = is_e5_name(row.model)
    sides: dict[str, dict[str, Any]] = record.audit.get("sides", {})
    for side, seen in sides.items():
        expected = rules.prefix(side) if is_e5 else ""  # type: ignore[arg-type]
        if seen.get("prefix") != expected:
            yield f"prefix: theirs on the {side} side is {expected!r}, ours {seen.get('prefix')!r}"
    # The checkpoints of E5 declare a Normalize module.
    normalized = {"always": True, "never": False}.get(rules.normalize, True if is_e5 else None)
    if record.type not in _NORM_MATTERS or normalized is None:
        return
    if any(seen.get("normalize") not in (None, normalized) for seen in sides.values()):
        theirs, ours = ("normalised", "raw") if normalized else ("raw", "normalised")
        yield f"normalisation: their vectors are {theirs}, ours {ours}"


def _dataset_cause(record: JobRecord) -> Iterator[str]:
    revision, task, index = record.provenance.get("dataset", {}).get("revision"), mteb_name(record.task), load_index()
    pinned = index.task(task).revision if task in index else None
    if revision is None or pinned is None or revision == pinned:
        return
    if str(revision).startswith("local-"):
        yield "dataset: ours is a local copy, whose revision can't be checked"
    else:
        yield f"dataset revision: ours is {str(revision)[:12]}, mteb pins {pinned[:12]}"
