"""One Hopper GPU, in at most eight minutes: proof of the kernels, encoding, search, memory.

    python benchmarks/gpu.py [--json FILE] [--markdown FILE]
    python benchmarks/gpu.py --tiny --device cpu        # its logic at tiny sizes; the figures mean nothing

- proof: every attention kernel that runs on the device, in each precision, against transformers in float32: the largest
  1 - cosine over texts of many lengths.
- encoding: a random e5-large on real texts, against sentence-transformers at its defaults (float32, batches of 32) on a
  part of them, and in float16 with batches of 256. "share" is the share of a large matrix product measured in the same
  process that the layers' products reach.
- search: exact top 1,000 of random unit vectors, against one call of beir's exact search, which must find the same
  scores; documents lie in pageable memory on both sides.
- memory: the most that torch allocated on the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from encode import matrix_parameters, random_checkpoint, read_texts
from host import distinct_texts
from measuring import last_line, matrix_product_gflops, synchronize

from evaluation.encoding.attention import AttentionKernel, attend_by_length, attend_each, attend_varlen
from evaluation.encoding.encoder import Encoder
from evaluation.encoding.packed_bert import PackedBert
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_max_tokens
from evaluation.encoding.token_rows import TokenRows
from evaluation.models.checkpoint import Checkpoint
from evaluation.search.exact import ExactSearch

KERNELS: dict[str, AttentionKernel] = {"each": attend_each, "by length": attend_by_length, "varlen": attend_varlen}
LIMITS = {"float32": 1e-6, "bfloat16": 1e-3, "float16": 1e-4}
"""Largest 1 - cosine to transformers in float32: those of `models/proof.py`, and the issue's in float32."""


class Sizes(NamedTuple):
    """How much of everything."""

    architecture: str
    texts: int
    default_texts: int
    documents: int
    queries: int
    dimension: int
    top_k: int
    rounds: int


FULL = Sizes("e5-large", 20_000, 2_000, 1_000_000, 1_000, 1_024, 1_000, 3)
TINY = Sizes("tiny", 24, 8, 300, 5, 16, 10, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the logic")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    options = parser.parse_args()
    figures = measure(TINY if options.tiny else FULL, resolve_device(options.device))
    text = markdown(figures)
    print(text)
    for file, content in ((options.json, json.dumps(figures, indent=1)), (options.markdown, text)):
        if file is not None:
            file.write_text(content + "\n", encoding="utf-8")
    last_line(figures)


def measure(sizes: Sizes, device: str) -> dict[str, Any]:
    """All figures, and the seconds that they took."""
    started = time.perf_counter()
    is_cuda = device.startswith("cuda")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(sizes.architecture, Path(folder))
        figures: dict[str, Any] = {
            "benchmark": "gpu",
            "device": torch.cuda.get_device_name() if is_cuda else device,
            "sizes": sizes._asdict(),
            "proof": prove_kernels(checkpoint, device),
            "encoding": encoding(checkpoint, sizes, device),
        }
    figures["search"] = search(sizes, device)
    figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2) if is_cuda else None
    figures["seconds"] = round(time.perf_counter() - started, 1)
    return figures


# -------------------------------------------------------------------------------------------------------------- proof


def prove_kernels(checkpoint: Checkpoint, device: str) -> list[dict[str, Any]]:
    """A row per kernel and precision: its largest distance to transformers in float32, or why it does not run here."""
    rows = [[100 + 37 * place % 20_000 for place in range(n)] for n in (512, 512, 200, 64, 64, 64, 33, 7, 2, 1)]
    expected = _by_transformers(checkpoint, rows, device)
    found = []
    for name, kernel in KERNELS.items():
        for dtype, limit in LIMITS.items():
            row: dict[str, Any] = {"kernel": name, "dtype": dtype, "distance": None, "limit": limit, "obstacle": None}
            try:
                model = PackedBert.load(
                    checkpoint.folder, dtype=getattr(torch, dtype), device=torch.device(device), attention=kernel
                )
                vectors = model(TokenRows.of(rows), "mean").double().cpu()
            except (RuntimeError, NotImplementedError, ImportError, AssertionError) as error:
                row["obstacle"] = (str(error).splitlines() or [type(error).__name__])[0][:100]
            else:
                row["distance"] = float((1 - torch.cosine_similarity(vectors, expected)).max())
            found.append(row)
    return found


@torch.inference_mode()
def _by_transformers(checkpoint: Checkpoint, rows: Sequence[Sequence[int]], device: str) -> torch.Tensor:
    """(B, D) float64 means of token vectors, each text alone in float32, on the host."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(checkpoint.folder).eval().to(device)
    states = [model(torch.tensor([list(row)], device=device)).last_hidden_state[0] for row in rows]
    return torch.stack([state.double().mean(dim=0).cpu() for state in states])


# ----------------------------------------------------------------------------------------------------------- encoding


def encoding(checkpoint: Checkpoint, sizes: Sizes, device: str) -> dict[str, Any]:
    """Tokens/s of our Encoder in half precision and of sentence-transformers: medians."""
    from sentence_transformers import SentenceTransformer

    words = " ".join(read_texts(None, None)).split()
    texts = distinct_texts(words, 10, sizes.texts // 2) + distinct_texts(words, 230, sizes.texts - sizes.texts // 2)
    texts = [texts[place] for place in np.random.default_rng(0).permutation(len(texts))]
    few = texts[: sizes.default_texts]
    max_tokens = resolve_max_tokens("auto", device, checkpoint.embedding_dim)
    flops = 2 * matrix_parameters(checkpoint)
    n_few, rates = 0, {}
    for dtype in ("float16", "bfloat16"):
        settings = EncoderSettings("transformers", "mean", checkpoint.max_length, dtype, device, max_tokens)
        encoder = Encoder(checkpoint, settings)
        encoder.encode(few)
        n_few, before = encoder.tokens_encoded, encoder.tokens_encoded
        seconds = _median_seconds(lambda encoder=encoder: encoder.encode(texts), sizes.rounds)  # type: ignore[misc]
        n_tokens = (encoder.tokens_encoded - before) // sizes.rounds
        ceiling = matrix_product_gflops(getattr(torch, dtype), device, None if device != "cpu" else 128)
        rates[f"ours, {dtype}"] = {
            "tokens_per_s": round(n_tokens / seconds),
            "share": round(n_tokens / seconds * flops / 1e9 / ceiling, 3),
            "ceiling_gflops": round(ceiling),
            "n_out_of_memory": encoder.n_out_of_memory,
        }
        del encoder
    for name, dtype, batch, part, n in (
        ("sentence-transformers, its defaults", torch.float32, 32, few, n_few),
        ("sentence-transformers, float16, batches of 256", torch.float16, 256, texts, n_tokens),
    ):
        rival = SentenceTransformer(str(checkpoint.folder), device=device, model_kwargs={"dtype": dtype})
        rival.encode(part[:8], show_progress_bar=False)
        seconds = _median_seconds(
            lambda rival=rival, part=part, batch=batch: rival.encode(part, batch_size=batch, show_progress_bar=False),  # type: ignore[misc]
            sizes.rounds,
        )
        rates[name] = {"tokens_per_s": round(n / seconds)}
        del rival
    defaults = rates["sentence-transformers, its defaults"]["tokens_per_s"]
    for row in rates.values():
        row["times_the_defaults"] = round(row["tokens_per_s"] / max(defaults, 1), 2)
    return rates


def _median_seconds(work: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


# ------------------------------------------------------------------------------------------------------------- search


def search(sizes: Sizes, device: str) -> dict[str, Any]:
    """Seconds of an exact search of documents on the host, ours and beir's; both must find the same scores."""
    rng = np.random.default_rng(0)
    documents, queries = (_unit(rng, n, sizes.dimension) for n in (sizes.documents, sizes.queries))
    ids = [f"document-{number}" for number in range(sizes.documents)]

    def ours() -> np.ndarray:
        exact = ExactSearch(queries, sizes.top_k, device=device)
        for start in range(0, sizes.documents, 16_384):
            exact.add(documents[start : start + 16_384], ids[start : start + 16_384])
        return exact.result().scores

    def rival() -> np.ndarray:
        return _by_beir(documents, queries, ids, sizes.top_k, device)

    started = time.perf_counter()
    expected = rival()
    rival_s = time.perf_counter() - started
    difference = float(np.abs(ours() - expected).max())
    ours_s = _median_seconds(ours, sizes.rounds)
    return {
        "ours_s": round(ours_s, 3),
        "beir_s": round(rival_s, 3),
        "ratio": round(rival_s / ours_s, 2),
        "largest_difference": difference,
    }


def _unit(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    vectors = rng.standard_normal((n, width), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _by_beir(documents: np.ndarray, queries: np.ndarray, ids: Sequence[str], k: int, device: str) -> np.ndarray:
    """(Q, K) scores, best first, by beir's DenseRetrievalExactSearch on ready vectors."""
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    rows = {id_: row for row, id_ in enumerate(ids)}

    class Ready:
        def encode_queries(self, texts: Sequence[str], **options: Any) -> torch.Tensor:
            return torch.from_numpy(queries).to(device)

        def encode_corpus(self, corpus: Sequence[dict[str, str]], **options: Any) -> torch.Tensor:
            return torch.from_numpy(documents[[rows[document["text"]] for document in corpus]]).to(device)

    searcher = DenseRetrievalExactSearch(Ready(), batch_size=128)
    corpus = {id_: {"text": id_, "title": ""} for id_ in ids}
    found = searcher.search(corpus, {f"q{n}": "" for n in range(len(queries))}, k, "dot")
    scores = [sorted(found[f"q{n}"].values(), reverse=True)[:k] for n in range(len(queries))]
    return np.array(scores, np.float32)


# -------------------------------------------------------------------------------------------------------------- table


def markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = [
        f"# {figures['device']}, {figures['seconds']} s",
        "",
        "| kernel | dtype | 1 - cosine | limit |",
        "|---|---|---:|---:|",
    ]
    for row in figures["proof"]:
        shown = row["obstacle"] if row["distance"] is None else f"{row['distance']:.1e}"
        lines.append(f"| {row['kernel']} | {row['dtype']} | {shown} | {row['limit']:.0e} |")
    lines += ["", "| encoding | tokens/s | times the defaults | share of the product |", "|---|---:|---:|---:|"]
    for name, row in figures["encoding"].items():
        share = f"{row['share']:.1%}" if "share" in row else "-"
        lines.append(f"| {name} | {row['tokens_per_s']:,} | {row['times_the_defaults']} | {share} |")
    found = figures["search"]
    lines += ["", "| search | ours | beir | ratio | largest difference |", "|---|---:|---:|---:|---:|"]
    lines.append(
        f"| top {figures['sizes']['top_k']} | {found['ours_s']} s | {found['beir_s']} s | {found['ratio']} | "
        f"{found['largest_difference']:.1e} |"
    )
    return "\n".join([*lines, "", f"Memory peak on the device: {figures['peak_gib']} GiB."])


if __name__ == "__main__":
    main()
