"""Reads a folder in BEIR's layout: corpus, queries, judgements, and for reranking each query's candidates.

Knows nothing of other layouts, of mteb or torch. BEIR's layout: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from evaluation.tasks.local.files import MISSING, REFUSED, Rows, as_id, read_rows
from evaluation.tasks.local.layouts import FORMATS, DataPath, Table, find_table, list_tables
from evaluation.tasks.local.notes import Notes, show
from evaluation.tasks.local.qrels import Judgements, qrels_folder, read_qrels
from evaluation.tasks.types import INSTRUCTION_TYPES, RERANKING_TYPES

RECORD_FORMATS: Final = (*FORMATS, ".tsv")
_LIST_FORMATS: Final = (".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class RetrievalSplit:
    """One split. Its corpus lists are shared with the subset's other splits and must not be changed.

    Attributes:
        corpus_ids, titles, texts: Id, title ("" where it has none) and text of each document, in file order.
        query_ids, query_texts: The queries judged in this split, in file order.
        qrels: Query id -> document id -> score; a key for each of query_ids. Documents may be unknown: they count as
            not found, as in trec_eval.
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
    path: DataPath

    def known(self, named: Iterable[str]) -> set[str]:
        """Returns those of some ids that documents have; a set of all ids would take more room than short texts."""
        return set(named).intersection(self.ids)


class _Queries(NamedTuple):
    texts: dict[str, str]  # by id, file order
    path: DataPath


def read_retrieval(notes: Notes, folder: DataPath, task_type: str, splits: Sequence[str]) -> dict[str, RetrievalSplit]:
    """Reads the splits of one subset; returns nothing after a problem, which `notes` then has."""
    before = notes.total
    corpus, queries = _read_corpus(notes, folder), _read_queries(notes, folder)
    instructions = _read_instructions(notes, folder) if task_type in INSTRUCTION_TYPES else None
    judged = {split: read_qrels(notes, qrels_folder(folder), split) for split in splits}
    candidates: dict[str, dict[str, list[str]]] = {}
    if task_type in RERANKING_TYPES:
        candidates = {split: _read_top_ranked(notes, folder / "top_ranked", split, corpus) for split in splits}
    if notes.total > before or corpus is None or queries is None:
        return {}
    read: dict[str, RetrievalSplit] = {}
    for split, judgements in judged.items():
        qrels = _of_known_queries(notes, judgements, corpus, queries)
        query_ids = [query_id for query_id in queries.texts if query_id in qrels]
        top_ranked = chosen = None
        if task_type in RERANKING_TYPES:
            top_ranked = {query_id: candidates[split].get(query_id, []) for query_id in query_ids}
            without = [query_id for query_id in query_ids if not top_ranked[query_id]]
            _refuse_queries(notes, judgements, without, f"candidates in top_ranked/{split}.jsonl")
            unused = len(candidates[split].keys() - qrels.keys())
            notes.counts["candidate lists of queries without judgements"] += unused
        if instructions is not None:
            chosen = {query_id: instructions.get(query_id, "") for query_id in query_ids}
            without = [query_id for query_id in query_ids if query_id not in instructions]
            _refuse_queries(notes, judgements, without, "instruction in instructions.jsonl")
        texts = [queries.texts[query_id] for query_id in query_ids]
        documents = (corpus.ids, corpus.titles, corpus.texts)
        read[split] = RetrievalSplit(*documents, query_ids, texts, qrels, top_ranked, chosen)
    somewhere = {query_id for judgements in judged.values() for query_id in judgements}
    notes.counts["queries without judgements"] += len(queries.texts.keys() - somewhere)
    notes.counts["instructions of unknown queries"] += len((instructions or {}).keys() - queries.texts.keys())
    return read if notes.total == before else {}


def find_records(notes: Notes, folder: DataPath, name: str) -> Table | None:
    """Returns the files of corpus or queries: in the folder itself, or the only table in a folder of that name."""
    inner = list_tables(folder / name, RECORD_FORMATS)
    if inner and name not in list_tables(folder, RECORD_FORMATS):
        if len(inner) > 1:
            splits = ", ".join(inner)
            notes.problem(
                folder / name, f"holds several tables ({splits}); keep one, or make a subset folder of each split."
            )
            return None
        return find_table(notes, folder / name, next(iter(inner)), RECORD_FORMATS)
    return find_table(notes, folder, name, RECORD_FORMATS)


def _read_corpus(notes: Notes, folder: DataPath) -> _Corpus | None:
    files = find_records(notes, folder, "corpus")
    if files is None:
        return None
    before = notes.total
    rows, id_column = _read_records(notes, files, "every document needs _id and text", optional=["title"])
    ids, texts = rows.ids(id_column), rows.texts("text")
    titles = [""] * len(ids)
    if "title" in rows.columns:
        rows.columns["title"] = [None if value is MISSING else value for value in rows.columns["title"]]
        titles = rows.convert("title", "a string or null", _as_title)
    return _Corpus(ids, titles, texts, rows.path) if notes.total == before else None


def _read_queries(notes: Notes, folder: DataPath) -> _Queries | None:
    files = find_records(notes, folder, "queries")
    if files is None:
        return None
    before = notes.total
    rows, id_column = _read_records(notes, files, "every query needs _id and text")
    ids, texts = rows.ids(id_column), rows.texts("text")
    return _Queries(dict(zip(ids, texts, strict=True)), rows.path) if notes.total == before else None


def _read_records(notes: Notes, files: Table, needs: str, *, optional: Sequence[str] = ()) -> tuple[Rows, str]:
    """Reads a table's rows; returns them and which of the two names of the id column it uses."""
    rows = read_rows(notes, files, ["_id", "id", "text", *optional], needs)
    return rows, "id" if "id" in rows.columns and "_id" not in rows.columns else "_id"


def _as_title(value: Any) -> Any:  # returns a string or REFUSED
    return "" if value is None else value if isinstance(value, str) else REFUSED


def _of_known_queries(
    notes: Notes, judgements: Judgements, corpus: _Corpus, queries: _Queries
) -> dict[str, dict[str, int]]:
    """Returns the judgements of known queries; counts the others, and those of unknown documents, which stay."""
    qrels: dict[str, dict[str, int]] = {}
    found = False
    known = corpus.known(document_id for documents in judgements.values() for document_id in documents)
    for query_id, documents in judgements.items():
        if query_id not in queries.texts:
            notes.counts["judgements of unknown queries"] += len(documents)
            continue
        n_unknown = sum(document_id not in known for document_id in documents)
        found = found or n_unknown < len(documents)
        notes.counts["judgements of unknown documents"] += n_unknown
        notes.counts["queries whose judged documents are all unknown"] += n_unknown == len(documents)
        qrels[query_id] = {document_id: judged.score for document_id, judged in documents.items()}
    if judgements and not found:
        names = f"a query of {queries.path.name} and a document of {corpus.path.name}"
        path = next(iter(next(iter(judgements.values())).values())).path
        notes.problem(path, f"no judged query: no line names both {names}; are the ids written alike?")
    return qrels


def _read_top_ranked(notes: Notes, folder: DataPath, split: str, corpus: _Corpus | None) -> dict[str, list[str]]:
    """Returns query id -> candidates; a repeated document or one that is not in the corpus is a problem."""
    files = find_table(notes, folder, split, _LIST_FORMATS)
    if files is None:
        return {}
    rows = read_rows(notes, files, ["query-id", "corpus-ids"], "every line needs query-id and corpus-ids")
    query_ids = rows.ids("query-id")
    lists = rows.convert("corpus-ids", "a list of document ids (strings or integers)", _as_ids)
    named = (document_id for own in lists if own is not REFUSED for document_id in own)
    known = corpus.known(named) if corpus is not None else set()
    for at, candidates in enumerate(lists):
        if candidates is REFUSED:
            continue
        seen: set[str] = set()
        for document_id in candidates:
            if document_id in seen:
                notes.problem(rows.place(at), f"document {show(document_id)} is listed twice.")
            elif corpus is not None and document_id not in known:
                notes.problem(rows.place(at), f"document {show(document_id)} is not in {corpus.path.name}.")
            seen.add(document_id)
    return dict(zip(query_ids, lists, strict=True))


def _as_ids(value: Any) -> Any:
    if not isinstance(value, list):
        return REFUSED
    ids = [as_id(item) for item in value]
    return REFUSED if any(item is REFUSED for item in ids) else ids


def _read_instructions(notes: Notes, folder: DataPath) -> dict[str, str]:
    """Returns query id -> instruction."""
    files = find_table(notes, folder, "instructions", _LIST_FORMATS)
    if files is None:
        return {}
    rows = read_rows(notes, files, ["query-id", "instruction"], "every line needs query-id and instruction")
    return dict(zip(rows.ids("query-id"), rows.texts("instruction"), strict=True))


def _refuse_queries(notes: Notes, judgements: Judgements, query_ids: Sequence[str], lacking: str) -> None:
    """Notes a problem for each query, at the line that first judges it."""
    for query_id in query_ids:
        place = next(iter(judgements[query_id].values())).place
        notes.problem(place, f"query {show(query_id)} has no {lacking}.")
