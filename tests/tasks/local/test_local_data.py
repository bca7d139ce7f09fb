"""The reader of local data: layouts by hand, rules with the file and line each names, real folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from evaluation.errors import DataError, MissingExtraError
from evaluation.tasks.local.folders import (
    LocalData,
    RetrievalSplit,
    TableSplit,
    available_splits,
    read_local_data,
)

REPOSITORY = Path(__file__).resolve().parents[3]
REAL_DATA = Path(os.environ.get("E5_EVALUATION_DATA", REPOSITORY.parent / "shared" / "data"))

CORPUS = (
    '{"_id": "d1", "title": "Cats", "text": "They purr."}\n'
    '{"_id": "d2", "title": null, "text": "They bark."}\n'
    '{"_id": 3, "text": "They neigh."}\n'
)
QUERIES = '{"_id": "q1", "text": "purring"}\n{"_id": "q2", "text": "barking"}\n{"_id": "q3", "text": "none"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq2\td2\t2\nq1\td1\t1\nq1\t3\t0\n"
TOP_RANKED = '{"query-id": "q1", "corpus-ids": ["d2", 3, "d1"]}\n{"query-id": "q2", "corpus-ids": ["d2"]}\n'
INSTRUCTIONS = '{"query-id": "q1", "instruction": "Only cats."}\n{"query-id": "q2", "instruction": "Dogs."}\n'
BEIR = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
RERANKING = {**BEIR, "top_ranked/test.jsonl": TOP_RANKED}
INSTRUCTED = {**BEIR, "instructions.jsonl": INSTRUCTIONS}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_parquet(path: Path, columns: Mapping[str, list[Any]]) -> None:
    parquet.write_table(pyarrow.table(dict(columns)), path)


def problems(folder: Path, task_type: str, **options: Any) -> list[str]:
    """The problems found, each without the folder's own path in front."""
    with pytest.raises(DataError) as caught:
        read_local_data(folder, task_type, **options)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]


def retrieval(data: LocalData, split: str = "test", subset: str = "default") -> RetrievalSplit:
    found = data.subsets[subset][split]
    assert isinstance(found, RetrievalSplit)
    return found


def columns(data: LocalData, split: str = "test", subset: str = "default") -> dict[str, list[Any]]:
    found = data.subsets[subset][split]
    assert isinstance(found, TableSplit)
    return found.columns


# Retrieval: BEIR's layout.


def test_retrieval_folder_is_read_in_file_order(tmp_path: Path) -> None:
    data = read_local_data(write(tmp_path, BEIR), "Retrieval", splits=["test"])
    assert retrieval(data) == RetrievalSplit(
        corpus_ids=["d1", "d2", "3"],
        titles=["Cats", "", ""],
        texts=["They purr.", "They bark.", "They neigh."],
        query_ids=["q1", "q2"],
        query_texts=["purring", "barking"],
        qrels={"q1": {"d1": 1, "3": 0}, "q2": {"d2": 2}},
        top_ranked=None,
        instructions=None,
    )
    assert data.counts == {"queries without judgements": 1}


def test_reranking_takes_candidates_in_their_order(tmp_path: Path) -> None:
    data = read_local_data(write(tmp_path, RERANKING), "Reranking", splits=["test"])
    assert retrieval(data).top_ranked == {"q1": ["d2", "3", "d1"], "q2": ["d2"]}
    assert retrieval(data).instructions is None


def test_instruction_retrieval_takes_instructions_of_judged_queries(tmp_path: Path) -> None:
    extra = jsonl({"query-id": "q3", "instruction": "x"}, {"query-id": "q9", "instruction": " "})
    folder = write(tmp_path, {**INSTRUCTED, "instructions.jsonl": INSTRUCTIONS + extra})
    data = read_local_data(folder, "InstructionRetrieval", splits=["test"])
    assert retrieval(data).instructions == {"q1": "Only cats.", "q2": "Dogs."}
    assert retrieval(data).top_ranked is None
    assert data.counts == {
        "queries without judgements": 1,
        "instructions of unknown queries": 1,
        "blank texts": 1,
    }


def test_instruction_reranking_takes_both(tmp_path: Path) -> None:
    data = read_local_data(write(tmp_path, {**RERANKING, **INSTRUCTED}), "InstructionReranking")
    assert retrieval(data).top_ranked == {"q1": ["d2", "3", "d1"], "q2": ["d2"]}
    assert retrieval(data).instructions == {"q1": "Only cats.", "q2": "Dogs."}


def test_splits_share_one_corpus_and_each_holds_its_judged_queries(tmp_path: Path) -> None:
    folder = write(tmp_path, {**BEIR, "qrels/dev.tsv": "query-id\tcorpus-id\tscore\nq3\td1\t0\n"})
    data = read_local_data(folder, "Retrieval")
    assert list(data.subsets["default"]) == ["dev", "test"]
    assert retrieval(data, "dev").query_ids == ["q3"]  # judged, if only with a zero
    assert retrieval(data, "test").query_ids == ["q1", "q2"]
    assert retrieval(data, "dev").texts is retrieval(data, "test").texts
    assert data.counts == {}  # every query is judged somewhere
    assert available_splits(folder, "Retrieval") == ("dev", "test")


def test_judgements_of_unknown_documents_count_and_those_of_unknown_queries_do_not(tmp_path: Path) -> None:
    qrels = QRELS + "q1\tnone\t1\nq8\td1\t1\nq8\tnone\t1\nq3\tnone\t1\n"
    data = read_local_data(write(tmp_path, {**BEIR, "qrels/test.tsv": qrels}), "Retrieval")
    assert retrieval(data).qrels == {"q1": {"d1": 1, "3": 0, "none": 1}, "q2": {"d2": 2}, "q3": {"none": 1}}
    assert retrieval(data).query_ids == ["q1", "q2", "q3"]
    assert data.counts == {
        "judgements of unknown documents": 2,
        "judgements of unknown queries": 2,
        "queries whose judged documents are all unknown": 1,
    }


def test_negative_judgements_are_kept_and_counted(tmp_path: Path) -> None:
    qrels = QRELS + "q2\td1\t-1\nq1\td2\t-2\n"
    data = read_local_data(write(tmp_path, {**BEIR, "qrels/test.tsv": qrels}), "Retrieval")
    assert retrieval(data).qrels == {"q1": {"d1": 1, "3": 0, "d2": -2}, "q2": {"d2": 2, "d1": -1}}
    assert data.counts == {"queries without judgements": 1, "judgements below 0, which count as not relevant": 2}


def test_qrels_without_header_and_with_decimal_scores_are_accepted(tmp_path: Path) -> None:
    qrels = "\ufeffq1\td1\t1.0\r\n\r\nq1\td2\t0\r\nq1\td1\t1\r\n"
    data = read_local_data(write(tmp_path, {**BEIR, "qrels/test.tsv": qrels}), "Retrieval")
    assert retrieval(data).qrels == {"q1": {"d1": 1, "d2": 0}}
    assert data.counts == {"queries without judgements": 2, "duplicate judgements": 1}


def test_ids_may_differ_in_case_and_hold_slashes_and_quotes(tmp_path: Path) -> None:
    ids = ["a", "A", "a/../b", 'say "x"', "é", "-1"]
    files = {
        "corpus.jsonl": jsonl(*({"id": name, "text": "t"} for name in ids)),
        "queries.jsonl": jsonl({"id": "a/b", "text": "t"}),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"a/b\t{name}\t1\n" for name in ids),
    }
    data = read_local_data(write(tmp_path, files), "Retrieval")
    assert retrieval(data).corpus_ids == ids
    assert retrieval(data).qrels == {"a/b": dict.fromkeys(ids, 1)}


def test_corpus_may_be_parquet_and_queries_csv(tmp_path: Path) -> None:
    folder = write(tmp_path, {"queries.csv": '_id,text\n1,"two\nlines"\n02,b\n', "qrels/test.tsv": "1\t7\t1\n"})
    write_parquet(folder / "corpus.parquet", {"_id": [7, 8], "title": ["T", None], "text": ["x", "y"], "n": [0, 1]})
    split = retrieval(read_local_data(folder, "Retrieval"))
    assert (split.corpus_ids, split.titles, split.texts) == (["7", "8"], ["T", ""], ["x", "y"])
    assert (split.query_ids, split.query_texts) == (["1"], ["two\nlines"])


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


NO_ID = "every document needs _id and text"
RETRIEVAL_FAULTS: dict[str, tuple[str, str | bytes, str]] = {
    "missing id": (
        "corpus.jsonl",
        '{"text": "t"}\n' + CORPUS,
        f'corpus.jsonl, line 1: "_id" is missing; {NO_ID}.',
    ),
    "id nowhere": (
        "corpus.jsonl",
        '{"docid": 1, "text": "t"}\n{"docid": 2, "text": "t"}\n',
        f'corpus.jsonl, line 1: "_id" is missing, as in every row of the file; {NO_ID}.',
    ),
    "missing text": (
        "corpus.jsonl",
        CORPUS + '{"_id": 4}\n',
        f'corpus.jsonl, line 4: "text" is missing; {NO_ID}.',
    ),
    "null text": (
        "corpus.jsonl",
        CORPUS + '\n{"_id": 4, "text": null}\n',
        'corpus.jsonl, line 5: "text" is null; it must be a string.',
    ),
    "title": (
        "corpus.jsonl",
        CORPUS + '{"_id": 4, "title": 5, "text": "t"}\n',
        'corpus.jsonl, line 4: "title" is 5; it must be a string or null.',
    ),
    "id of another type": (
        "corpus.jsonl",
        CORPUS + '{"_id": 1.5, "text": "t"}\n',
        'corpus.jsonl, line 4: "_id" is 1.5; it must be a non-empty string or an integer.',
    ),
    "boolean id": (
        "queries.jsonl",
        QUERIES + '{"_id": true, "text": "t"}\n',
        'queries.jsonl, line 4: "_id" is true; it must be a non-empty string or an integer.',
    ),
    "empty id": (
        "queries.jsonl",
        QUERIES + '{"_id": "", "text": "t"}\n',
        'queries.jsonl, line 4: "_id" is ""; it must be a non-empty string or an integer.',
    ),
    "duplicate document": (
        "corpus.jsonl",
        CORPUS + '{"_id": "3", "text": "t"}\n',
        'corpus.jsonl, line 4: "_id" "3" already appears in line 3; ids must be unique.',
    ),
    "duplicate query": (
        "queries.jsonl",
        QUERIES + QUERIES.splitlines()[1],
        'queries.jsonl, line 4: "_id" "q2" already appears in line 2; ids must be unique.',
    ),
    "malformed": (
        "corpus.jsonl",
        CORPUS + '{"_id": 4 "text": "t"}\n',
        "corpus.jsonl, line 4: is not valid JSON: Expecting ',' delimiter at column 11.",
    ),
    "not an object": (
        "queries.jsonl",
        QUERIES + '["q4"]\n',
        'queries.jsonl, line 4: is ["q4"]; a line must be a JSON object, and every query needs _id and text.',
    ),
    "not UTF-8": (
        "queries.jsonl",
        QUERIES.encode() + b'{"_id": "q4", "text": "caf\xe9"}\n',
        "queries.jsonl, line 4: byte 0xe9 is not UTF-8; save the file as UTF-8.",
    ),
    "empty corpus": (
        "corpus.jsonl",
        "\n \n",
        f"corpus.jsonl: is empty; at least one row is needed, and {NO_ID}.",
    ),
    "fraction": (
        "qrels/test.tsv",
        QRELS + "q1\td2\t0.5\n",
        'qrels/test.tsv, line 5: the score is "0.5"; it must be a whole number.',
    ),
    "no number": (
        "qrels/test.tsv",
        QRELS + "q1\td2\tnan\n",
        'qrels/test.tsv, line 5: the score is "nan"; it must be a whole number.',
    ),
    "fields": (
        "qrels/test.tsv",
        QRELS + "q1 d2 1\n",
        "qrels/test.tsv, line 5: has 1 field; a line is query-id, corpus-id, score with tabs between.",
    ),
    "empty field": (
        "qrels/test.tsv",
        QRELS + "q1\t\t1\n",
        "qrels/test.tsv, line 5: has an empty id; a line is query-id, corpus-id, score with tabs between.",
    ),
    "two scores": (
        "qrels/test.tsv",
        QRELS + "q2\td2\t1\n",
        'qrels/test.tsv, line 5: the score of query "q2" and document "d2" is 1, but 2 in line 2; keep one.',
    ),
    "header": (
        "qrels/test.tsv",
        "qid\tdocid\trel\nq1\td1\t1\n",
        'qrels/test.tsv, line 1: is "qid\\tdocid\\trel"; it must be query-id, corpus-id, score, or a '
        "judgement, separated by tabs (or TREC's four columns: query 0 document score).",
    ),
    "a line of TREC's layout": (
        "qrels/test.tsv",
        "q1 0 d1 1\nq2 0 d2\n",
        "qrels/test.tsv, line 2: has 3 fields; a line is query, 0, document, score.",
    ),
    "a score of TREC's layout": (
        "qrels/test.tsv",
        "q1 0 d1 1\nq2 0 d2 x\n",
        'qrels/test.tsv, line 2: the score is "x"; it must be a whole number.',
    ),
    "only a header": (
        "qrels/test.tsv",
        "query-id\tcorpus-id\tscore\n",
        "qrels/test.tsv: no judged query: the file has no judgements.",
    ),
    "nothing known": (
        "qrels/test.tsv",
        "q7\td1\t1\nq1\td7\t1\n",
        "qrels/test.tsv: no judged query: no line names both a query of queries.jsonl and a document of "
        "corpus.jsonl; are the ids written alike?",
    ),
    "qrels not UTF-8": (
        "qrels/test.tsv",
        QRELS.encode() + b"q\xff\td1\t1\n",
        "qrels/test.tsv, line 5: byte 0xff is not UTF-8; save the file as UTF-8.",
    ),
}


@pytest.mark.parametrize("fault", RETRIEVAL_FAULTS)
def test_retrieval_fault_names_file_and_line(tmp_path: Path, fault: str) -> None:
    name, content, expected = RETRIEVAL_FAULTS[fault]
    assert problems(write(tmp_path, {**BEIR, name: content}), "Retrieval", splits=["test"]) == [expected]


NEEDS_CANDIDATES = 'query "q2" has no candidates in top_ranked/test.jsonl.'
RERANKING_FAULTS = {
    "unknown document": (
        _replaced(TOP_RANKED, '"d1"', '"d9"'),
        'top_ranked/test.jsonl, line 1: document "d9" is not in corpus.jsonl.',
    ),
    "twice in a list": (
        _replaced(TOP_RANKED, '["d2"]', '["d2", 3, "3"]'),
        'top_ranked/test.jsonl, line 2: document "3" is listed twice.',
    ),
    "no list": (TOP_RANKED.splitlines()[0], f"qrels/test.tsv, line 2: {NEEDS_CANDIDATES}"),
    "empty list": (_replaced(TOP_RANKED, '["d2"]', "[]"), f"qrels/test.tsv, line 2: {NEEDS_CANDIDATES}"),
    "not a list": (
        _replaced(TOP_RANKED, '["d2"]', '"d2"'),
        'top_ranked/test.jsonl, line 2: "corpus-ids" is "d2"; it must be a list of document ids (strings or integers).',
    ),
    "no id": (
        _replaced(TOP_RANKED, '["d2"]', '["d2", null]'),
        'top_ranked/test.jsonl, line 2: "corpus-ids" is ["d2", null]; it must be a list of document ids '
        "(strings or integers).",
    ),
    "two lists": (
        TOP_RANKED + TOP_RANKED.splitlines()[0],
        'top_ranked/test.jsonl, line 3: "query-id" "q1" already appears in line 1; ids must be unique.',
    ),
}


@pytest.mark.parametrize("fault", RERANKING_FAULTS)
def test_reranking_fault_names_file_and_line(tmp_path: Path, fault: str) -> None:
    content, expected = RERANKING_FAULTS[fault]
    folder = write(tmp_path, {**BEIR, "top_ranked/test.jsonl": content})
    assert problems(folder, "Reranking", splits=["test"]) == [expected]


def test_candidates_of_a_query_without_judgements_are_counted(tmp_path: Path) -> None:
    extra = jsonl({"query-id": "q3", "corpus-ids": ["d1"]})
    folder = write(tmp_path, {**BEIR, "top_ranked/test.jsonl": TOP_RANKED + extra})
    data = read_local_data(folder, "Reranking")
    assert retrieval(data).top_ranked == {"q1": ["d2", "3", "d1"], "q2": ["d2"]}
    assert data.counts["candidate lists of queries without judgements"] == 1


def test_reranking_needs_its_candidates_file(tmp_path: Path) -> None:
    missing = "top_ranked: there is no such folder, so test.jsonl (or .parquet) is missing"
    there = f"{tmp_path} holds corpus.jsonl, qrels/, queries.jsonl"
    assert problems(write(tmp_path, BEIR), "Reranking") == [f"{missing}; {there}."]


def test_instruction_types_need_their_files(tmp_path: Path) -> None:
    write(tmp_path, BEIR)
    missing = "instructions.jsonl (or .parquet) is missing; the folder holds corpus.jsonl, qrels/, queries.jsonl."
    assert problems(tmp_path, "InstructionRetrieval") == [f"{tmp_path}: {missing}"]
    assert len(problems(tmp_path, "InstructionReranking")) == 2


def test_every_judged_query_needs_an_instruction(tmp_path: Path) -> None:
    write(tmp_path, {**INSTRUCTED, "instructions.jsonl": INSTRUCTIONS.splitlines()[0]})
    expected = 'qrels/test.tsv, line 2: query "q2" has no instruction in instructions.jsonl.'
    assert problems(tmp_path, "InstructionRetrieval") == [expected]


def test_missing_retrieval_files_are_all_named_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"corpus.jsonl.zst": b"", "qrels/dev.tsv": QRELS})
    there = "is missing; the folder holds corpus.jsonl.zst, qrels/; to use corpus.jsonl.zst, decompress it."
    assert problems(tmp_path, "Retrieval", splits=["test"]) == [
        f"{tmp_path}: corpus.jsonl (or .csv, .parquet, .tsv) {there}",
        f"{tmp_path}: queries.jsonl (or .csv, .parquet, .tsv) {there}",
        "qrels: test.tsv is missing; the folder holds dev.tsv.",
    ]


def test_retrieval_without_any_qrels_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES})
    layout = "has no split (corpus.jsonl, queries.jsonl, qrels/<split>.tsv)"
    assert problems(tmp_path, "Retrieval") == [f"{tmp_path}: {layout}; the folder holds corpus.jsonl, queries.jsonl."]


# All other types: one file a split.

TABLES: dict[str, tuple[dict[str, list[Any]], dict[str, list[Any]] | None]] = {
    "Classification": ({"text": ["a", "b"], "label": [3, 0]}, None),
    "MultilabelClassification": ({"text": ["a", "b"], "label": [["x", "y"], []]}, None),
    "Regression": ({"text": ["a", "b"], "value": [1, -0.5]}, {"text": ["a", "b"], "value": [1.0, -0.5]}),
    "Clustering": ({"text": ["a", "b"], "label": ["x", "y"]}, None),
    "PairClassification": (
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [True, False]},
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0]},
    ),
    "STS": (
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [0, 4.5]},
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [0.0, 4.5]},
    ),
    "Summarization": (
        {
            "text": ["long", "longer"],
            "human_summaries": [["h"], ["h", "i"]],
            "machine_summaries": [["m", "n"], ["o"]],
            "relevance": [[1.0, 2.5], [0.0]],
        },
        None,
    ),
    "BitextMining": ({"sentence1": ["en", "two"], "sentence2": ["et", "to"]}, None),
}
SENTENCE_SETS = {"sentences": [["a", "b"], ["c"]], "labels": [["x", "y"], ["x"]]}
LEVELS = {"text": ["a", "b"], "label": [["x", "x1"], ["y", "y2"]]}


def rows_of(table: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def csv_of(table: Mapping[str, list[Any]]) -> str:
    def cell(value: object) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [",".join(table), *(",".join(map(cell, row.values())) for row in rows_of(table))]
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("task_type", TABLES)
def test_table_is_read_alike_from_every_format(tmp_path: Path, task_type: str) -> None:
    written, expected = TABLES[task_type]
    write(tmp_path, {"a/test.jsonl": jsonl(*({**row, "other": 1} for row in rows_of(written)))})
    write(tmp_path, {"b/test.csv": csv_of(written)})
    (tmp_path / "c").mkdir()
    write_parquet(tmp_path / "c" / "test.parquet", {**written, "other": [1, 2]})
    data = read_local_data(tmp_path, task_type, splits=["test"])
    assert list(data.subsets) == ["a", "b", "c"]
    for subset in data.subsets:
        assert columns(data, subset=subset) == (expected or written)
    assert data.counts == {}


@pytest.mark.parametrize("table", [SENTENCE_SETS, LEVELS])
def test_clustering_takes_levels_and_sets_of_sentences(tmp_path: Path, table: dict[str, list[Any]]) -> None:
    write(tmp_path, {"a/test.jsonl": jsonl(*rows_of(table)), "b/test.csv": csv_of(table)})
    data = read_local_data(tmp_path, "Clustering")
    assert columns(data, subset="a") == columns(data, subset="b") == table


def test_csv_labels_are_integers_where_all_cells_are(tmp_path: Path) -> None:
    files = {
        "ints/test.csv": "text,label\na,-1\nb,12\n",
        "zeros/test.csv": "text,label\na,007\nb,1\n",
        "words/test.csv": "label,text\nyes,a\n1,b\n",
    }
    data = read_local_data(write(tmp_path, files), "Classification")
    assert columns(data, subset="ints")["label"] == [-1, 12]
    assert columns(data, subset="zeros")["label"] == ["007", "1"]
    assert columns(data, subset="words") == {"text": ["a", "b"], "label": ["yes", "1"]}


def test_csv_flags_and_long_cells(tmp_path: Path) -> None:
    text = "x" * 300_000  # more than the csv module's limit of 131,072 characters a cell
    cells = f"sentence1,sentence2,label\n{text},b,0\na,b,TRUE\na,b,false\na,b,1\n"
    data = read_local_data(write(tmp_path, {"test.csv": cells}), "PairClassification")
    assert columns(data)["label"] == [0, 1, 0, 1]
    assert columns(data)["sentence1"][0] == text


CLASSES = "every row needs text and label"
PAIR = {"sentence1": "a", "sentence2": "b"}
SUMMARY = {"text": "t", "human_summaries": ["h"], "machine_summaries": ["m", "n"], "relevance": [1, 2]}
GOOD = {"text": "t", "label": "x"}
ONE_LABEL = "it must be a non-empty string or an integer."
LABEL_LIST = "it must be a list of labels (strings or integers)"
TABLE_FAULTS: dict[str, tuple[str, str, str]] = {
    "text missing": ("Classification", jsonl(GOOD, {"label": "y"}), f'line 2: "text" is missing; {CLASSES}.'),
    "text a number": (
        "Classification",
        jsonl({**GOOD, "text": 5}),
        'line 1: "text" is 5; it must be a string.',
    ),
    "label null": (
        "Classification",
        jsonl(GOOD, {**GOOD, "label": None}),
        f'line 2: "label" is null; {ONE_LABEL}',
    ),
    "label true": ("Classification", jsonl({**GOOD, "label": True}), f'line 1: "label" is true; {ONE_LABEL}'),
    "label float": ("Classification", jsonl({**GOOD, "label": 1.0}), f'line 1: "label" is 1.0; {ONE_LABEL}'),
    "label list": (
        "Classification",
        jsonl({**GOOD, "label": ["x"]}),
        f'line 1: "label" is ["x"]; {ONE_LABEL}',
    ),
    "label empty": ("Classification", jsonl({**GOOD, "label": ""}), f'line 1: "label" is ""; {ONE_LABEL}'),
    "two kinds": (
        "Classification",
        jsonl(GOOD, GOOD) + "\n" + jsonl({**GOOD, "label": 1}),
        'line 4: "label" is the integer 1, but in line 1 it is the string "x"; use one kind in the whole file.',
    ),
    "two kinds in lists": (
        "MultilabelClassification",
        jsonl({**GOOD, "label": []}, {**GOOD, "label": [1]}, {**GOOD, "label": [2, "1"]}),
        'line 3: "label" is the string "1", but in line 2 it is the integer 1; use one kind in the whole file.',
    ),
    "no list": ("MultilabelClassification", jsonl(GOOD), f'line 1: "label" is "x"; {LABEL_LIST}.'),
    "value a string": (
        "Regression",
        jsonl({"text": "t", "value": "1"}),
        'line 1: "value" is "1"; it must be a finite number.',
    ),
    "value infinite": (
        "Regression",
        '{"text": "t", "value": 1e999}\n',
        'line 1: "value" is Infinity; it must be a finite number.',
    ),
    "score NaN": (
        "STS",
        jsonl({**PAIR, "score": float("nan")}),
        'line 1: "score" is NaN; it must be a finite number.',
    ),
    "score true": (
        "STS",
        jsonl({**PAIR, "score": True}),
        'line 1: "score" is true; it must be a finite number.',
    ),
    "score missing": (
        "STS",
        jsonl(PAIR, PAIR),
        'line 1: "score" is missing, as in every row of the file; every row needs sentence1, sentence2 and score.',
    ),
    "sentence2 missing": (
        "BitextMining",
        jsonl({"sentence1": "a"}),
        'line 1: "sentence2" is missing; every row needs sentence1 and sentence2.',
    ),
    "flag 2": (
        "PairClassification",
        jsonl({**PAIR, "label": 1}, {**PAIR, "label": 2}),
        'line 2: "label" is 2; it must be 0 or 1, or false or true.',
    ),
    "flag a string": (
        "PairClassification",
        jsonl({**PAIR, "label": "1"}),
        'line 1: "label" is "1"; it must be 0 or 1, or false or true.',
    ),
    "label and levels": (
        "Clustering",
        jsonl({"text": "a", "label": ["x"]}, {"text": "a", "label": "x"}),
        f'line 2: "label" is "x"; {LABEL_LIST}.',
    ),
    "no level": (
        "Clustering",
        jsonl({"text": "a", "label": []}),
        f'line 1: "label" is []; {LABEL_LIST}.',
    ),
    "half a set": (
        "Clustering",
        jsonl({"sentences": ["a"], "label": ["x"]}),
        'line 1: "text" is missing; every row needs text and label, or sentences and labels.',
    ),
    "unequal set": (
        "Clustering",
        jsonl({"sentences": ["a"], "labels": ["x"]}, {"sentences": ["a", "b"], "labels": ["x"]}),
        'line 2: "sentences" has 2 items and "labels" 1; they must have the same length.',
    ),
    "unequal relevance": (
        "Summarization",
        jsonl(SUMMARY, {**SUMMARY, "relevance": [1]}),
        'line 2: "machine_summaries" has 2 items and "relevance" 1; they must have the same length.',
    ),
    "relevance NaN": (
        "Summarization",
        jsonl({**SUMMARY, "relevance": [1, float("nan")]}),
        'line 1: "relevance" is [1, NaN]; it must be a list of finite numbers.',
    ),
    "no human summary": (
        "Summarization",
        jsonl({**SUMMARY, "human_summaries": []}),
        'line 1: "human_summaries" is []; it must be a list of at least one string.',
    ),
    "long value is cut short": (
        "Classification",
        jsonl({**GOOD, "text": list(range(99))}),
        'line 1: "text" is [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...; it must be a string.',
    ),
    "nested too deeply": (
        "Classification",
        "[" * 100_000 + "\n",
        "line 1: is not valid JSON: it is nested too deeply.",
    ),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_table_fault_names_file_and_line(tmp_path: Path, fault: str) -> None:
    task_type, content, expected = TABLE_FAULTS[fault]
    assert problems(write(tmp_path, {"test.jsonl": content}), task_type) == [f"test.jsonl, {expected}"]


CSV_FAULTS: dict[str, tuple[str, str, str]] = {
    "no column": (
        "Classification",
        "text,Label\na,1\n",
        f'test.csv, line 1: there is no column "label" among ["text", "Label"]; {CLASSES}.',
    ),
    "cells": (
        "Classification",
        'text,label\n"a\nb",1\n\na,b,1\n',
        "test.csv, line 5: has 3 cells; the header has 2.",
    ),
    "open quote": (
        "Classification",
        'text,label\na,1\n"b,1\n',
        "test.csv, line 3: is not valid CSV: unexpected end of data.",
    ),
    "column twice": (
        "Classification",
        "text,label,text\na,1,b\n",
        'test.csv, line 1: the column "text" appears 2 times.',
    ),
    "record of several lines": (
        "STS",
        'sentence1,sentence2,score\n"a\nb",c,1\n"a\nb",c,x\n',
        'test.csv, line 4: "score" is "x"; it must be a finite number.',
    ),
    "NaN": (
        "STS",
        "sentence1,sentence2,score\na,b,nan\n",
        'test.csv, line 2: "score" is "nan"; it must be a finite number.',
    ),
    "list": (
        "MultilabelClassification",
        'text,label\na,"[""x""]"\nb,x\n',
        f'test.csv, line 3: "label" is "x"; {LABEL_LIST}, written as JSON.',
    ),
    "empty label": ("Classification", "text,label\na,\n", f'test.csv, line 2: "label" is ""; {ONE_LABEL}'),
    "only a header": (
        "BitextMining",
        "sentence1,sentence2\n",
        "test.csv: is empty; at least one row is needed, and every row needs sentence1 and sentence2.",
    ),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_csv_fault_names_file_and_line(tmp_path: Path, fault: str) -> None:
    task_type, content, expected = CSV_FAULTS[fault]
    assert problems(write(tmp_path, {"test.csv": content}), task_type) == [expected]


def test_csv_not_in_utf8_names_the_line(tmp_path: Path) -> None:
    write(tmp_path, {"test.csv": b"text,label\nb,1\ncaf\xe9,1\n"})
    expected = "test.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8."
    assert problems(tmp_path, "Classification")[0] == expected


def test_parquet_faults_name_the_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", {"text": ["a", None], "label": [1, 2]})
    assert problems(tmp_path, "Classification") == ['test.parquet, row 2: "text" is null; it must be a string.']
    write_parquet(tmp_path / "test.parquet", {"text": ["a"], "y": [1]})
    expected = f'test.parquet: there is no column "label" among ["text", "y"]; {CLASSES}.'
    assert problems(tmp_path, "Classification") == [expected]
    write(tmp_path, {"test.parquet": "not parquet"})
    (found,) = problems(tmp_path, "Classification")
    assert found.startswith("test.parquet: is not a readable Parquet file: ")


def test_parquet_without_pyarrow_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "test.parquet", {"text": ["a"], "label": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install pyarrow"):
        read_local_data(tmp_path, "Classification")


def test_empty_split_is_refused(tmp_path: Path) -> None:
    expected = "test.jsonl: is empty; at least one row is needed, and every row needs sentence1 and sentence2."
    assert problems(write(tmp_path, {"test.jsonl": "\n"}), "BitextMining") == [expected]


def test_two_formats_of_one_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl(GOOD), "test.csv": "text,label\na,b\n"})
    expected = f"{tmp_path}: holds test.jsonl and test.csv; keep only one of them."
    assert problems(tmp_path, "Classification") == [expected]


def test_two_formats_of_the_corpus_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {**BEIR, "corpus.csv": "_id,text\n1,a\n"})
    expected = f"{tmp_path}: holds corpus.jsonl and corpus.csv; keep only one of them."
    assert problems(tmp_path, "Retrieval") == [expected]


def test_clustering_with_both_layouts_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl({**GOOD, "sentences": ["a"], "labels": ["x"]})})
    expected = "test.jsonl: has both text and label, and sentences and labels; keep only one of the pairs."
    assert problems(tmp_path, "Clustering") == [expected]


def test_labels_of_training_and_test_split_must_be_of_one_kind(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl(GOOD), "train.jsonl": jsonl({**GOOD, "label": 1})})
    expected = "train.jsonl: the labels are integers, but strings in test.jsonl; use one kind."
    assert problems(tmp_path, "Classification", splits=["test"]) == [expected]


# What holds for every file.


def test_byte_order_mark_line_ends_and_blank_lines_are_taken(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + '{"sentence1": "å\u2028b", "sentence2": "a\\u0000b"}\r\n\r\n  \n'.encode()
    data = read_local_data(write(tmp_path, {"test.jsonl": content}), "BitextMining")
    assert columns(data) == {"sentence1": ["å\u2028b"], "sentence2": ["a\0b"]}
    assert data.counts == {}


def test_last_line_needs_no_line_end(tmp_path: Path) -> None:
    data = read_local_data(write(tmp_path, {"test.jsonl": jsonl(GOOD, GOOD).rstrip("\n")}), "Classification")
    assert columns(data)["text"] == ["t", "t"]


def test_lone_surrogates_are_replaced_and_counted(tmp_path: Path) -> None:
    lines = '{"text": "\\ud83d\\ude00 \\ud800 \\uDC00", "label": "x", "other": "\\ud800"}\n'
    data = read_local_data(write(tmp_path, {"test.jsonl": lines}), "Classification")
    assert columns(data)["text"] == ["\U0001f600 \ufffd \ufffd"]
    assert data.counts == {"lone surrogates replaced": 2}


def test_blank_texts_are_kept_and_counted(tmp_path: Path) -> None:
    rows = jsonl({"sentence1": "", "sentence2": " \n"}, {"sentence1": "a", "sentence2": "b"})
    data = read_local_data(write(tmp_path, {"test.jsonl": rows}), "BitextMining")
    assert columns(data) == {"sentence1": ["", "a"], "sentence2": [" \n", "b"]}
    assert data.counts == {"blank texts": 2}


def test_all_problems_are_found_at_once_and_capped_at_twenty(tmp_path: Path) -> None:
    bad = [{"text": number, "label": "x"} for number in range(23)]
    write(tmp_path, {"test.jsonl": jsonl(*bad), "train.jsonl": "{}\n"})
    found = problems(tmp_path, "Classification", splits=["test"])
    assert found[19] == 'test.jsonl, line 20: "text" is 19; it must be a string.'
    assert found[20:] == ["and 5 more"]


def test_problems_of_several_files_and_subsets_come_together(tmp_path: Path) -> None:
    write(tmp_path, {"en/test.jsonl": jsonl({**GOOD, "text": 1}, {**GOOD, "label": 1}), "fr/test.jsonl": "{"})
    places = [problem.split(":")[0] for problem in problems(tmp_path, "Classification")]
    assert places == ["en/test.jsonl, line 1", "en/test.jsonl, line 2", "fr/test.jsonl, line 1"]


# Folders, splits and subsets.


def test_training_split_is_read_beside_the_scored_one(tmp_path: Path) -> None:
    write(tmp_path, {f"{split}.jsonl": jsonl(GOOD) for split in ("test", "train", "validation", "learn")})

    def read(task_type: str, **options: Any) -> list[str]:
        return list(read_local_data(tmp_path, task_type, **options).subsets["default"])

    assert read("Classification", splits=["test"]) == ["test", "train"]
    assert read("Classification", splits=["test"], needs_train="learn") == ["test", "learn"]
    assert read("Classification", splits=["train"]) == ["train"]
    assert read("Classification", splits=["test"], needs_train="absent") == ["test"]
    assert read("Clustering", splits=["test"]) == ["test"]
    assert read("Classification") == ["learn", "test", "train", "validation"]
    assert available_splits(tmp_path, "Classification") == ("learn", "test", "train", "validation")


def test_subsets_are_subfolders_with_data(tmp_path: Path) -> None:
    files = {f"{name}/test.jsonl": jsonl({**GOOD, "text": name}) for name in ("en", "de", ".git")}
    write(tmp_path, {**files, "de/train.jsonl": jsonl(GOOD), "notes/a.txt": "", "README.md": ""})
    data = read_local_data(tmp_path, "Clustering")
    assert {name: list(splits) for name, splits in data.subsets.items()} == {
        "de": ["test", "train"],
        "en": ["test"],
    }
    chosen = read_local_data(tmp_path, "Clustering", subsets=["en"])
    assert columns(chosen, subset="en") == {"text": ["en"], "label": ["x"]}
    assert list(chosen.subsets) == ["en"]
    assert available_splits(tmp_path, "Clustering") == ("test", "train")


def test_retrieval_subsets_have_a_corpus_each(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/{file}": content for name in ("en", "de") for file, content in BEIR.items()})
    data = read_local_data(tmp_path, "Retrieval")
    assert list(data.subsets) == ["de", "en"]
    assert retrieval(data, subset="de") == retrieval(data, subset="en")
    assert data.counts == {"queries without judgements": 2}


def test_own_data_files_make_the_default_subset(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl(GOOD), "en/test.jsonl": jsonl(GOOD)})
    assert list(read_local_data(tmp_path, "Clustering").subsets) == ["default"]
    expected = f'{tmp_path}: has no subset "en" (it has only "default", because its data files are not in subfolders).'
    assert problems(tmp_path, "Clustering", subsets=["en"]) == [expected]


def test_unknown_subset_and_split_are_named_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"eng/test.jsonl": jsonl(GOOD), "fra/test.jsonl": jsonl(GOOD)})
    expected = f"{tmp_path}: has no subset \"enn\"; nearest: 'eng' (it has eng, fra)."
    assert problems(tmp_path, "Clustering", subsets=["enn"]) == [expected]
    expected = "eng: dev.jsonl (or .csv, .parquet) is missing; the folder holds test.jsonl."
    assert problems(tmp_path, "Clustering", subsets=["eng"], splits=["dev"]) == [expected]


def test_missing_and_empty_folders_say_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"data/notes.txt": ""})
    expected = f"{tmp_path}/date: there is no such folder; {tmp_path} holds data/."
    assert problems(tmp_path / "date", "STS") == [expected]
    file = tmp_path / "data" / "notes.txt"
    assert problems(file, "STS") == [f"{file}: is not a folder; {file.parent} holds notes.txt."]
    convert = "to use notes.txt, write it as CSV with a header, or as one JSON object per line (.jsonl)"
    layout = "no data of type STS (<split>.jsonl, <split>.csv, <split>.parquet), here or in subfolders"
    assert problems(tmp_path / "data", "STS") == [f"{tmp_path}/data: {layout}; the folder holds notes.txt; {convert}."]
    with pytest.raises(DataError, match="there is no such folder"):
        available_splits(tmp_path / "date", "STS")


def test_unknown_type_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "retrieval")
    assert "\"retrieval\" is not a task type of local data; nearest: 'Retrieval' (allowed: Retrieval, Rer" in found


@pytest.mark.parametrize("name", ["../secret", "a/b", "a\\b", "..", "", ".hidden", "a\0b"])
@pytest.mark.parametrize("kind", ["splits", "subsets", "needs_train"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    write(tmp_path, {"data/test.jsonl": jsonl(GOOD), "secret.jsonl": jsonl(GOOD)})
    options = {kind: name if kind == "needs_train" else [name]}
    first = problems(tmp_path / "data", "Classification", **options)[0]
    assert f"{json.dumps(name)} can't be the name of a {'subset' if kind == 'subsets' else 'split'};" in first


def test_asking_for_no_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl(GOOD)})
    expected = f"{tmp_path}: no split is named; name at least one, or leave the key out."
    assert problems(tmp_path, "Clustering", splits=[]) == [expected]


def test_links_out_of_the_folder_are_refused_and_those_inside_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"test.jsonl": jsonl(GOOD)})
    folder = write(tmp_path / "data", {"train.jsonl": jsonl(GOOD)})
    (folder / "dev.jsonl").symlink_to("train.jsonl")
    assert list(read_local_data(folder, "Clustering").subsets["default"]) == ["dev", "train"]
    (folder / "test.jsonl").symlink_to("../outside/test.jsonl")
    found = f"is a symbolic link out of the folder (to {outside}/test.jsonl); copy the data into it, or set "
    found += "data_root: in the config to a folder that holds both."
    assert problems(folder, "Clustering") == [f"test.jsonl: {found}"]
    (folder / "test.jsonl").unlink()
    (folder / "test.jsonl").symlink_to("test.jsonl")
    assert problems(folder, "Clustering")[0].startswith("test.jsonl: ")


def test_linked_subfolders_and_linked_root(tmp_path: Path) -> None:
    write(tmp_path / "outside", {"test.jsonl": jsonl(GOOD)})
    folder = write(tmp_path / "data", {"en/test.jsonl": jsonl(GOOD)})
    (tmp_path / "alias").symlink_to(folder)
    assert list(read_local_data(tmp_path / "alias", "Clustering").subsets) == ["en"]
    (folder / "fr").symlink_to(tmp_path / "outside")
    (found,) = problems(folder, "Clustering")
    assert found.startswith("fr: is a symbolic link out of the folder (to ")


def test_a_name_too_long_for_the_file_system_is_a_data_error(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": jsonl(GOOD)})
    (found,) = problems(tmp_path, "Clustering", splits=["x" * 300])
    assert found.endswith("xxx.jsonl (or .csv, .parquet) is missing; the folder holds test.jsonl.")
    assert problems(tmp_path / ("x" * 300), "Clustering")[0].endswith(": can't be read: File name too long.")


# Identity.


def test_content_hash_follows_bytes_and_names_only(tmp_path: Path) -> None:
    def digest(folder: Path, **options: Any) -> str:
        return read_local_data(folder, "Retrieval", **options).content_hash

    first = write(tmp_path / "first", BEIR)
    before = digest(first)
    assert len(before) == 40
    assert set(before) <= set("0123456789abcdef")
    write(first, {"README.md": "beside", "qrels/notes.txt": "beside", "extra.bin": b"\0"})
    os.utime(first / "corpus.jsonl", (1, 1))
    second = write(tmp_path / "second", dict(reversed(BEIR.items())))
    assert digest(first) == digest(second) == digest(first, splits=["test"]) == before
    write(second, {"corpus.jsonl": CORPUS.replace("purr", "Purr")})
    assert digest(second) != before
    write(first, {"qrels/dev.tsv": QRELS})
    assert digest(first, splits=["test"]) == before  # only files that are read count
    assert digest(first, splits=["dev"]) != before  # the same bytes under another name
    assert digest(first, splits=["dev", "test"]) == digest(first, splits=["test", "dev"])


def test_reading_imports_no_heavy_package(tmp_path: Path) -> None:
    write(tmp_path, BEIR)
    code = (
        "import sys; from pathlib import Path; from evaluation.tasks.local.folders import read_local_data; "
        f"read_local_data(Path({str(tmp_path)!r}), 'Retrieval'); "
        "sys.exit(sorted({'torch', 'mteb', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# The real folders.

REAL: dict[str, tuple[str, dict[str, int | tuple[int, int, int]]]] = {
    "SciFact": ("Retrieval", {"default/test": (5183, 300, 339), "default/train": (5183, 809, 919)}),
    "MBPPRetrieval": ("Retrieval", {"default/test": (974, 974, 974)}),
    "Cranfield": ("Retrieval", {"default/test": (1400, 225, 1837)}),
    "Banking77Classification": ("Classification", {"default/test": 3080, "default/train": 10003}),
    "AmazonCounterfactualClassification": (
        "Classification",
        {"en/test": 670, "en/train": 4018, "en/validation": 335},
    ),
    "FinancialPhrasebankClassification": ("Classification", {"default/train": 2264}),
    "STSBenchmark": ("STS", {"default/test": 1379, "default/train": 5749, "default/validation": 1500}),
    "STS12": ("STS", {"default/test": 3108}),
    "SICK-R": ("STS", {"default/test": 9927}),
    "TwitterURLCorpus": ("PairClassification", {"default/test": 51524}),
    "BornholmBitextMining": ("BitextMining", {"default/test": 500}),
    "SIB200ClusteringS2S": ("Clustering", {"eng_Latn/test": 1004}),
    "SummEvalSummarization.v2": ("Summarization", {"default/test": 100}),
}


def real_folder(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set E5_EVALUATION_DATA to the folder of real data")
    return folder


@pytest.mark.parametrize("name", REAL)
def test_real_folder_has_its_documented_rows(name: str) -> None:
    task_type, expected = REAL[name]
    found: dict[str, int | tuple[int, int, int]] = {}
    for subset, splits in read_local_data(real_folder(name), task_type).subsets.items():
        for split, data in splits.items():
            if isinstance(data, RetrievalSplit):
                judgements = sum(map(len, data.qrels.values()))
                found[f"{subset}/{split}"] = (len(data.corpus_ids), len(data.query_ids), judgements)
                assert len(data.corpus_ids) == len(data.titles) == len(data.texts)
                assert len(data.query_ids) == len(data.query_texts) == len(data.qrels)
            else:
                (found[f"{subset}/{split}"],) = {len(column) for column in data.columns.values()}
    assert found == expected


def test_real_scifact_counts_the_queries_of_other_splits() -> None:
    data = read_local_data(real_folder("SciFact"), "Retrieval", splits=["test"])
    assert data.counts == {"queries without judgements": 809}
    assert retrieval(data).query_ids[:3] == ["1", "3", "5"]
    assert retrieval(data).qrels["36"] == {"5152028": 1, "11705328": 1}


def test_real_summeval_keeps_its_summaries() -> None:
    table = columns(read_local_data(real_folder("SummEvalSummarization.v2"), "Summarization"))
    assert {len(summaries) for summaries in table["human_summaries"]} == {11}
    assert {len(summaries) for summaries in table["machine_summaries"]} == {16}
    assert table["relevance"][0][:2] == [5 / 3, 8 / 3]


def _read_jsonl_by_hand(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


COLUMNS_BY_HAND: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
    "Banking77Classification/train": lambda row: (row["text"], row["label"]),
    "TwitterURLCorpus/test": lambda row: (row["sentence1"], row["sentence2"], row["label"]),
    "STS12/test": lambda row: (row["sentence1"], row["sentence2"], row["score"]),
}


@pytest.mark.parametrize("name", COLUMNS_BY_HAND)
def test_real_columns_equal_a_plain_parse_in_file_order(name: str) -> None:
    folder, _, split = name.partition("/")
    path = real_folder(folder) / f"{split}.jsonl"
    table = columns(read_local_data(path.parent, REAL[folder][0], splits=[split]), split)
    by_hand = [COLUMNS_BY_HAND[name](row) for row in _read_jsonl_by_hand(path)]
    assert list(zip(*table.values(), strict=True)) == by_hand
