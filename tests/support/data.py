"""Datasets as files: made-up texts, rows written as jsonl, tsv or parquet, and the layout of Hub repositories."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

BANKING = ("mteb/banking77", "0fd18e25b25c072e09e0d92ab615fda904d66300")
STS_BENCHMARK = ("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831")
SCIFACT = ("mteb/scifact", "d56462d0e63a25450459c4f213e49ffdb866f7f9")
ASK_UBUNTU = ("mteb/AskUbuntuDupQuestions", "c5691e3c48741d5f83b5cc8e630653d7a8cfc048")


WORDS = ["river", "stone", "lamp", "winter", "garden", "ticket", "engine", "paper", "window", "bread", "letter"]


def text(number: int, length: int = 7) -> str:
    """The same few words for the same number."""
    return " ".join(random.Random(number).choices(WORDS, k=length + number % 5))


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: Iterable[Any]) -> None:
    """Mappings in .jsonl and .parquet, tuples (query, document, score) in .tsv."""
    file.parent.mkdir(parents=True, exist_ok=True)
    match file.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), file)
        case ".tsv":
            lines = ["\t".join(map(str, row)) for row in [("query-id", "corpus-id", "score"), *rows]]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case _:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_files(folder: Path, files: Mapping[str, Iterable[Any]]) -> Path:
    """Files of rows by name."""
    for name, rows in files.items():
        write_rows(folder / name, rows)
    return folder


# -------------------------------------------------------------------------------------------- repositories of the Hub


def write_card(folder: Path, configs: Mapping[str, Mapping[str, str]], licence: str = "cc-by-4.0") -> None:
    """configs: name -> split -> path."""
    declared = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in files.items()]}
        for name, files in configs.items()
    ]
    header = yaml.safe_dump({"license": licence, "configs": declared} if declared else {"license": licence})
    (folder / "README.md").write_text(f"---\n{header}---\n\n# A dataset\n", encoding="utf-8")


def tables(folder: Path, source: Path, splits: Sequence[str], *, form: str) -> Path:
    """A repository of one config: `parquet` shards under data/ with a card, or `jsonl` files without configs."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        rows = rows_of(source / f"{split}.jsonl")
        if form == "parquet":
            middle = len(rows) // 2
            write_rows(folder / f"data/{split}-00000-of-00002.parquet", rows[:middle])
            write_rows(folder / f"data/{split}-00001-of-00002.parquet", rows[middle:])
        else:
            write_rows(folder / f"{split}.jsonl", rows)
    configs = {"default": {split: f"data/{split}-*" for split in splits}} if form == "parquet" else {}
    write_card(folder, configs)
    (folder / "notes.pdf").write_bytes(b"not read by anybody")
    return folder


def retrieval(folder: Path, source: Path, splits: Sequence[str], *, form: str) -> Path:
    """A repository of a retrieval task, as mteb's: configs corpus, queries, default and, for reranking, top_ranked."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = [{"title": "", **row} for row in rows_of(source / "corpus.jsonl")]
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {
        ("corpus", "corpus"): corpus,
        ("queries", "queries"): rows_of(source / "queries.jsonl"),
    }
    for split in splits:
        lines = (source / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        cells = [line.split("\t") for line in lines]
        parts["default", split] = [{"query-id": q, "corpus-id": d, "score": int(score)} for q, d, score in cells]
        if (source / "top_ranked").is_dir():
            parts["top_ranked", split] = rows_of(source / "top_ranked" / f"{split}.jsonl")
    configs: dict[str, dict[str, str]] = {}
    for (name, split), rows in parts.items():
        if form == "parquet":
            file = f"{name}/{split}-00000-of-00001.parquet"
        else:
            file = f"{name}.jsonl" if name == split else f"{'qrels' if name == 'default' else name}/{split}.jsonl"
        write_rows(folder / file, rows)
        configs.setdefault(name, {})[split] = file
    write_card(folder, configs)
    return folder


def make_snapshot(home: Path, commit: str, files: dict[str, str], *, listed: list[str] | None = None) -> Path:
    """Writes a snapshot of the dataset some/data below `home`; `listed`: the files that its listing names."""
    folder = home / "hub" / "datasets--some--data" / "snapshots" / commit
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if listed is not None:
        noted = folder.parent.parent / "trees" / f"{commit}.json"
        noted.parent.mkdir(exist_ok=True)
        noted.write_text(json.dumps({"format_version": 1, "files": dict.fromkeys(listed, {})}), encoding="utf-8")
    return folder
