"""The queries on which two models differ most, with what each model found. Reads stored rankings, texts, judgements.

Knows no statistics beyond a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.analysis.statistics.units import Units
from evaluation.records.job_record import JobRecord
from evaluation.records.parquet_tables import stored_file
from evaluation.records.store import RunStore

PASSAGES, RELEVANT = 3, 2
QUERY_CHARACTERS, PASSAGE_CHARACTERS = 400, 300

Place = tuple[str, str, str]
"""Split, subset, id."""


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """One model's per-query scores of one task, in points.

    Attributes:
        label: The model's label in the comparison.
        folder: The job's folder, which holds its ranking, judgements and texts.
    """

    label: str
    record: JobRecord
    folder: Path
    scores: Mapping[Place, float]

    @property
    def task(self) -> str:
        """The task's name."""
        return self.record.task

    @property
    def metric(self) -> str:
        """mteb's name of the main metric."""
        return self.record.metric


@dataclass(frozen=True, slots=True)
class Passage:
    """A document in a ranking.

    Attributes:
        rank: From 1; None below the stored depth.
        relevance: The judgement; None if there is none.
    """

    id: str
    rank: int | None
    relevance: int | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One query with the results of two models; scores in points."""

    query_id: str
    query: str
    first_score: float
    second_score: float
    first_top: tuple[Passage, ...]
    second_top: tuple[Passage, ...]
    relevant: tuple[tuple[Passage, Passage], ...]

    @property
    def delta(self) -> float:
        """The first score minus the second."""
        return self.first_score - self.second_score


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models compared on one task.

    Attributes:
        wins: The queries on which the first model is furthest ahead.
        losses: Those on which the second is.
        judged: Whether judgements are stored.
        missing: Why there is no text to show; empty if there is one.
    """

    task: str
    metric: str
    first: str
    second: str
    n_first: int
    n_second: int
    n_even: int
    wins: tuple[Case, ...]
    losses: tuple[Case, ...]
    judged: bool = True
    missing: str = ""


def scored_task(run: Path, label: str, record: JobRecord, units: Units | None) -> ScoredTask | None:
    """Per-query scores of a stored job; None where its task has no queries or nothing is stored."""
    folder = RunStore(run).job_folder(record.label, record.task, record.fingerprint)
    if units is None or units.kind != "query":
        return None
    scores: dict[Place, float] = {}
    for part in units.parts:
        values = part.arrays.get("value")
        if values is None or values.ndim != 1:
            return None
        scores |= {
            (part.split, part.subset, id_): 100 * float(value) for id_, value in zip(part.ids, values, strict=True)
        }
    return ScoredTask(label, record, folder, scores)


def duel(first: ScoredTask, second: ScoredTask, *, n_queries: int = 3) -> Duel:
    """Counts wins, and reads the texts of the queries on which the two models differ most.

    Args:
        n_queries: Number of queries to show for each model.
    """
    shared = [place for place in first.scores if place in second.scores]
    deltas = {place: first.scores[place] - second.scores[place] for place in shared}
    ordered = sorted(shared, key=lambda place: (-deltas[place], place))
    wins = [place for place in ordered[:n_queries] if deltas[place] > 0]
    losses = [place for place in ordered[::-1][:n_queries] if deltas[place] < 0]
    texts = _texts(first) | _texts(second)
    missing = "" if texts else "No texts are stored for this task (runtime.store_texts: false)."
    shown = _Shown(first, second, texts, {*wins, *losses}) if texts else None
    return Duel(
        task=first.task,
        metric=first.metric,
        first=first.label,
        second=second.label,
        n_first=sum(delta > 0 for delta in deltas.values()),
        n_second=sum(delta < 0 for delta in deltas.values()),
        n_even=sum(delta == 0 for delta in deltas.values()),
        wins=tuple(shown.case(place) for place in wins if ("query", *place) in texts) if shown else (),
        losses=tuple(shown.case(place) for place in losses if ("query", *place) in texts) if shown else (),
        judged=shown is not None and shown.judged,
        missing=missing,
    )


class _Ranked(NamedTuple):
    """The documents of one query by rank, and their ranks."""

    documents: list[str]
    ranks: dict[str, int]


class _Shown:
    """The stored rankings and judgements of the queries that are shown."""

    def __init__(
        self, first: ScoredTask, second: ScoredTask, texts: Mapping[tuple[str, str, str, str], str], places: set[Place]
    ) -> None:
        self._first, self._second, self._texts = first, second, texts
        self._first_run, self._second_run = _rankings(first, places), _rankings(second, places)
        self._grades = _grades(first, places) or _grades(second, places)

    @property
    def judged(self) -> bool:
        """Whether judgements are stored."""
        return bool(self._grades)

    def case(self, place: Place) -> Case:
        """Returns a query with all that is stored about it."""
        one, two = self._first_run.get(place, _Ranked([], {})), self._second_run.get(place, _Ranked([], {}))
        relevant = sorted((-grade, document) for document, grade in self._grades.get(place, {}).items() if grade > 0)
        return Case(
            query_id=place[2],
            query=shorten(self._texts["query", *place], QUERY_CHARACTERS),
            first_score=self._first.scores[place],
            second_score=self._second.scores[place],
            first_top=tuple(self._passage(place, document, one) for document in one.documents[:PASSAGES]),
            second_top=tuple(self._passage(place, document, two) for document in two.documents[:PASSAGES]),
            relevant=tuple(
                (self._passage(place, document, one), self._passage(place, document, two))
                for _, document in relevant[:RELEVANT]
            ),
        )

    def _passage(self, place: Place, document: str, ranked: _Ranked) -> Passage:
        text = self._texts.get(("document", place[0], place[1], document))
        return Passage(
            id=document,
            rank=ranked.ranks.get(document),
            relevance=self._grades.get(place, {}).get(document),
            text=None if text is None else shorten(text, PASSAGE_CHARACTERS),
        )


def shorten(text: str, characters: int) -> str:
    """Returns the beginning of a text, with an ellipsis if the rest is left out."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def query_texts(scored: ScoredTask) -> dict[Place, str]:
    """Returns the stored texts of a job's queries; empty if none are stored."""
    return {
        (split, subset, id_): text for (kind, split, subset, id_), text in _texts(scored).items() if kind == "query"
    }


def _texts(scored: ScoredTask) -> dict[tuple[str, str, str, str], str]:
    rows = _columns(scored, "texts.parquet", ("kind", "split", "subset", "id", "text"))
    return {(kind, split, subset, id_): text for kind, split, subset, id_, text in rows}


def _rankings(scored: ScoredTask, places: set[Place]) -> dict[Place, _Ranked]:
    found: dict[Place, _Ranked] = {}
    for split, subset, query, document, rank in _columns(
        scored, "run.parquet", ("split", "subset", "query_id", "corpus_id", "rank"), places
    ):
        ranked = found.setdefault((split, subset, query), _Ranked([], {}))
        ranked.documents.append(document)
        ranked.ranks[document] = rank
    return found


def _grades(scored: ScoredTask, places: set[Place]) -> dict[Place, dict[str, int]]:
    found: dict[Place, dict[str, int]] = {}
    for split, subset, query, document, grade in _columns(
        scored, "qrels.parquet", ("split", "subset", "query_id", "corpus_id", "relevance"), places
    ):
        found.setdefault((split, subset, query), {})[document] = grade
    return found


def _columns(
    scored: ScoredTask, name: str, names: Sequence[str], places: set[Place] | None = None
) -> list[tuple[Any, ...]]:
    """Returns the rows of a stored table, reduced to some queries if given; none if there is no such file.

    Raises:
        DamagedFileError: The file is not what was written.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = stored_file(scored.folder, scored.record, name)
    if file is None:
        return []
    table = pq.read_table(file, columns=list(names))
    if places is not None:
        table = table.filter(pc.is_in(table["query_id"], value_set=_strings(sorted({place[2] for place in places}))))
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _strings(values: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())
