"""One dataset per task type in the layouts that people have: saved, downloaded, compressed, converted, broken."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, DatasetDict
from support.data import retrieval, tables, text, write_files, write_rows

Rows = list[dict[str, Any]]

CORPUS: Rows = [{"_id": f"d{n}", "title": f"title {n}" if n % 2 else "", "text": text(n, 9)} for n in range(12)]
QUERIES: Rows = [{"_id": f"q{n}", "text": text(50 + n, 4)} for n in range(5)]
QRELS: list[tuple[str, str, int]] = [
    *((f"q{n}", f"d{(n * 3 + k) % 12}", 2 - k) for n in range(4) for k in range(3)),
    ("q0", "d11", -1),
    ("q1", "d10", -2),
    ("q2", "missing1", 1),
    ("q3", "missing2", 2),
    ("q4", "missing3", 1),
]
CANDIDATES: Rows = [
    {"query-id": f"q{n}", "corpus-ids": [f"d{(n * 3 + k * 2) % 12}" for k in range(5)]} for n in range(5)
]
LABELLED = {
    "train": [{"text": text(n), "label": n % 3} for n in range(18)],
    "test": [{"text": text(100 + n), "label": n % 3} for n in range(12)],
}
PAIRS = {"test": [{"sentence1": text(n), "sentence2": text(n + 1), "score": n % 5 / 2} for n in range(14)]}
FLAGGED = {"test": [{"sentence1": text(n), "sentence2": text(n + 1), "label": n % 2} for n in range(14)]}
GROUPED = {"test": [{"text": text(n), "label": f"group {n % 3}"} for n in range(14)]}
TABLES: Mapping[str, Mapping[str, Rows]] = {
    "Classification": LABELLED,
    "STS": PAIRS,
    "PairClassification": FLAGGED,
    "Clustering": GROUPED,
}


def plain_tables(folder: Path, task_type: str) -> Path:
    """Files <split>.jsonl."""
    return write_files(folder, {f"{split}.jsonl": rows for split, rows in TABLES[task_type].items()})


def beir(folder: Path, *, rerank: bool = False) -> Path:
    """BEIR's own layout."""
    files: dict[str, Iterable[Any]] = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
    if rerank:
        files["top_ranked/test.jsonl"] = CANDIDATES
    return write_files(folder, files)


def hub_repository(folder: Path, task_type: str, *, form: str = "parquet") -> Path:
    """The dataset as mteb's repositories on the Hub hold it, which mteb's own loader reads."""
    source = folder.parent / f"{folder.name}-source"
    if task_type in {"Retrieval", "Reranking"}:
        return retrieval(folder, beir(source, rerank=task_type == "Reranking"), ["test"], form=form)
    return tables(folder, plain_tables(source, task_type), list(TABLES[task_type]), form=form)


@dataclass(frozen=True)
class Layout:
    """A way to lay out a dataset below a folder.

    Attributes:
        write: Writes it and returns what a user gives as data:.
        says: Parts of the message if it is refused; empty where it scores what mteb scores.
    """

    name: str
    type: str
    write: Callable[[Path], Path]
    says: tuple[str, ...] = field(default=())


# ------------------------------------------------------------------------------------------------------ how it is done


def zipped(folder: Path, file: Path, *, top: str = "") -> Path:
    """Writes a .zip of a folder, its files below `top` if it is given."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{top}/{path.relative_to(folder)}" if top else path.relative_to(folder))
    return file


def gzipped(folder: Path, pattern: str) -> Path:
    """Compresses the files that match."""
    for path in list(folder.rglob(pattern)):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


def hub_cache_snapshot(folder: Path, task_type: str, *, form: str) -> Path:
    """A repository as huggingface_hub caches it: links from snapshots/<commit> to ../../blobs."""
    source = hub_repository(folder / "source", task_type, form=form)
    repository = folder / "datasets--some--data"
    snapshot = repository / "snapshots" / ("c" * 40)
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:040x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, blob)
        link = snapshot / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        depth = len(link.relative_to(repository).parts) - 1
        link.symlink_to(Path(*[".."] * depth) / "blobs" / blob.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40, encoding="utf-8")
    return snapshot


def saved_to_disk(folder: Path, task_type: str, *, shards: int = 1) -> Path:
    """A DatasetDict written by `save_to_disk`."""
    dataset = DatasetDict({split: Dataset.from_list(rows) for split, rows in TABLES[task_type].items()})
    dataset.save_to_disk(folder, num_shards=dict.fromkeys(dataset, shards))
    return folder


def sharded(folder: Path, task_type: str, *, inner: str, n: int = 2, suffix: str = ".parquet", keep: int = 9) -> Path:
    """Files <split>-00000-of-0000n, of which `keep` are there."""
    for split, rows in TABLES[task_type].items():
        size = -(-len(rows) // n)
        for number in range(min(n, keep)):
            file = folder / inner / f"{split}-{number:05d}-of-{n:05d}{suffix}"
            write_rows(file, rows[number * size : (number + 1) * size])
    return folder


def converted_branch(folder: Path, task_type: str) -> Path:
    """The Hub's branch refs/convert/parquet of one config: <split>/0000.parquet."""
    for split, rows in TABLES[task_type].items():
        middle = len(rows) // 2
        write_rows(folder / split / "0000.parquet", rows[:middle])
        write_rows(folder / split / "0001.parquet", rows[middle:])
    return folder


def with_pandas(folder: Path, task_type: str, write: Callable[[pd.DataFrame, Path], object]) -> Path:
    """Each split by a writer of pandas."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in TABLES[task_type].items():
        write(pd.DataFrame(rows), folder / split)
    return folder


def beir_with(folder: Path, files: Mapping[str, str | None]) -> Path:
    """BEIR's layout with some files replaced, or removed (None)."""
    beir(folder)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_text(content, encoding="utf-8")
    return folder


def lines(rows: Iterable[Iterable[Any]], separator: str) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


TREC = lines(((query, 0, document, score) for query, document, score in QRELS), " ")
TREC_TABS = lines(((query, "Q0", document, score) for query, document, score in QRELS), "\t")
BEIR_QRELS = lines([("query-id", "corpus-id", "score"), *QRELS], "\t")
QRELS_ROWS: Rows = [{"query-id": query, "corpus-id": document, "score": score} for query, document, score in QRELS]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
JSON_QRELS = "".join(json.dumps(row) + "\n" for row in QRELS_ROWS)


def _linked_corpus(folder: Path) -> Path:
    beir(folder / "data")
    shutil.move(folder / "data" / "corpus.jsonl", folder / "shared.jsonl")
    (folder / "data" / "corpus.jsonl").symlink_to("../shared.jsonl")
    return folder / "data"


def _linked_out(folder: Path) -> Path:
    data = _linked_corpus(folder)
    outside = folder.parents[1] / f"outside-{folder.name}.jsonl"
    shutil.move(folder / "shared.jsonl", outside)
    (data / "corpus.jsonl").unlink()
    (data / "corpus.jsonl").symlink_to(outside)
    return data


def _corpus_shards(folder: Path, inner: str) -> Path:
    beir_with(folder, {"corpus.jsonl": None})
    write_rows(folder / inner / "corpus-00000-of-00002.parquet", CORPUS[:5])
    write_rows(folder / inner / "corpus-00001-of-00002.parquet", CORPUS[5:])
    return folder


def _saved_records(folder: Path) -> Path:
    beir_with(folder, {"corpus.jsonl": None, "queries.jsonl": None})
    Dataset.from_list(CORPUS).save_to_disk(folder / "corpus")
    Dataset.from_list(QUERIES).save_to_disk(folder / "queries")
    return folder


def _hostile_zip(folder: Path) -> Path:
    file = zipped(beir(folder / "data"), folder / "scifact.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
    return file


def _no_zip(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "scifact.zip").write_text("<html>404 Not Found</html>", encoding="utf-8")
    return folder / "scifact.zip"


def _single_file(folder: Path) -> Path:
    return plain_tables(folder, "STS") / "test.jsonl"


def _tarball(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder / "scifact"), "gztar", beir(folder / "data")))


def _saved_dataset(folder: Path) -> Path:
    Dataset.from_list(PAIRS["test"]).save_to_disk(folder)
    return folder


def _truncated_gzip(folder: Path) -> Path:
    file = gzipped(plain_tables(folder, "STS"), "*.jsonl") / "test.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-20])
    return folder


def _table(task_type: str, write: Callable[[Path, str], Path], name: str, *says: str) -> Layout:
    return Layout(f"{name}, {task_type}", task_type, lambda folder: write(folder, task_type), says)


def _beir(name: str, files: Mapping[str, str | None], *says: str) -> Layout:
    return Layout(name, "Retrieval", lambda folder: beir_with(folder, files), says)


LAYOUTS: tuple[Layout, ...] = (
    # Retrieval and reranking that score.
    Layout("BEIR's folder", "Retrieval", beir),
    Layout("BEIR's folder with candidates", "Reranking", lambda folder: beir(folder, rerank=True)),
    Layout("BEIR's .zip", "Retrieval", lambda f: zipped(beir(f / "a"), f / "scifact.zip", top="scifact")),
    Layout("a .zip without a top folder", "Retrieval", lambda f: zipped(beir(f / "a"), f / "data.zip")),
    Layout("a .zip of compressed files", "Retrieval", lambda f: zipped(gzipped(beir(f / "a"), "*.jsonl"), f / "d.zip")),
    Layout("corpus.jsonl.gz and queries.jsonl.gz", "Retrieval", lambda f: gzipped(beir(f), "*.jsonl")),
    Layout("everything as .gz", "Reranking", lambda f: gzipped(beir(f, rerank=True), "*.*")),
    Layout("a corpus that is a link to a sibling", "Retrieval", _linked_corpus),
    Layout("a corpus in shards", "Retrieval", lambda f: _corpus_shards(f, "")),
    Layout("a corpus in shards in its folder", "Retrieval", lambda f: _corpus_shards(f, "corpus")),
    Layout("corpus and queries by save_to_disk", "Retrieval", _saved_records),
    Layout("the Hub's folder, parquet", "Retrieval", lambda f: hub_repository(f, "Retrieval")),
    Layout("the Hub's folder, jsonl", "Retrieval", lambda f: hub_repository(f, "Retrieval", form="jsonl")),
    Layout("the Hub's folder with candidates", "Reranking", lambda f: hub_repository(f, "Reranking")),
    Layout("the Hub's cache, parquet", "Retrieval", lambda f: hub_cache_snapshot(f, "Retrieval", form="parquet")),
    Layout("the Hub's cache, jsonl", "Retrieval", lambda f: hub_cache_snapshot(f, "Retrieval", form="jsonl")),
    _beir("qrels of TREC", {"qrels/test.tsv": TREC}),
    _beir("qrels of TREC with tabs", {"qrels/test.tsv": TREC_TABS}),
    _beir("qrels of TREC as .qrels", {"qrels/test.tsv": None, "qrels/test.qrels": TREC}),
    _beir("qrels without a header", {"qrels/test.tsv": lines(QRELS, "\t")}),
    _beir("qrels with decimal scores", {"qrels/test.tsv": lines(((q, d, f"{s}.0") for q, d, s in QRELS), "\t")}),
    _beir("qrels as jsonl", {"qrels/test.tsv": None, "qrels/test.jsonl": JSON_QRELS}),
    _beir("qrels as csv", {"qrels/test.tsv": None, "qrels/test.csv": BEIR_QRELS.replace("\t", ",")}),
    _beir("qrels as tsv and jsonl that agree", {"qrels/test.jsonl": JSON_QRELS}),
    _beir("qrels with Windows' line ends", {"qrels/test.tsv": "\ufeff" + BEIR_QRELS.replace("\n", "\r\n")}),
    _beir(
        "queries.tsv without a header",
        {"queries.jsonl": None, "queries.tsv": lines(((row["_id"], row["text"]) for row in QUERIES), "\t")},
    ),
    _beir(
        "queries.tsv with a header",
        {
            "queries.jsonl": None,
            "queries.tsv": lines([("text", "id"), *((r["text"], r["_id"]) for r in QUERIES)], "\t"),
        },
    ),
    _beir(
        "corpus.tsv with a header",
        {
            "corpus.jsonl": None,
            "corpus.tsv": lines([("id", "text", "title"), *((r["_id"], r["text"], r["title"]) for r in CORPUS)], "\t"),
        },
    ),
    # Tables that score.
    *(_table(name, plain_tables, "jsonl") for name in TABLES),
    *(_table(name, lambda f, t: sharded(f, t, inner=""), "shards") for name in TABLES),
    *(_table(name, lambda f, t: sharded(f, t, inner="data"), "shards under data/") for name in ("STS", "Clustering")),
    _table("Classification", lambda f, t: sharded(f, t, inner="data", n=5, suffix=".jsonl"), "jsonl shards"),
    _table("Classification", lambda f, t: hub_repository(f, t), "the Hub's folder"),
    _table("STS", lambda f, t: hub_repository(f, t, form="jsonl"), "the Hub's folder, jsonl"),
    _table("Classification", lambda f, t: hub_cache_snapshot(f, t, form="parquet"), "the Hub's cache"),
    _table("STS", lambda f, t: hub_cache_snapshot(f, t, form="jsonl"), "the Hub's cache, jsonl"),
    _table("Classification", converted_branch, "the Hub's converted branch"),
    _table("Classification", saved_to_disk, "save_to_disk"),
    _table("STS", lambda f, t: saved_to_disk(f, t, shards=3), "save_to_disk in shards"),
    _table("Clustering", lambda f, t: gzipped(plain_tables(f, t), "*.jsonl"), "jsonl.gz"),
    _table("STS", lambda f, t: zipped(plain_tables(f / "a", t), f / "sts.zip"), "a .zip"),
    _table(
        "PairClassification",
        lambda f, t: with_pandas(f, t, lambda frame, file: frame.to_csv(f"{file}.csv", index=False)),
        "csv by pandas",
    ),
    _table("STS", lambda f, t: with_pandas(f, t, lambda frame, file: frame.to_parquet(f"{file}.parquet")), "parquet"),
    # Refused, with what to do.
    Layout("a link out of the config's folder", "Retrieval", _linked_out, ("corpus.jsonl", "link out of", "data_root")),
    Layout("a .zip with a path that leads out", "Retrieval", _hostile_zip, ("scifact.zip", "'../../escaped.txt'")),
    Layout("a web page named .zip", "Retrieval", _no_zip, ("scifact.zip", "not a readable .zip", "download it again")),
    Layout("a tarball", "Retrieval", _tarball, ("scifact.tar.gz", "unpack it, and give the folder")),
    Layout("a file in place of its folder", "STS", _single_file, ("test.jsonl", "is not a folder", "give its folder")),
    Layout("one saved dataset without a split", "STS", _saved_dataset, ("DatasetDict({'test': dataset})",)),
    Layout(
        "the repository's folder of the Hub's cache",
        "STS",
        lambda f: hub_cache_snapshot(f, "STS", form="jsonl").parents[1],
        ("give one of the folders in snapshots/",),
    ),
    _table("STS", lambda f, t: sharded(f, t, inner="data", keep=1), "a shard short", "of the 2 shards", "download"),
    _table(
        "STS",
        lambda f, t: with_pandas(f, t, lambda d, file: d.to_json(f"{file}.json", orient="records")),
        "a JSON array",
        "test.json",
        "one JSON object per line",
    ),
    _table(
        "STS",
        lambda f, t: with_pandas(f, t, lambda d, file: d.to_csv(f"{file}.tsv", sep="\t", index=False)),
        "tsv",
        "to use test.tsv, convert it to CSV",
    ),
    Layout("truncated .gz", "STS", _truncated_gzip, ("test.jsonl.gz", "can't be decompressed", "damaged")),
    _beir("a git-lfs pointer", {"corpus.jsonl": LFS}, "corpus.jsonl: is a git-lfs pointer", "git lfs pull"),
    _beir("qrels beside the corpus", {"qrels/test.tsv": None, "qrels.tsv": BEIR_QRELS}, "qrels"),
    _beir("qrels as .txt", {"qrels/test.tsv": None, "qrels/test.txt": TREC}, "rename test.txt to end in .tsv"),
    _beir("qrels that disagree", {"qrels/test.jsonl": JSON_QRELS.replace("2}", "1}", 1)}, "judgements differ", "keep"),
    _beir("a wrong line of TREC", {"qrels/test.tsv": TREC + "q1 0 d1\n"}, "line 18", "query, 0, document, score"),
)
