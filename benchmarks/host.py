"""The host: what encoding costs beside the model, in microseconds per text, on a machine without a GPU.

    python benchmarks/host.py [--short 1000000] [--long 100000] [--folder FOLDER] [--json FILE]

Ready vectors of width 1,024 take the place of the forward pass; everything else is the product: distinct texts, shards,
cache keys, packing, order, checks, and the segments on the disk, in batches of 131,072 tokens, a block of documents per
call as in a search. Token ids are made before the clock starts, so that the tokenizer is measured apart. Columns:

    feeding     processor time of the thread that calls the model, and what it may take: 8 us + 0.15 us per token
    writing     processor time of all other threads
    disk        seconds that the disk needs for the same bytes, written in files of a segment's size and synced
    texts/s     by the clock, without the tokenizer, all segments on the disk
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from encode import read_texts
from measuring import last_line

from evaluation.adapters.task_search import CORPUS_BLOCK
from evaluation.encoding.cache import EmbeddingCache
from evaluation.encoding.encoder import N_BEHIND, Encoder
from evaluation.encoding.packed_bert import PackedBert
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.tokenizing import Tokenized
from evaluation.models.builtin import materialize
from evaluation.models.checkpoint import Checkpoint, read_checkpoint
from evaluation.models.facts import TextRole

WIDTH, MAX_TOKENS = 1_024, 131_072
SHORT_WORDS, LONG_WORDS = 10, 230
"""Words of a text, about those of Banking77's queries and of SciFact's documents."""
FEEDING_US, FEEDING_US_PER_TOKEN, WRITING_US = 8.0, 0.15, 7.0


class Row(NamedTuple):
    """What was measured on one kind of text; see the columns above."""

    kind: str
    texts: int
    tokens_per_text: float
    tokenizer_us: float
    feeding_us: float
    feeding_us_at_most: float
    writing_us: float
    disk_us: float
    texts_per_s: int
    tokens_per_s: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=1_000_000, help="distinct texts of about 10 words")
    parser.add_argument("--long", type=int, default=100_000, help="distinct texts of about 230 words")
    parser.add_argument("--folder", type=Path, help="where segments are written: on a real disk")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = measure({"short": options.short, "long": options.long}, options.folder)
    print(table(rows))
    print(f"\nload of the machine before: {load:.2f} on {os.cpu_count()} cores; writing may take {WRITING_US:g} us")
    figures = {"benchmark": "host", "load": round(load, 2), "rows": [row._asdict() for row in rows]}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    last_line(figures)


def measure(n_texts: dict[str, int], folder: Path | None) -> list[Row]:
    """A row per kind of text."""
    words = " ".join(read_texts(None, None)).split()
    lengths = {"short": SHORT_WORDS, "long": LONG_WORDS}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        checkpoint = small_checkpoint(Path(name) / "model")
        return [
            _measure(kind, distinct_texts(words, lengths[kind], count), checkpoint, Path(name) / kind)
            for kind, count in n_texts.items()
            if count
        ]


def small_checkpoint(folder: Path) -> Checkpoint:
    """A random model without layers, which only lends its packing and its tokenizer."""
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((materialize("all-MiniLM-L6-v2") / name).read_bytes())
    return read_checkpoint(folder, name="random/host", revision=None)


def distinct_texts(words: Sequence[str], length: int, count: int) -> list[str]:
    """Real words in runs of half to one and a half times a length, each with its number."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(words) - 2 * length, count).tolist()
    lengths = rng.integers(length // 2, length * 3 // 2 + 1, count).tolist()
    return [
        f"{' '.join(words[start : start + n])} {number}"
        for number, (start, n) in enumerate(zip(starts, lengths, strict=True))
    ]


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while block := list(islice(rest, CORPUS_BLOCK)):
        yield block


def _measure(kind: str, texts: list[str], checkpoint: Checkpoint, folder: Path) -> Row:
    cache = EmbeddingCache({"benchmark": "host"}, folder, max_bytes=2**50)
    settings = EncoderSettings("transformers", "mean", checkpoint.max_length, "float32", "cpu", MAX_TOKENS)
    encoder = Encoder(checkpoint, settings, cache=cache, n_behind=N_BEHIND)
    ready = torch.rand(CORPUS_BLOCK, WIDTH)  # (B, D) for the largest batch there can be

    def pack_only(model: PackedBert, rows: Any, pooling: str) -> torch.Tensor:
        model._pack(rows)
        return ready[: len(rows)]

    known: dict[str, Tokenized] = {}
    tokenize = encoder._model.tokenize

    def tokenize_once(shard: list[str], role: TextRole) -> Tokenized:
        if shard[0] not in known:
            known[shard[0]] = tokenize(shard, role)
        return known.pop(shard[0]) if encoder.on_progress else known[shard[0]]

    with (
        mock.patch.object(PackedBert, "forward", pack_only),
        mock.patch.object(encoder._model, "tokenize", tokenize_once),
    ):
        encoder.encode(["a text to warm up with"])
        known.clear()
        tokenizing_s = _tokenize_all(encoder, texts)
        encoder.tokens_encoded, encoder.on_progress = 0, lambda step: None
        started, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        for block in _blocks(texts):
            encoder.encode(block)
        encoder.flush()
        feeding, everything = time.thread_time() - thread, time.process_time() - process
        seconds = time.perf_counter() - started
    assert not known, f"{len(known)} shards were not encoded"
    sizes = [file.stat().st_size for file in folder.glob("*/*.safetensors")]
    n_tokens, per_text = encoder.tokens_encoded, 1e6 / len(texts)
    return Row(
        kind=kind,
        texts=len(texts),
        tokens_per_text=round(n_tokens / len(texts), 1),
        tokenizer_us=round(tokenizing_s * per_text, 2),
        feeding_us=round(feeding * per_text, 2),
        feeding_us_at_most=round(FEEDING_US + FEEDING_US_PER_TOKEN * n_tokens / len(texts), 2),
        writing_us=round((everything - feeding) * per_text, 2),
        disk_us=round(_disk_seconds(folder, sizes) * per_text, 2),
        texts_per_s=round(len(texts) / seconds),
        tokens_per_s=round(n_tokens / seconds),
    )


def _tokenize_all(encoder: Encoder, texts: list[str]) -> float:
    """Seconds to tokenize all shards, whose ids are kept."""
    from evaluation.encoding.batching import unique_texts
    from evaluation.encoding.encoder import cut_into_shards

    seconds = 0.0
    for block in _blocks(texts):
        for shard in cut_into_shards(unique_texts(block).texts, encoder.settings):
            started = time.perf_counter()
            encoder._model.tokenize(shard, TextRole())
            seconds += time.perf_counter() - started
    return seconds


def _disk_seconds(folder: Path, sizes: list[int]) -> float:
    """Seconds to write and sync files of these sizes one after another."""
    content = np.random.default_rng(0).bytes(max(sizes))
    started = time.perf_counter()
    for number, size in enumerate(sizes):
        with (folder / f"plain-{number}").open("wb") as stream:
            stream.write(memoryview(content)[:size])
            stream.flush()
            os.fsync(stream.fileno())
    return time.perf_counter() - started


def table(rows: Sequence[Row]) -> str:
    """The figures as Markdown."""
    head = (
        "texts",
        "tokens/text",
        "tokenizer us",
        "feeding us",
        "at most",
        "writing us",
        "disk us",
        "texts/s",
        "tokens/s",
    )
    lines = [f"| | {' | '.join(head)} |", f"|---|{'---:|' * len(head)}"]
    lines += [f"| {row.kind} | {' | '.join(f'{value:,}' for value in row[1:])} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
