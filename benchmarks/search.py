"""Search: our ExactSearch against the search of mteb's SearchEncoderWrapper at its defaults, on the same vectors.

    python benchmarks/search.py [--queries 500 2000] [--documents 200000] [--dimension 384] [--top-k 1000] [--pairs 5]
    python benchmarks/search.py --memory [--documents 2000000]      # resident memory of a streamed corpus, no rival

How to read it. Both sides get the same random unit vectors, mteb through a stub for its encoder, and both hand back
what pytrec_eval takes: query id -> document id -> score. They run in turn in one process; seconds are medians, ratios
are medians over the pairs.

- "search alone" leaves out the seconds in which mteb brings the documents' texts into the form its encoders read (one
  Python call a document, inside its search, needed for encoding); "whole call" is all of `SearchEncoderWrapper.search`.
- "product" is the ceiling: the same scores by matrix products alone, by the faster of torch's two kernels, kept
  nowhere. A search that computes all scores in float32 can't be faster; our share of it says what is left to gain.
- "agreement": the largest difference of two scores of the same query and document, and how many documents one side has
  and the other has not. All of these must lie within 1e-5 of the query's last score, or the benchmark fails.
- `--memory`: growth of the resident set over a search whose documents are made block by block; ids are real strings.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measuring import alternate, last_line, ratio
from numpy.typing import NDArray

from evaluation.search.exact import ExactSearch

BLOCK = 16_384
"""Documents a block, as the harness encodes them (`encoding.batching.SHARD_TEXTS`)."""

TOLERANCE = 1e-5
Results = dict[str, dict[str, float]]


def main() -> None:
    options = _options()
    if options.memory:
        _measure_memory(options)
    else:
        _compare(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--documents", type=int, help="default: 200000; with --memory 2000000")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--top-k", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="resident memory of a streamed search instead")
    options = parser.parse_args()
    options.documents = options.documents or (2_000_000 if options.memory else 200_000)
    return options


def _compare(options: argparse.Namespace) -> None:
    documents = _unit_vectors(options.documents, options.dimension, seed=0)
    ids = [f"d{number}" for number in range(options.documents)]
    figures = []
    for n_queries in options.queries:
        queries = _unit_vectors(n_queries, options.dimension, seed=1)
        query_ids = [f"q{number}" for number in range(n_queries)]
        rival = MtebSearch(query_ids, queries, ids, documents, options.top_k)
        figures.append(_compare_one(rival, queries, documents, options) | {"queries": n_queries})
        _print_comparison(figures[-1])
    last_line(
        {
            "benchmark": "search",
            "rival": "mteb SearchEncoderWrapper",
            "documents": options.documents,
            "dimension": options.dimension,
            "top_k": options.top_k,
            "pairs": options.pairs,
            "device": options.device,
            "threads": torch.get_num_threads(),
            "results": figures,
        }
    )


def _compare_one(
    rival: MtebSearch, queries: NDArray[np.float32], documents: NDArray[np.float32], options: argparse.Namespace
) -> dict[str, Any]:
    def ours() -> Results:
        return _search(rival.query_ids, queries, rival.ids, documents, options.top_k, options.device)

    agreement = _agreement(rival(), ours())
    theirs_s, ours_s = alternate(rival, ours, options.pairs)
    alone_s = [whole - texts for whole, texts in zip(theirs_s, rival.text_seconds[-options.pairs :], strict=True)]
    kernel = _fastest_product(queries, documents, options.device)
    product_s, beside_s = alternate(kernel, ours, options.pairs)
    flop = 2 * len(queries) * documents.size
    return {
        "mteb_whole_s": statistics.median(theirs_s),
        "mteb_search_s": statistics.median(alone_s),
        "ours_s": statistics.median(ours_s),
        "ratio_search": ratio(alone_s, ours_s),
        "ratio_whole": ratio(theirs_s, ours_s),
        "product_s": statistics.median(product_s),
        "product_gflops": flop / statistics.median(product_s) / 1e9,
        "share_of_product": ratio(product_s, beside_s),
        "ratio_search_of_product": statistics.median(alone_s) / statistics.median(product_s),
        **agreement,
    }


def _print_comparison(figures: dict[str, Any]) -> None:
    print(
        f"{figures['queries']} queries: mteb {figures['mteb_search_s']:.2f} s (whole call"
        f" {figures['mteb_whole_s']:.2f} s), ours {figures['ours_s']:.2f} s: search alone"
        f" {figures['ratio_search']:.1f} times faster, whole call {figures['ratio_whole']:.1f} times\n"
        f"  product {figures['product_s']:.2f} s ({figures['product_gflops']:.0f} GFLOP/s):"
        f" ours runs at {figures['share_of_product']:.0%} of it; a search that were nothing else would be"
        f" {figures['ratio_search_of_product']:.1f} times faster than mteb's\n"
        f"  agreement: scores differ by up to {figures['largest_score_difference']:.1e},"
        f" {figures['documents_that_differ']} documents at the cut differ",
        flush=True,
    )


def _search(
    query_ids: list[str],
    queries: NDArray[np.float32],
    ids: list[str],
    documents: NDArray[np.float32],
    top_k: int,
    device: str,
) -> Results:
    search = ExactSearch(queries, top_k, device=device)
    for start in range(0, len(documents), BLOCK):
        search.add(documents[start : start + BLOCK], ids[start : start + BLOCK])
    top = search.result()
    found = zip(query_ids, search.document_ids(top.positions), top.scores.tolist(), strict=True)
    return {query: dict(zip(names, scores, strict=True)) for query, names, scores in found}


class MtebSearch:
    """mteb's search with ready-made vectors; a call returns what it returns.

    Attributes:
        text_seconds: Of each call, the seconds spent on the documents' texts.
    """

    def __init__(
        self,
        query_ids: list[str],
        queries: NDArray[np.float32],
        ids: list[str],
        documents: NDArray[np.float32],
        top_k: int,
    ) -> None:
        import datasets
        import mteb

        datasets.disable_progress_bars()
        self.query_ids, self.ids, self._top_k = query_ids, ids, top_k
        self._queries = datasets.Dataset.from_dict({"id": query_ids, "text": ["query"] * len(query_ids)})
        self._corpus = datasets.Dataset.from_dict({"id": ids, "text": ["document"] * len(ids)})
        self._vectors = (torch.from_numpy(queries), torch.from_numpy(documents))
        self._task = mteb.get_task("SciFact").metadata
        self.text_seconds: list[float] = []

    def __call__(self) -> Results:
        """Query id -> document id -> score."""
        from mteb.models import search_wrappers

        self.text_seconds.append(0.0)
        job: dict[str, Any] = {
            "task_metadata": self._task,
            "hf_split": "test",
            "hf_subset": "default",
            "encode_kwargs": {"show_progress_bar": False},
        }
        with patch.object(search_wrappers, "create_dataloader", self._timed(search_wrappers.create_dataloader)):
            wrapper = search_wrappers.SearchEncoderWrapper(StubEncoder(*self._vectors))
            wrapper.index(self._corpus, **job)
            results: Results = wrapper.search(self._queries, top_k=self._top_k, **job)
        return results

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            value = function(*args, **kwargs)
            self.text_seconds[-1] += time.perf_counter() - started
            return value

        return timed


class StubEncoder:
    """What mteb's wrapper asks of an encoder, from vectors; documents are asked for in order."""

    mteb_model_meta = None

    def __init__(self, queries: torch.Tensor, documents: torch.Tensor) -> None:
        self._queries, self._documents, self._served = queries, documents, 0

    def encode(self, inputs: Any, *, prompt_type: Any, **_: Any) -> torch.Tensor:
        """The vectors of a data loader's texts."""
        if prompt_type.value == "query":
            return self._queries
        first, self._served = self._served, self._served + len(inputs.dataset)
        return self._documents[first : self._served]

    def similarity(self, queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        """Cosine, as mteb's wrapper of sentence-transformers takes it for E5."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(queries, documents)


def _agreement(theirs: Results, ours: Results) -> dict[str, Any]:
    """Compare the results of the same queries; exits if they differ by more than rounding."""
    largest, n_different = 0.0, 0
    for query, scores in theirs.items():
        mine = ours[query]
        shared = scores.keys() & mine.keys()
        largest = max(largest, max(abs(scores[document] - mine[document]) for document in shared))
        cut = min(mine.values())
        different = {**scores, **mine}.keys() - shared
        n_different += len(different)
        far = [document for document in different if abs({**scores, **mine}[document] - cut) > TOLERANCE]
        if far or largest > TOLERANCE or len(mine) != len(scores) or list(mine.values()) != sorted(mine.values())[::-1]:
            sys.exit(
                f"the results of {query} differ: {far[:5]}, scores by {largest}, {len(mine)} and {len(scores)} ids"
            )
    return {"largest_score_difference": largest, "documents_that_differ": n_different}


def _fastest_product(
    queries: NDArray[np.float32], documents: NDArray[np.float32], device: str
) -> Callable[[], torch.Tensor]:
    """All scores by products alone, tile after tile into the same memory where the kernel can."""
    rows, tile = torch.from_numpy(queries).to(device), torch.from_numpy(documents).to(device).split(8192)
    candidates: dict[str, Callable[[], torch.Tensor]] = {}
    halves = rows.split(512)
    out = torch.empty(len(halves[0]) * len(tile[0]), device=device)

    def by_torch() -> torch.Tensor:
        for part in tile:
            for half in halves:
                torch.mm(half, part.T, out=out[: len(half) * len(part)].view(len(half), len(part)))
        return out

    def by_onednn() -> torch.Tensor:
        for part in tile:
            packed = torch.ops.mkldnn._reorder_linear_weight(part)
            for half in halves:
                last = torch.ops.mkldnn._linear_pointwise(half, packed, None, "none", [], "")
        return last

    candidates["torch"] = by_torch
    if device == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        candidates["oneDNN"] = by_onednn
    seconds = {}
    for name, run in candidates.items():
        run()
        started = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - started
    return candidates[min(seconds, key=seconds.__getitem__)]


def _measure_memory(options: argparse.Namespace) -> None:
    n_queries = max(options.queries)
    queries = _unit_vectors(n_queries, options.dimension, seed=1)
    _search(["q"] * n_queries, queries, ["d"], queries[:1], 1, options.device)  # kernels and threads are up
    before = _resident_mib()
    started = time.perf_counter()
    search = ExactSearch(queries, options.top_k, device=options.device)
    searching_s = 0.0
    for ids, vectors in _generated_blocks(options.documents, options.dimension):
        block_started = time.perf_counter()
        search.add(vectors, ids)
        searching_s += time.perf_counter() - block_started
    top = search.result()
    growth = _peak_resident_mib() - before
    data_mib = options.documents * options.dimension * 4 / 2**20
    print(
        f"{options.documents} documents of {options.dimension} dimensions ({data_mib:.0f} MiB) in blocks of {BLOCK},"
        f" {n_queries} queries, top {top.scores.shape[1]}:\n"
        f"  resident memory grew by {growth:.0f} MiB at most, from {before:.0f} MiB;"
        f" {searching_s:.1f} s of search in {time.perf_counter() - started:.1f} s"
    )
    last_line(
        {
            "benchmark": "search-memory",
            "documents": options.documents,
            "dimension": options.dimension,
            "queries": n_queries,
            "top_k": options.top_k,
            "data_mib": data_mib,
            "rss_growth_mib": growth,
            "search_s": searching_s,
        }
    )


def _generated_blocks(n_documents: int, dimension: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    for start in range(0, n_documents, BLOCK):
        stop = min(start + BLOCK, n_documents)
        yield [f"d{number}" for number in range(start, stop)], _unit_vectors(stop - start, dimension, seed=start + 2)


def _unit_vectors(n: int, dimension: int, *, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _resident_mib() -> float:
    """Memory this process has now (Linux; the peak so far elsewhere)."""
    pages = Path("/proc/self/statm")
    return (
        int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20 if pages.exists() else _peak_resident_mib()
    )


def _peak_resident_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the memory of the process that started this one, if it had more
        return next(int(line.split()[1]) / 2**10 for line in status.open() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    main()
