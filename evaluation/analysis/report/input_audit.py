"""The text that reached the models, task by task, with warnings. Reads the audits of stored records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.models.facts import SERVER_POOLING, UNLIMITED
from evaluation.models.names import is_e5_name
from evaluation.records import job_audit as stored
from evaluation.records.job_record import JobRecord

EXAMPLE_CHARACTERS = 280
CUT_SHARE, DUPLICATE_SHARE = 0.2, 0.1
_MIN_TEXTS = 20


@dataclass(frozen=True, slots=True)
class Example:
    """A string as the tokenizer received it, with its prefix apart; long strings are shortened."""

    prefix: str
    text: str
    shortened: bool


@dataclass(frozen=True, slots=True)
class SideAudit:
    """One side of a task (query, passage or text) for models that received the same strings.

    Attributes:
        labels: The models.
        longest: Tokens of the longest text before truncation, per label.
        truncated: Share of distinct texts that were truncated, per label.
        settings: normalise, pooling, maximum length, dtype, in words, a label at a time.
    """

    side: str
    labels: tuple[str, ...]
    prefix: str
    examples: tuple[Example, ...]
    n_texts: int
    n_unique: int
    longest: tuple[int, ...]
    truncated: tuple[float, ...]
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskAudit:
    """All sides of one task, and its warnings."""

    task: str
    type: str
    sides: tuple[SideAudit, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LengthRow:
    """The lengths of the texts of one side for one model.

    Attributes:
        counts: Distinct texts in each bucket; bucket i holds lengths from edges[i] to below edges[i + 1].
        truncated: Share of distinct texts that were truncated.
    """

    label: str
    task: str
    side: str
    edges: tuple[int, ...]
    counts: tuple[int, ...]
    truncated: float


def audit_tasks(records: Sequence[JobRecord]) -> list[TaskAudit]:
    """Returns the audit of every task that has one, in the order of the records."""
    by_task: dict[str, list[JobRecord]] = {}
    for record in records:
        if record.audit:
            by_task.setdefault(record.task, []).append(record)
    return [
        TaskAudit(task, found[0].type, tuple(_sides(found)), tuple(_task_warnings(found)))
        for task, found in by_task.items()
    ]


def warnings_by_sentence(audits: Sequence[TaskAudit]) -> dict[str, list[str]]:
    """Returns warning -> tasks, so a warning on many tasks is read once."""
    found: dict[str, list[str]] = {}
    for audit in audits:
        for sentence in audit.warnings:
            found.setdefault(sentence, []).append(audit.task)
    return found


def length_rows(records: Sequence[JobRecord]) -> list[LengthRow]:
    """Returns the histograms of token lengths per label, task and side."""
    return [
        LengthRow(
            record.label,
            record.task,
            side,
            entry.token_lengths.edges,
            entry.token_lengths.counts,
            entry.truncated_share,
        )
        for record in records
        for side, entry in _entries(record)
    ]


def _entries(record: JobRecord) -> Iterator[tuple[str, stored.SideAudit]]:
    yield from record.audit.sides.items() if record.audit else ()


def _max_length(record: JobRecord) -> int:
    if record.audit is None:
        return 0
    return UNLIMITED if record.audit.vectors is None else record.audit.vectors.max_length


def _sides(records: Sequence[JobRecord]) -> Iterator[SideAudit]:
    """Sides in the audit's order; models that received the same strings share one entry."""
    groups: dict[tuple[Any, ...], list[tuple[JobRecord, stored.SideAudit]]] = {}
    for record in records:
        for side, entry in _entries(record):
            key = (side, entry.prefix, entry.examples, entry.texts, entry.unique_texts)
            groups.setdefault(key, []).append((record, entry))
    order = list(dict.fromkeys(side for side, *_ in groups))
    for (side, prefix, examples, n_texts, n_unique), members in sorted(
        groups.items(), key=lambda g: order.index(g[0][0])
    ):
        yield SideAudit(
            side=side,
            labels=tuple(record.label for record, _ in members),
            prefix=prefix,
            examples=tuple(_example(prefix, text) for text in examples),
            n_texts=n_texts,
            n_unique=n_unique,
            longest=tuple(entry.longest for _, entry in members),
            truncated=tuple(entry.truncated_share for _, entry in members),
            settings=tuple(_settings(record) for record, _ in members if record.audit),
        )


def _example(prefix: str, text: str) -> Example:
    body = text[len(prefix) :] if text.startswith(prefix) else text
    return Example(prefix, body[:EXAMPLE_CHARACTERS], len(body) > EXAMPLE_CHARACTERS)


def _settings(record: JobRecord) -> str:
    vectors, model = record.audit.vectors if record.audit else None, record.provenance.model
    if vectors is None:
        if model is None or model.words is None:
            return "these texts were given to the model's own encode, which decides all else; lengths are in words"
        languages = model.words.languages.values()
        return f"BM25 matches words, so no prefix applies ({'; '.join(dict.fromkeys(languages))})"
    normalised = "L2-normalised" if vectors.normalize else "not normalised"
    if vectors.pooling == SERVER_POOLING:
        return f"pooling and truncation are left to the server, {normalised}"
    return f"{vectors.pooling} pooling, {normalised}, at most {vectors.max_length} tokens, {vectors.dtype}"


def _task_warnings(records: Sequence[JobRecord]) -> Iterator[str]:
    """Warnings on one task; a warning on some of the models names them."""
    found: dict[str, list[str]] = {}
    for record in records:
        for sentence in [*record.warnings, *_job_smells(record)]:
            found.setdefault(sentence, []).append(record.label)
    everyone = list(dict.fromkeys(record.label for record in records))
    for sentence, labels in found.items():
        yield sentence if len(set(labels)) == len(everyone) else f"{', '.join(dict.fromkeys(labels))}: {sentence}"
    yield from _disagreements(records)


def _job_smells(record: JobRecord) -> Iterator[str]:
    """Warnings on the input of one job."""
    for side, entry in _entries(record):
        share, n_unique, limit = entry.truncated_share, entry.unique_texts, _max_length(record)
        if share == 1 and n_unique >= _MIN_TEXTS and limit < UNLIMITED:
            yield f"Every text of the {side} side is longer than {limit} tokens: the model never saw one whole."
        elif share >= CUT_SHARE:
            where = "before they were sent" if limit >= UNLIMITED else f"at {limit} tokens"
            yield f"{share:.0%} of the {side} side's texts were cut {where}."
        elif share == 0 and entry.longest >= limit and n_unique >= _MIN_TEXTS:
            yield (
                f"Texts of the {side} side reach {limit} tokens and none was cut: "
                "the dataset may have been cut to this length before."
            )
        repeated = 1 - n_unique / entry.texts if entry.texts else 0.0
        if repeated >= DUPLICATE_SHARE and entry.texts >= _MIN_TEXTS and side != "text":
            yield f"{repeated:.0%} of the {side} side's {entry.texts:,} texts repeat another one."
        if side == "query" and entry.longest >= limit:
            yield f"The longest query has {entry.longest:,} tokens, the model reads {limit}."
    name = record.provenance.model.declared if record.provenance.model else ""
    if is_e5_name(name) and not any(entry.prefix for _, entry in _entries(record)):
        yield f"An E5 model without a prefix (protocol {record.protocol}); it was trained with 'query: ', 'passage: '."
    for what, count in record.counts.items():
        if count:
            yield f"Data: {what.replace('_', ' ')}: {count:,}."


def _disagreements(records: Sequence[JobRecord]) -> Iterator[str]:
    """Warnings on models that received different input for the same task."""
    for side in dict.fromkeys(side for record in records for side, _ in _entries(record)):
        limits: dict[int, list[str]] = {}
        cut = False
        for record in records:
            for name, entry in _entries(record):
                if name == side and record.audit is not None and record.audit.vectors is not None:
                    limits.setdefault(_max_length(record), []).append(record.label)
                    cut = cut or entry.truncated > 0
        if cut and len(limits) > 1:
            told = "; ".join(f"{limit}: {', '.join(labels)}" for limit, labels in sorted(limits.items()))
            yield f"Models read different lengths of the {side} side, and it matters here (tokens; {told})."
        sizes = {
            (entry.texts, entry.unique_texts) for record in records for name, entry in _entries(record) if name == side
        }
        if len(sizes) > 1:
            yield f"Models were given different numbers of texts on the {side} side: not the same data."
