"""Hostile texts and data, each with its defined outcome: a score that an independent computation gives too, an error
record with a sentence, or a refusal with file and line. Never a traceback, never a wrong score."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from support.data import text

from evaluation import load_config, run
from evaluation.encoding.pooling import l2_normalize
from evaluation.errors import ConfigError, EvaluationError
from evaluation.records.job_record import JobRecord

Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Hostile:
    """One input and its outcome.

    Attributes:
        score: Computes the main score independently; None: there must be no score.
        says: Parts of the error's sentence, or of the refusal's where `refused`.
        counts: What the record must have counted.
    """

    id: str
    type: str
    files: Files
    score: Callable[[Any], float] | None = None
    says: tuple[str, ...] = ()
    refused: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def vectors(encoder: Any, texts: Sequence[str], prefix: str = "query: ") -> Any:
    return l2_normalize(encoder.encode(list(texts), prefix=prefix).vectors).astype(np.float64)


# --- texts, in STS

GOLD = [0.0, 4.0, 1.0, 3.0, 2.0, 5.0]


def sts(id_: str, hostile: str, *, as_read: str | None = None, **counts: int) -> Hostile:
    """One of six pairs holds the hostile text; `as_read` is what the loader makes of it."""
    first = [hostile, *(text(n) for n in range(1, 6))]
    second = [text(n + 40) for n in range(6)]
    rows = [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in zip(first, second, GOLD, strict=True)]
    read = [hostile if as_read is None else as_read, *first[1:]]

    def score(encoder: Any) -> float:
        cosines = (vectors(encoder, read) * vectors(encoder, second)).sum(axis=1)
        return float(spearmanr(GOLD, cosines).statistic)

    noticed = {name.replace("_", " "): count for name, count in counts.items()}
    return Hostile(id_, "STS", {"test.jsonl": jsonl(*rows)}, score, counts=noticed)


TEXTS = [
    sts("empty text", "", blank_texts=1),
    sts("blank text", " \t\n\r ", blank_texts=1),
    sts("one character a million times", "a" * 1_000_000),
    sts("a million characters of words", "river stone " * 83_334),
    sts("lone high surrogate", "a \ud83d b", as_read="a \ufffd b", lone_surrogates_replaced=1),
    sts("lone low surrogates", "\udc00\udc01", as_read="\ufffd\ufffd", lone_surrogates_replaced=2),
    sts("surrogate pair", "a \U0001f600 b"),
    sts("NUL", "a\x00b \x00"),
    sts("emoji joined and coloured", "👩\u200d👩\u200d👧\u200d👦 👍🏽 🏳️\u200d🌈"),
    sts("right to left", "שלום עולם مرحبا بالعالم"),
    sts("override of direction", "abc \u202e dcba \u2066 x"),
    sts("escape sequences", "\x1b[2J\x1b]0;title\x07 red"),
    sts("console markup", "[bold red]x[/] [link=file:///etc/passwd]y[/link]"),
    sts("Markdown table", "| a | b |\n|---|---|\n"),
    sts("HTML", "<script>alert(1)</script> &amp; </td>"),
    sts("stacked accents", "Z" + "\u0301\u0302\u0303" * 400),
    sts("private use only", "\ue000\uf8ff\U000f0000"),
    sts("zero width only", "\u200b\u200c\u2060\ufeff"),
    sts("byte-order mark inside", "a\ufeffb"),
    sts("line and paragraph separators", "a\u2028b\u2029c\x85d\x0be"),
    sts("Chinese without spaces", "这是一个没有空格的句子" * 50),
    sts("special tokens in words", "[CLS] [SEP] [MASK] [PAD] [UNK] [SEP]"),
    sts("a path", "../../../../etc/passwd"),
    sts("a pickle", pickle.dumps({"a": print}, protocol=0).decode("latin-1")),
    sts("JSON in a text", '{"sentence1": "x", "score": NaN}'),
    sts("format codes", "%s %d {0} {name} ${HOME} `id`"),
]

# --- shapes, in retrieval


def ndcg_at_10(
    encoder: Any, corpus: Mapping[str, str], queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> float:
    """The plain way: all similarities, a full sort (larger id first among equals), gains by trec_eval's formula."""
    documents = vectors(encoder, list(corpus.values()), "passage: ")
    found = []
    for query, judged in qrels.items():
        similarities = (documents @ vectors(encoder, [queries[query]])[0]).astype(np.float32).tolist()
        ranked = sorted(zip(similarities, corpus, strict=True), reverse=True)[:10]
        gain = sum(judged.get(id_, 0) / math.log2(rank + 2) for rank, (_, id_) in enumerate(ranked))
        best = sorted(judged.values(), reverse=True)[:10]
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
        found.append(gain / ideal if ideal else 0.0)
    return sum(found) / len(found)


def retrieval(
    id_: str,
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    more: str = "",
    says: tuple[str, ...] = (),
    counts: Mapping[str, int] | None = None,
    change: Callable[[str], str | bytes] = lambda content: content,
) -> Hostile:
    """`more` is put behind the judgements; `change` is done to every file."""
    lines = "".join(f"{query}\t{id_}\t{grade}\n" for query, judged in qrels.items() for id_, grade in judged.items())
    files = {
        "corpus.jsonl": jsonl(*({"_id": key, "text": value} for key, value in corpus.items())),
        "queries.jsonl": jsonl(*({"_id": key, "text": value} for key, value in queries.items())),
        "qrels/test.tsv": f"query-id\tcorpus-id\tscore\n{lines}{more}",
    }

    def score(encoder: Any) -> float:
        return ndcg_at_10(encoder, corpus, queries, qrels)

    changed = {name: change(content) for name, content in files.items()}
    return Hostile(id_, "Retrieval", changed, None if says else score, says, counts=counts or {})


def plain(
    n_documents: int = 14, n_queries: int = 4
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    corpus = {f"d{n}": text(n, 12) for n in range(n_documents)}
    queries = {f"q{n}": text(n * 2 + 1, 4) for n in range(n_queries)}
    qrels = {f"q{n}": {f"d{(n * 3 + k) % n_documents}": 1 + k for k in range(2)} for n in range(n_queries)}
    return corpus, queries, qrels


def renamed(id_: str, rename: Callable[[str], str]) -> Hostile:
    corpus, queries, qrels = plain()
    return retrieval(
        id_,
        {rename(key): value for key, value in corpus.items()},
        {rename(key): value for key, value in queries.items()},
        {rename(query): {rename(key): grade for key, grade in judged.items()} for query, judged in qrels.items()},
    )


CORPUS, QUERIES, QRELS = plain()
SHAPES = [
    retrieval("one query", CORPUS, {"q0": QUERIES["q0"]}, {"q0": QRELS["q0"]}),
    retrieval("one document", {"d0": "a"}, QUERIES, {"q0": {"d0": 1}}, counts={"queries without judgements": 3}),
    retrieval("one query and one document", {"d0": "a"}, {"q0": "b"}, {"q0": {"d0": 1}}),
    retrieval("fewer documents than k", {f"d{n}": text(n) for n in range(3)}, QUERIES, {"q1": {"d1": 1, "d2": 2}}),
    renamed(
        "ids that differ in case alone", lambda key: "ABCDEFGHIJKLMNabcdefghijklmn"[int(key[1:]) + 14 * (key[0] == "q")]
    ),
    renamed("ids with slashes", lambda key: f"a/../b/{key}/"),
    renamed("ids that lead out", lambda key: f"../../{key}"),
    renamed("ids with quotes", lambda key: f"\"'{key}`\\"),
    renamed("ids with spaces", lambda key: f" {key} x "),
    renamed("ids in other scripts", lambda key: f"ключ{key}鍵\U0001f511"),
    renamed("ids with control characters", lambda key: f"\x1b[31m{key}\x07"),
    renamed("ids that look like nothing", lambda key: f"{key}null NaN None"),
    renamed("ids of ten thousand characters", lambda key: key * 5_000),
    retrieval("a query with a document's id", {**CORPUS, "q0": text(77)}, QUERIES, {"q0": {"q0": 1, "d2": 1}}),
    retrieval("all documents alike", dict.fromkeys(CORPUS, "river stone"), QUERIES, QRELS),
    retrieval("all documents empty", dict.fromkeys(CORPUS, ""), QUERIES, QRELS, counts={"blank texts": 14}),
    retrieval("all queries empty", CORPUS, dict.fromkeys(QUERIES, ""), QRELS, counts={"blank texts": 4}),
    retrieval(
        "judgements of unknown documents",
        CORPUS,
        QUERIES,
        {**QRELS, "q0": {**QRELS["q0"], "d99": 1}, "q1": {**QRELS["q1"], "d98": 2}},
        counts={"judgements of unknown documents": 2},
    ),
    retrieval(
        "judgements below 0",
        CORPUS,
        QUERIES,
        QRELS,
        more="q0\td9\t-1\nq1\td8\t-2\n",
        counts={"judgements below 0, which count as not relevant": 2},
    ),
    retrieval(
        "judgements of unknown queries",
        CORPUS,
        QUERIES,
        QRELS,
        more="q99\td1\t1\n",
        counts={"judgements of unknown queries": 1},
    ),
    retrieval(
        "unjudged queries", CORPUS, {**QUERIES, "q8": "x", "q9": "y"}, QRELS, counts={"queries without judgements": 2}
    ),
    retrieval("judgements given twice", CORPUS, QUERIES, QRELS, more="q0\td0\t1\n", counts={"duplicate judgements": 1}),
    retrieval(
        "all judgements zero",
        CORPUS,
        QUERIES,
        {"q0": {"d0": 0}, "q1": {"d1": 0}},
        says=("no judged query has a relevant document",),
    ),
    retrieval(
        "some queries without a relevant document",
        CORPUS,
        QUERIES,
        {**QRELS, "q0": {"d0": 0}},
        counts={"judged queries without a relevant document": 1},
    ),
    retrieval("a huge grade", CORPUS, QUERIES, {**QRELS, "q0": {"d0": 999_999, "d1": 1}}),
    retrieval("line ends of Windows", CORPUS, QUERIES, QRELS, change=lambda content: content.replace("\n", "\r\n")),
    retrieval("byte-order marks", CORPUS, QUERIES, QRELS, change=lambda content: b"\xef\xbb\xbf" + content.encode()),
    retrieval("no last line end", CORPUS, QUERIES, QRELS, change=lambda content: content.rstrip("\n")),
]

# --- numbers that must not become scores

PAIR = {"sentence1": "a river", "sentence2": "a stone"}
TRAIN = jsonl(*({"text": text(n), "label": "xy"[n % 2]} for n in range(20)))
SUMMARY = {"text": "t", "human_summaries": ["a river", "a lamp"], "machine_summaries": ["a stone", "a garden", "paper"]}


def failed(id_: str, type_: str, files: Files, *says: str) -> Hostile:
    return Hostile(id_, type_, files, says=says)


NO_SCORES = [
    failed("STS of one row", "STS", {"test.jsonl": jsonl({**PAIR, "score": 1})}, "no order", "one row"),
    failed(
        "STS of equal scores",
        "STS",
        {"test.jsonl": jsonl(*[{**PAIR, "score": 2}] * 4)},
        "no order",
        "all of them are 2.0",
    ),
    failed(
        "STS of equal pairs", "STS", {"test.jsonl": jsonl(*({**PAIR, "score": n} for n in range(4)))}, "is undefined"
    ),
    failed(
        "pairs of one class",
        "PairClassification",
        {"test.jsonl": jsonl(*[{**PAIR, "label": 1}] * 4)},
        "has the label 1",
        "two classes",
    ),
    failed(
        "one pair", "PairClassification", {"test.jsonl": jsonl({**PAIR, "label": 0})}, "has the label 0", "two classes"
    ),
    failed(
        "training rows of one class",
        "Classification",
        {"train.jsonl": jsonl(*({"text": text(n), "label": "x"} for n in range(9))), "test.jsonl": TRAIN},
        "has the label",
        "two classes",
    ),
    failed(
        "clusters of one label",
        "Clustering",
        {"test.jsonl": jsonl(*({"text": text(n), "label": "x"} for n in range(9)))},
        "same label",
    ),
    failed(
        "values that are all equal",
        "Regression",
        {name: jsonl(*({"text": text(n), "value": 1.5} for n in range(9))) for name in ("train.jsonl", "test.jsonl")},
        "no order",
    ),
    failed(
        "summaries of equal human scores",
        "Summarization",
        {"test.jsonl": jsonl(*[{**SUMMARY, "relevance": [3, 3, 3]}] * 2)},
        "nothing to rank",
    ),
    failed(
        "texts prefixed already",
        "STS",
        {
            "test.jsonl": jsonl(
                *({"sentence1": f"query: {text(n)}", "sentence2": text(n + 9), "score": n} for n in range(6))
            )
        },
        "already begin with",
    ),
    failed(
        "labels of no row",
        "MultilabelClassification",
        {name: jsonl(*({"text": text(n), "label": []} for n in range(9))) for name in ("train.jsonl", "test.jsonl")},
        "no row has a label",
    ),
]

# --- files that are refused

QUERY_FILES = {"queries.jsonl": jsonl({"_id": "q", "text": "x"}), "qrels/test.tsv": "q\td\t1\n"}


def refused(id_: str, type_: str, files: Files, *says: str) -> Hostile:
    return Hostile(id_, type_, files, says=says, refused=True)


REFUSED = [
    refused(
        "document id twice",
        "Retrieval",
        {"corpus.jsonl": jsonl(*[{"_id": "d", "text": "x"}] * 2), **QUERY_FILES},
        "corpus.jsonl, line 2",
        '"d" already appears in line 1',
    ),
    refused(
        "query id twice",
        "Retrieval",
        {
            "corpus.jsonl": jsonl({"_id": "d", "text": "x"}),
            **QUERY_FILES,
            "queries.jsonl": jsonl(*[{"_id": "q", "text": "x"}] * 2),
        },
        "queries.jsonl, line 2",
        "already",
    ),
    refused(
        "judgements that disagree",
        "Retrieval",
        {"corpus.jsonl": jsonl({"_id": "d", "text": "x"}), **QUERY_FILES, "qrels/test.tsv": "q\td\t1\nq\td\t2\n"},
        "test.tsv, line 2",
        "keep one",
    ),
    refused(
        "score that is NaN",
        "STS",
        {"test.jsonl": '{"sentence1": "a", "sentence2": "b", "score": NaN}\n'},
        "test.jsonl, line 1",
        "finite",
    ),
    refused(
        "score that is infinite",
        "STS",
        {"test.jsonl": '{"sentence1": "a", "sentence2": "b", "score": 1e999}\n'},
        "test.jsonl, line 1",
        "finite",
    ),
    refused(
        "score beyond all floats",
        "STS",
        {"test.jsonl": '{"sentence1": "a", "sentence2": "b", "score": 1' + "0" * 400 + "}\n"},
        "test.jsonl, line 1",
        "finite",
    ),
    refused(
        "number of too many digits",
        "STS",
        {"test.jsonl": '{"sentence1": "a", "sentence2": "b", "score": 1' + "0" * 9_000 + "}\n"},
        "test.jsonl, line 1",
    ),
    refused(
        "brackets without end", "STS", {"test.jsonl": "[" * 100_000 + "\n"}, "test.jsonl, line 1", "not valid JSON"
    ),
    refused("binary", "STS", {"test.jsonl": bytes(range(256)) * 4}, "test.jsonl, line", "UTF-8"),
    refused(
        "UTF-16", "STS", {"test.jsonl": jsonl({**PAIR, "score": 1}).encode("utf-16")}, "test.jsonl, line 1", "UTF-8"
    ),
    refused(
        "a text that is a number",
        "STS",
        {"test.jsonl": jsonl({**PAIR, "sentence1": 5, "score": 1})},
        "test.jsonl, line 1",
        "a string",
    ),
    refused("pickled table", "STS", {"test.parquet": pickle.dumps([1, 2])}, "test.parquet", "Parquet"),
    refused("empty file", "STS", {"test.jsonl": ""}, "test.jsonl", "is empty"),
    refused(
        "empty list of labels", "Clustering", {"test.jsonl": jsonl({"text": "a", "label": []})}, "test.jsonl, line 1"
    ),
]

CASES = [*TEXTS, *SHAPES, *NO_SCORES, *REFUSED]
SHORT = {
    "lone high surrogate",
    "NUL",
    "escape sequences",
    "a million characters of words",
    "ids that lead out",
    "fewer documents than k",
    "all documents alike",
    "all judgements zero",
    "judgements of unknown documents",
    "pairs of one class",
    "training rows of one class",
    "document id twice",
    "UTF-16",
}


def write_files(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def outcome_of(case: Hostile, folder: Path, model: Path) -> JobRecord:
    write_files(folder / "data", case.files)
    document = {
        "name": "hostile",
        "models": [{"label": "tiny", "model": str(model), "protocol": "e5", "dtype": "float32"}],
        "tasks": [{"local": "Hostile", "type": case.type, "data": "data"}],
        "runtime": {"device": "cpu", "cache": False},
        "output": str(folder / "results"),
    }
    (folder / "c.yaml").write_text(json.dumps(document), encoding="utf-8")
    (record,) = run(load_config(folder / "c.yaml")).records
    return record


def test_there_are_more_than_60_hostile_inputs() -> None:
    assert len({case.id for case in CASES}) == len(CASES) > 60
    assert {case.id for case in CASES} >= SHORT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=() if case.id in SHORT else pytest.mark.full) for case in CASES]
)
def test_hostile_input(case: Hostile, tmp_path: Path, tiny_checkpoint: Path, load_encoder: Callable[..., Any]) -> None:
    if case.refused:
        with pytest.raises(ConfigError) as caught:
            outcome_of(case, tmp_path, tiny_checkpoint)
        for part in case.says:
            assert part in str(caught.value)
        assert not (tmp_path / "results").exists()
        return
    record = outcome_of(case, tmp_path, tiny_checkpoint)
    if case.score is None:
        assert (record.state, record.main_score, record.scores) == ("failed", None, {})
        assert record.error is not None
        assert record.error.traceback is None, record.error.traceback
        for part in case.says:
            assert part in record.error.message
    else:
        assert record.state == "done", record.error
        assert record.main_score == pytest.approx(case.score(load_encoder(tiny_checkpoint)), abs=1e-5)
        assert {what: record.counts.get(what) for what in case.counts} == dict(case.counts)


def test_links_and_pipes_in_data_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "outside.jsonl").write_text(jsonl({**PAIR, "score": 1}), encoding="utf-8")
    run_folder = tmp_path / "run"
    (run_folder / "data").mkdir(parents=True)
    (run_folder / "data" / "test.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(ConfigError, match="symbolic link out of the folder"):
        outcome_of(Hostile("link", "STS", {}), run_folder, tiny_checkpoint)
    (run_folder / "data" / "test.jsonl").unlink()
    os.mkfifo(run_folder / "data" / "test.jsonl")
    with pytest.raises(EvaluationError):
        outcome_of(Hostile("pipe", "STS", {}), run_folder, tiny_checkpoint)
