"""Reads a folder in BEIR's layout: corpus, queries, judgements, and for reranking the candidates of each query.

Knows nothing of other layouts, of mteb or torch. BEIR's layout: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from evaluation.tasks.local.files import MISSING, REFUSED, Rows, as_id, find_file, read_rows
from evaluation.tasks.local.notes import Notes, show
from evaluation.tasks.types import INSTRUCTION_TYPES, RERANKING_TYPES

_QRELS_HEADER: Final = ["query-id", "corpus-id", "score"]
_WHOLE_NUMBER: Final = re.compile(r"(-?[0-9]{1,9})(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class RetrievalSplit:
    """One split. Its corpus lists are shared with the subset's other splits and must not be changed.

    Attributes:
        corpus_ids, titles, texts: Id, title ("" where it has none) and text of each document, in file order.
        query_ids, query_texts: The queries judged in this split, in file order.
        qrels: Query id -> document id -> score, of known documents only; a key for each of query_ids.
        top_ranked: Of reranking types: query id -> document ids of its candidates, in file order.
        instructions: Of instruction types: query id -> instruction.
    """

    corpus_ids: list[str]
    titles: list[str]
    texts: list[str]
    query_ids: list[str]
    query_texts: list[str]
    qrels: dict[str, dict[str, int]]
    top_ranked: dict[str, list[str]] | None
    instructions: dict[str, str] | None


class _Corpus(NamedTuple):
    ids: list[str]
    titles: list[str]
    texts: list[str]
    known: frozenset[str]
    path: Path


class _Queries(NamedTuple):
    texts: dict[str, str]  # by id, file order
    path: Path


class _Judgement(NamedTuple):
    line: int
    score: int


def read_retrieval(notes: Notes, folder: Path, task_type: str, splits: Sequence[str]) -> dict[str, RetrievalSplit]:
    """Reads the splits of one subset; returns nothing after a problem, which `notes` then has."""
    before = notes.total
    corpus, queries = _read_corpus(notes, folder), _read_queries(notes, folder)
    instructions = _read_instructions(notes, folder) if task_type in INSTRUCTION_TYPES else None
    judged = {split: _read_qrels(notes, folder / "qrels", split) for split in splits}
    candidates: dict[str, dict[str, list[str]]] = {}
    if task_type in RERANKING_TYPES:
        candidates = {split: _read_top_ranked(notes, folder / "top_ranked", split, corpus) for split in splits}
    if notes.total > before or corpus is None or queries is None:
        return {}
    read: dict[str, RetrievalSplit] = {}
    for split, judgements in judged.items():
        qrels_path = folder / "qrels" / f"{split}.tsv"
        qrels = _drop_unknown(notes, qrels_path, judgements, corpus, queries)
        query_ids = [query_id for query_id in queries.texts if query_id in qrels]
        top_ranked = chosen = None
        if task_type in RERANKING_TYPES:
            top_ranked = {query_id: candidates[split].get(query_id, []) for query_id in query_ids}
            without = [query_id for query_id in query_ids if not top_ranked[query_id]]
            _refuse_queries(notes, qrels_path, judgements, without, f"candidates in top_ranked/{split}.jsonl")
            unused = len(candidates[split].keys() - qrels.keys())
            notes.counts["candidate lists of queries without judgements"] += unused
        if instructions is not None:
            chosen = {query_id: instructions.get(query_id, "") for query_id in query_ids}
            without = [query_id for query_id in query_ids if query_id not in instructions]
            _refuse_queries(notes, qrels_path, judgements, without, "instruction in instructions.jsonl")
        texts = [queries.texts[query_id] for query_id in query_ids]
        documents = (corpus.ids, corpus.titles, corpus.texts)
        read[split] = RetrievalSplit(*documents, query_ids, texts, qrels, top_ranked, chosen)
    somewhere = {query_id for judgements in judged.values() for query_id in judgements}
    notes.counts["queries without judgements"] += len(queries.texts.keys() - somewhere)
    notes.counts["instructions of unknown queries"] += len((instructions or {}).keys() - queries.texts.keys())
    return read if notes.total == before else {}


def _read_corpus(notes: Notes, folder: Path) -> _Corpus | None:
    path = find_file(notes, folder, "corpus")
    if path is None:
        return None
    before = notes.total
    rows, id_column = _read_records(notes, path, "every document needs _id and text", optional=["title"])
    ids, texts = rows.ids(id_column), rows.texts("text")
    titles = [""] * len(ids)
    if "title" in rows.columns:
        rows.columns["title"] = [None if value is MISSING else value for value in rows.columns["title"]]
        titles = rows.convert("title", "a string or null", _as_title)
    return _Corpus(ids, titles, texts, frozenset(ids), path) if notes.total == before else None


def _read_queries(notes: Notes, folder: Path) -> _Queries | None:
    path = find_file(notes, folder, "queries")
    if path is None:
        return None
    before = notes.total
    rows, id_column = _read_records(notes, path, "every query needs _id and text")
    ids, texts = rows.ids(id_column), rows.texts("text")
    return _Queries(dict(zip(ids, texts, strict=True)), path) if notes.total == before else None


def _read_records(notes: Notes, path: Path, needs: str, *, optional: Sequence[str] = ()) -> tuple[Rows, str]:
    """Reads a file's rows; returns them and which of the two names of the id column it uses."""
    rows = read_rows(notes, path, ["_id", "id", "text", *optional], needs)
    return rows, "id" if "id" in rows.columns and "_id" not in rows.columns else "_id"


def _as_title(value: Any) -> Any:  # returns a string or REFUSED
    return "" if value is None else value if isinstance(value, str) else REFUSED


def _read_qrels(notes: Notes, folder: Path, split: str) -> dict[str, dict[str, _Judgement]]:
    """Returns query id -> document id -> judgement, as in the file."""
    judgements: dict[str, dict[str, _Judgement]] = {}
    path = find_file(notes, folder, split, (".tsv",))
    if path is None:
        return judgements
    before = notes.total
    is_first = True
    for number, line in notes.text_lines(path):
        fields = line.split("\t")
        if is_first:
            is_first = False
            if [field.strip() for field in fields] == _QRELS_HEADER:
                continue
            if len(fields) != 3 or not _WHOLE_NUMBER.fullmatch(fields[2]):
                must = "query-id, corpus-id, score, or a judgement, separated by tabs"
                notes.problem(f"{path}, line {number}", f"is {show(line)}; it must be {must}.")
                if len(fields) == 3:
                    continue
                break  # another layout: every further line would say the same
        _add_judgement(notes, path, number, fields, judgements)
    if not judgements and notes.total == before:
        notes.problem(path, "no judged query: the file has no judgements.")
    return judgements


def _add_judgement(
    notes: Notes, path: Path, number: int, fields: list[str], judgements: dict[str, dict[str, _Judgement]]
) -> None:
    place = f"{path}, line {number}"
    if len(fields) != 3 or not fields[0] or not fields[1]:
        got = "an empty id" if len(fields) == 3 else "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        notes.problem(place, f"has {got}; a line is query-id, corpus-id, score with tabs between.")
        return
    query_id, document_id, score = fields
    match = _WHOLE_NUMBER.fullmatch(score.strip())
    if match is None or int(match[1]) < 0:
        notes.problem(place, f"the score is {show(score)}; it must be a whole number, 0 or more.")
        return
    judgement = _Judgement(number, int(match[1]))
    before = judgements.setdefault(query_id, {}).setdefault(document_id, judgement)
    if before.score != judgement.score:
        pair = f"query {show(query_id)} and document {show(document_id)}"
        notes.problem(
            place,
            f"the score of {pair} is {judgement.score}, but {before.score} in line {before.line}; keep one.",
        )
    elif before is not judgement:
        notes.counts["duplicate judgements"] += 1


def _drop_unknown(
    notes: Notes,
    path: Path,
    judgements: Mapping[str, Mapping[str, _Judgement]],
    corpus: _Corpus,
    queries: _Queries,
) -> dict[str, dict[str, int]]:
    """Returns the judgements of known queries and documents, and counts the others."""
    qrels: dict[str, dict[str, int]] = {}
    for query_id, documents in judgements.items():
        if query_id not in queries.texts:
            notes.counts["judgements of unknown queries"] += len(documents)
            continue
        kept = {doc_id: judged.score for doc_id, judged in documents.items() if doc_id in corpus.known}
        notes.counts["judgements of unknown documents"] += len(documents) - len(kept)
        if kept:
            qrels[query_id] = kept
        else:
            notes.counts["queries dropped because all their judged documents are unknown"] += 1
    if not qrels:
        names = f"a query of {queries.path.name} and a document of {corpus.path.name}"
        notes.problem(path, f"no judged query: no line names both {names}; are the ids written alike?")
    return qrels


def _read_top_ranked(notes: Notes, folder: Path, split: str, corpus: _Corpus | None) -> dict[str, list[str]]:
    """Returns query id -> candidates; a repeated document or one that is not in the corpus is a problem."""
    path = find_file(notes, folder, split, (".jsonl",))
    if path is None:
        return {}
    rows = read_rows(notes, path, ["query-id", "corpus-ids"], "every line needs query-id and corpus-ids")
    query_ids = rows.ids("query-id")
    lists = rows.convert("corpus-ids", "a list of document ids (strings or integers)", _as_ids)
    for at, candidates in enumerate(lists):
        if candidates is REFUSED:
            continue
        seen: set[str] = set()
        for document_id in candidates:
            if document_id in seen:
                notes.problem(rows.place(at), f"document {show(document_id)} is listed twice.")
            elif corpus is not None and document_id not in corpus.known:
                notes.problem(rows.place(at), f"document {show(document_id)} is not in {corpus.path.name}.")
            seen.add(document_id)
    return dict(zip(query_ids, lists, strict=True))


def _as_ids(value: Any) -> Any:
    if not isinstance(value, list):
        return REFUSED
    ids = [as_id(item) for item in value]
    return REFUSED if any(item is REFUSED for item in ids) else ids


def _read_instructions(notes: Notes, folder: Path) -> dict[str, str]:
    """Returns query id -> instruction."""
    path = find_file(notes, folder, "instructions", (".jsonl",))
    if path is None:
        return {}
    rows = read_rows(notes, path, ["query-id", "instruction"], "every line needs query-id and instruction")
    return dict(zip(rows.ids("query-id"), rows.texts("instruction"), strict=True))


def _refuse_queries(
    notes: Notes,
    path: Path,
    judgements: Mapping[str, Mapping[str, _Judgement]],
    query_ids: Sequence[str],
    lacking: str,
) -> None:
    """Notes a problem for each query, at the line that first judges it."""
    for query_id in query_ids:
        line = next(iter(judgements[query_id].values())).line
        notes.problem(f"{path}, line {line}", f"query {show(query_id)} has no {lacking}.")
