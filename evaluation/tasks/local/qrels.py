"""Reads judgements in the layouts of BEIR (query, document, score with tabs), TREC (four columns) and the Hub (tables).

Knows nothing of corpus and queries. TREC's layout: https://trec.nist.gov/data/qrels_eng/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from evaluation.tasks.local.files import REFUSED, as_id, read_rows
from evaluation.tasks.local.layouts import (
    DataPath,
    Table,
    find_table,
    format_of,
    has_all_shards,
    list_folder,
    list_tables,
    remedy,
)
from evaluation.tasks.local.notes import Notes, show

QRELS_FOLDERS: Final = ("qrels", "default", "data")  # BEIR's name, and those of the Hub's configs
_LINES: Final = (".tsv", ".qrels", ".trec")
QRELS_FORMATS: Final = (*_LINES, ".jsonl", ".parquet", ".csv")
_HEADER: Final = ["query-id", "corpus-id", "score"]
_WHOLE_NUMBER: Final = re.compile(r"(-?[0-9]{1,9})(?:\.0*)?")
_MUST_BE: Final = "a whole number"


class Judgement(NamedTuple):
    """A score and where it is written: the line of a text file, or the row of a table."""

    path: DataPath
    line: int
    score: int

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.path}, {'line' if format_of(self.path) not in {'.parquet', '.arrow'} else 'row'} {self.line}"


Judgements: TypeAlias = dict[str, dict[str, Judgement]]
"""Query id -> document id -> judgement, in file order."""


def qrels_folder(folder: DataPath) -> DataPath:
    """Returns the folder with the judgements of a subset; the first candidate where there is none."""
    return next((folder / name for name in QRELS_FOLDERS if (folder / name).is_dir()), folder / QRELS_FOLDERS[0])


def read_qrels(notes: Notes, folder: DataPath, split: str) -> Judgements:
    """Reads the judgements of one split; two formats of one split must agree."""
    found = list_tables(folder, QRELS_FORMATS).get(split, [])
    if not found:
        find_table(notes, folder, split, (".tsv",))  # says what is missing
        return {}
    before = notes.total
    first, *others = (_read_table(notes, files) for files in found)
    for files, other in zip(found[1:], others, strict=True):
        if notes.total == before and _scores(first) != _scores(other):
            names = f"{found[0][0].name} and {files[0].name}"
            notes.problem(folder, f"holds {names}, whose judgements differ; keep only one of them.")
    if not first and notes.total == before:
        notes.problem(found[0][0], "no judged query: the file has no judgements.")
    return first


def no_split(notes: Notes, folder: DataPath, expected: str) -> None:
    """Notes that a subset has no judgements of any split."""
    where = next((folder / name for name in QRELS_FOLDERS if (folder / name).is_dir()), folder)
    texts = [entry.name for entry in where.iterdir() if entry.name.endswith(".txt")] if where != folder else []
    what_to_do = f"; rename {texts[0]} to end in .tsv" if texts else remedy(where, QRELS_FORMATS)
    notes.problem(where, f"has no split ({expected}); the folder {list_folder(where)}{what_to_do}.")


def _scores(judgements: Judgements) -> dict[str, dict[str, int]]:
    return {query: {doc: judged.score for doc, judged in documents.items()} for query, documents in judgements.items()}


def _read_table(notes: Notes, files: Table) -> Judgements:
    judgements: Judgements = {}
    if not has_all_shards(notes, files):
        return judgements
    rows: Iterator[tuple[str, str, Judgement]]
    if format_of(files[0]) in _LINES:
        rows = (row for path in files for row in _read_lines(notes, path))
    else:
        rows = _read_columns(notes, files)
    for query_id, document_id, judgement in rows:
        before = judgements.setdefault(query_id, {}).setdefault(document_id, judgement)
        if before.score != judgement.score:
            pair = f"query {show(query_id)} and document {show(document_id)}"
            earlier = before.place.removeprefix(f"{judgement.path}, ")
            scores = f"is {judgement.score}, but {before.score} in {earlier}"
            notes.problem(judgement.place, f"the score of {pair} {scores}; keep one.")
        elif before is not judgement:
            notes.counts["duplicate judgements"] += 1
        elif judgement.score < 0:
            notes.counts["judgements below 0, which count as not relevant"] += 1
    return judgements


def _read_lines(notes: Notes, path: DataPath) -> Iterator[tuple[str, str, Judgement]]:
    """Yields a text file's judgements; its first line decides whether it has BEIR's three columns or TREC's four."""
    is_trec = None
    for number, line in notes.text_lines(path):
        fields, place = line.split("\t"), f"{path}, line {number}"
        if is_trec is None:
            if [field.strip() for field in fields] == _HEADER:
                is_trec = False
                continue
            trec = line.split()
            is_trec = len(fields) != 3 and len(trec) == 4 and _WHOLE_NUMBER.fullmatch(trec[3]) is not None
            if not is_trec and (len(fields) != 3 or not _WHOLE_NUMBER.fullmatch(fields[2])):
                must = "query-id, corpus-id, score, or a judgement, separated by tabs"
                notes.problem(
                    place, f"is {show(line)}; it must be {must} (or TREC's four columns: query 0 document score)."
                )
                if len(fields) == 3:
                    continue
                return  # another layout: every further line would say the same
        parsed = _parsed(notes, place, line.split() if is_trec else fields, n_fields=4 if is_trec else 3)
        if parsed is not None:
            query_id, document_id, score = parsed
            yield query_id, document_id, Judgement(path, number, score)


def _parsed(notes: Notes, place: str, fields: list[str], *, n_fields: int) -> tuple[str, str, int] | None:
    """Returns query, document and score of a line; None after a problem."""
    if len(fields) != n_fields or not fields[0] or not fields[-2]:
        n_found = len(fields)
        got = "an empty id" if n_found == n_fields else "1 field" if n_found == 1 else f"{n_found} fields"
        columns = "query-id, corpus-id, score with tabs between" if n_fields == 3 else "query, 0, document, score"
        notes.problem(place, f"has {got}; a line is {columns}.")
        return None
    match = _WHOLE_NUMBER.fullmatch(fields[-1].strip())
    if match is None:
        notes.problem(place, f"the score is {show(fields[-1])}; it must be {_MUST_BE}.")
        return None
    return fields[0], fields[-2], int(match[1])


def _read_columns(notes: Notes, files: Table) -> Iterator[tuple[str, str, Judgement]]:
    rows = read_rows(notes, files, _HEADER, "every judgement needs query-id, corpus-id and score")
    ids = [rows.convert(name, "a non-empty string or an integer", as_id) for name in _HEADER[:2]]
    scores = rows.convert("score", _MUST_BE, _as_score)
    for at, (query_id, document_id, score) in enumerate(zip(*ids, scores, strict=True)):
        if REFUSED not in (query_id, document_id, score):
            yield query_id, document_id, Judgement(rows.file_of(at), rows.numbers[at], score)


def _as_score(value: Any) -> Any:
    """Returns a whole number, or REFUSED."""
    if isinstance(value, str):
        match = _WHOLE_NUMBER.fullmatch(value.strip())
        return int(match[1]) if match else REFUSED
    if isinstance(value, bool) or not isinstance(value, int | float):
        return REFUSED
    return int(value) if abs(value) < 1e9 and value == int(value) else REFUSED
