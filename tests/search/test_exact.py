"""Exact search: against numbers checked by hand, a full sort, pytrec_eval's order of ties, and other blocks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.search import exact as search
from evaluation.search import top_k as leaders
from evaluation.search.exact import ExactSearch, MergedSearch, TopK, rank_candidates

REPOSITORY = Path(__file__).parents[2]
Floats = NDArray[np.float32]


def in_blocks(
    queries: Floats, documents: Floats, ids: Sequence[str], k: int, ends: Sequence[int] = (), device: str = "cpu"
) -> TopK:
    """Search documents that arrive in blocks; a block ends after each of the `ends`."""
    searching = ExactSearch(queries, k, device=device)
    bounds = [0, *sorted(ends), len(documents)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        searching.add(documents[start:stop], ids[start:stop])
    return searching.result()


def by_full_sort(queries: Floats, documents: Floats, ids: Sequence[str], k: int) -> TopK:
    """The definition: all scores, sorted by score and then by the bytes of the id, both descending."""
    scores = (queries.astype(np.float64) @ documents.T.astype(np.float64)).astype(np.float32)
    by_id = sorted(range(len(ids)), key=lambda row: ids[row].encode("utf-8"), reverse=True)
    place = np.empty(len(ids), np.int64)
    place[by_id] = np.arange(len(ids))
    order = np.empty((len(queries), min(k, len(ids))), np.int64)
    for row, of_query in zip(order, scores, strict=True):
        row[:] = np.lexsort((place, -of_query))[:k]
    return TopK(np.take_along_axis(scores, order, 1), order)


def assert_same(found: TopK, expected: TopK) -> None:
    assert found.scores.dtype == np.float32
    assert found.positions.dtype == np.int64
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.positions, expected.positions)


def small_integers(rng: np.random.Generator, n: int, dimension: int, largest: int) -> Floats:
    """Vectors whose products are exact in float32 and tie often."""
    return rng.integers(-largest, largest + 1, (n, dimension)).astype(np.float32)


def shuffled_ids(rng: np.random.Generator, n: int) -> list[str]:
    return [f"{'dé'[number % 2]}{number}" for number in rng.permutation(n).tolist()]


# ------------------------------------------------------------------------------------------------------ checked by hand


def test_ranks_by_inner_product() -> None:
    queries = np.array([[1, 0], [1, 2]], np.float32)
    documents = np.array([[3, 0], [0, 4], [2, 1]], np.float32)
    top = in_blocks(queries, documents, ["a", "b", "c"], k=2)
    np.testing.assert_array_equal(top.scores, [[3, 2], [8, 4]])  # of all: 3 0 2, and 3 8 4
    np.testing.assert_array_equal(top.positions, [[0, 2], [1, 2]])


def test_the_larger_id_wins_a_tie_also_at_the_cut() -> None:
    documents = np.array([[1], [2], [1], [1]], np.float32)
    searching = ExactSearch(np.ones((1, 1), np.float32), 3)
    searching.add(documents, ["d10", "d1", "d9", "d8"])
    top = searching.result()
    assert searching.document_ids(top.positions) == [["d1", "d9", "d8"]]  # "d10" < "d8" < "d9"


@pytest.mark.parametrize(
    "ascending",
    [
        ["DOC", "Doc", "doc"],
        ["", "a", "a\x00", "ab"],
        [
            "z",
            "é",
            "\u2028",
            "\ufffd",
            "\U0001f600",
        ],  # UTF-16, which Java and Windows sort by, has the last two swapped
    ],
    ids=["case", "prefixes", "unicode"],
)
def test_ids_are_compared_as_utf8_bytes(ascending: list[str]) -> None:
    assert ascending == sorted(ascending, key=lambda name: name.encode("utf-8"))
    shuffled = ascending[1:] + ascending[:1]
    searching = ExactSearch(np.ones((1, 1), np.float32), len(ascending))
    searching.add(np.ones((len(ascending), 1), np.float32), shuffled)
    assert searching.document_ids(searching.result().positions) == [ascending[::-1]]
    best = in_blocks(np.ones((1, 1), np.float32), np.ones((len(ascending), 1), np.float32), shuffled, k=1)
    assert shuffled[best.positions.item()] == ascending[-1]


# -------------------------------------------------------------------------------------------------- against a full sort


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_a_full_sort(data: st.DataObject) -> None:
    """Small tiles and little room, so that each of the ways through `offer` is taken many times."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    n_queries = data.draw(st.integers(0, 20), label="queries")
    n_documents = data.draw(st.integers(1, 700), label="documents")
    dimension, largest = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 30))
    k = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 1000)), label="k")
    ends = data.draw(st.lists(st.integers(0, n_documents), max_size=8), label="ends of blocks")
    queries = small_integers(rng, n_queries, dimension, largest)
    documents = small_integers(rng, n_documents, dimension, largest)
    order = data.draw(st.sampled_from(["random", "rising", "falling"]), label="order")
    if order != "random" and n_queries:
        documents = documents[np.argsort(documents @ queries[0] * (1 if order == "rising" else -1))]
    ids = shuffled_ids(rng, n_documents)
    tile, room = data.draw(st.sampled_from([3, 64, 8192])), data.draw(st.sampled_from([1, 50]))
    tiles = patch.multiple(search, _CPU_TILE=tile, _CPU_BLOCK=6, _MIN_BLOCK=1)
    with tiles, patch.object(leaders, "_MIN_ROOM", room):
        found = in_blocks(queries, documents, ids, k, ends)
    assert_same(found, by_full_sort(queries, documents, ids, k))


@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_equals_a_full_sort_over_several_tiles(order: str) -> None:
    rng = np.random.default_rng(1)
    queries, documents = small_integers(rng, 70, 6, 3), small_integers(rng, 20_000, 6, 3)
    if order != "random":
        documents = documents[np.argsort(documents @ queries[0] * (1 if order == "rising" else -1))]
    ids = shuffled_ids(rng, len(documents))
    assert_same(in_blocks(queries, documents, ids, 300, [5_000, 16_500]), by_full_sort(queries, documents, ids, 300))


@pytest.mark.parametrize("n_candidates", [0, 1, 2, 30, 1000])
def test_candidates_of_one_query_are_ordered_alike(n_candidates: int) -> None:
    rng = np.random.default_rng(17)
    query, documents = small_integers(rng, 1, 6, 2), small_integers(rng, n_candidates, 6, 2)
    ids = shuffled_ids(rng, n_candidates)
    assert_same(rank_candidates(query[0], documents, ids), by_full_sort(query, documents, ids, 1000))
    real = rng.standard_normal(6, dtype=np.float32)
    copies = np.repeat(rng.standard_normal((1, 6), dtype=np.float32), n_candidates, axis=0)
    top = rank_candidates(real, copies, ids)
    assert [ids[row] for row in top.positions[0]] == sorted(ids, reverse=True)


def test_real_vectors_agree_with_double_precision() -> None:
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((130, 48), dtype=np.float32)
    documents = rng.standard_normal((20_000, 48), dtype=np.float32)
    ids = shuffled_ids(rng, len(documents))
    found, expected = in_blocks(queries, documents, ids, 100), by_full_sort(queries, documents, ids, 100)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    scores = np.einsum("qd,qkd->qk", queries, documents[found.positions])
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)
    assert (np.sort(found.positions) == np.sort(expected.positions)).mean() > 0.99  # others within rounding of the cut


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("n_documents", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("n_queries", [1, 16, 17])
def test_k_may_exceed_the_corpus(n_queries: int, n_documents: int) -> None:
    rng = np.random.default_rng(3)
    queries, documents = small_integers(rng, n_queries, 5, 2), small_integers(rng, n_documents, 5, 2)
    ids = shuffled_ids(rng, n_documents)
    found = in_blocks(queries, documents, ids, 1000)
    assert found.scores.shape == (n_queries, n_documents)
    assert_same(found, by_full_sort(queries, documents, ids, 1000))


def test_blocks_of_one_document() -> None:
    rng = np.random.default_rng(4)
    queries, documents, ids = small_integers(rng, 3, 4, 1), small_integers(rng, 200, 4, 1), shuffled_ids(rng, 200)
    found = in_blocks(queries, documents, ids, 20, range(1, 200))
    assert_same(found, by_full_sort(queries, documents, ids, 20))


def test_no_queries_and_no_documents() -> None:
    vectors = np.ones((7, 3), np.float32)
    assert in_blocks(vectors[:0], vectors, list("abcdefg"), 5).scores.shape == (0, 5)
    searching = ExactSearch(vectors, 5)
    assert searching.result().positions.shape == (7, 0)
    searching.add(vectors[:0], [])
    assert searching.result().scores.shape == (7, 0)


def test_a_result_may_be_asked_for_in_between() -> None:
    rng = np.random.default_rng(5)
    queries, documents, ids = small_integers(rng, 4, 5, 2), small_integers(rng, 300, 5, 2), shuffled_ids(rng, 300)
    searching = ExactSearch(queries, 30)
    searching.add(documents[:120], ids[:120])
    assert_same(searching.result(), by_full_sort(queries, documents[:120], ids[:120], 30))
    searching.add(documents[120:], ids[120:])
    assert_same(searching.result(), by_full_sort(queries, documents, ids, 30))
    assert_same(searching.result(), by_full_sort(queries, documents, ids, 30))


def test_documents_are_not_changed_and_their_memory_may_be_used_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    queries, documents, ids = small_integers(rng, 4, 5, 2), small_integers(rng, 300, 5, 2), shuffled_ids(rng, 300)
    np.save(tmp_path / "vectors.npy", documents)
    block = documents[:150].copy()
    searching = ExactSearch(queries, 30)
    searching.add(block, ids[:150])
    np.testing.assert_array_equal(block, documents[:150])
    block[:] = np.nan
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")[150:]  # can't be written to, nor shared with torch
    searching.add(mapped, ids[150:])
    assert_same(searching.result(), by_full_sort(queries, documents, ids, 30))


@pytest.mark.parametrize("change", [np.asfortranarray, lambda rows: rows.astype(np.float64), lambda rows: rows[::-1]])
def test_layouts_of_arrays_do_not_matter(change: Callable[[Floats], Floats]) -> None:
    rng = np.random.default_rng(7)
    queries, documents = change(small_integers(rng, 20, 5, 2)), change(small_integers(rng, 9_000, 5, 2))
    ids = shuffled_ids(rng, 9_000)
    assert_same(in_blocks(queries, documents, ids, 30), by_full_sort(queries, documents, ids, 30))


# ---------------------------------------------------------------------------- blocks, copies, threads, kernels, devices


@pytest.mark.parametrize("ends", [[1], [100, 8_192], [8_191, 16_385], range(500, 20_000, 500)], ids=str)
def test_blocks_do_not_change_a_bit(ends: Sequence[int]) -> None:
    rng = np.random.default_rng(8)
    queries = rng.standard_normal((33, 24), dtype=np.float32)
    documents = rng.standard_normal((20_000, 24), dtype=np.float32)
    ids = shuffled_ids(rng, len(documents))
    assert_same(in_blocks(queries, documents, ids, 50, ends), in_blocks(queries, documents, ids, 50))


@pytest.mark.parametrize("n_queries", [1, 5, 100])
def test_copies_of_a_document_tie_wherever_they_stand(n_queries: int) -> None:
    rng = np.random.default_rng(9)
    queries = rng.standard_normal((n_queries, 96), dtype=np.float32)
    documents = rng.standard_normal((17_003, 96), dtype=np.float32)
    copies = np.append(rng.choice(17_000, 60, replace=False), 17_002)  # the last stands in a tile of its own kind
    documents[copies] = 5 * queries.mean(0)
    ids = shuffled_ids(rng, len(documents))
    top = in_blocks(queries, documents, ids, 40)
    expected = sorted(copies.tolist(), key=lambda row: ids[row].encode("utf-8"), reverse=True)
    for scores, positions in zip(top.scores, top.positions.tolist(), strict=True):
        tied = [place for place in positions if place in set(expected)]
        assert len(set(scores[[positions.index(place) for place in tied]])) <= 1
        assert tied == expected[: len(tied)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit_and_are_left_as_they_were(threads: int) -> None:
    rng = np.random.default_rng(10)
    queries = rng.standard_normal((300, 24), dtype=np.float32)
    documents = rng.standard_normal((10_000, 24), dtype=np.float32)
    ids = shuffled_ids(rng, len(documents))
    before = torch.get_num_threads()
    usual = in_blocks(queries, documents, ids, 50)
    try:
        torch.set_num_threads(threads)
        found = in_blocks(queries, documents, ids, 50)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_same(found, usual)


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch has no oneDNN")
def test_the_packed_product_finds_the_same() -> None:
    rng = np.random.default_rng(11)
    queries, documents = small_integers(rng, 140, 20, 3), small_integers(rng, 9_001, 20, 3)
    ids = shuffled_ids(rng, len(documents))
    with patch.object(search, "_packing_pays", return_value=True):
        found = in_blocks(queries, documents, ids, 50)
    assert_same(found, by_full_sort(queries, documents, ids, 50))


def test_products_ignore_a_lower_precision_that_the_process_allows() -> None:
    rng = np.random.default_rng(12)
    queries = rng.standard_normal((40, 64), dtype=np.float32)
    documents = rng.standard_normal((500, 64), dtype=np.float32)
    ids = shuffled_ids(rng, 500)
    usual, before = in_blocks(queries, documents, ids, 500), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert_same(in_blocks(queries, documents, ids, 500), usual)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("order", ["random", "rising"])
def test_a_gpu_finds_the_same(order: str) -> None:
    rng = np.random.default_rng(13)
    queries, documents = small_integers(rng, 70, 6, 3), small_integers(rng, 100_000, 6, 3)
    if order == "rising":
        documents = documents[np.argsort(documents @ queries[0])]
    ids = shuffled_ids(rng, len(documents))
    found = in_blocks(queries, documents, ids, 300, [50_000], device="cuda")
    assert_same(found, by_full_sort(queries, documents, ids, 300))


# ---------------------------------------------------------------------------------------------------------- many copies


def test_a_corpus_of_copies_keeps_the_largest_ids() -> None:
    rng = np.random.default_rng(14)
    queries = rng.standard_normal((20, 8), dtype=np.float32)
    documents = np.repeat(queries[:1], 30_000, axis=0)
    ids = shuffled_ids(rng, len(documents))
    top = in_blocks(queries, documents, ids, 500, [10_000, 12_345])
    best = sorted(range(30_000), key=lambda row: ids[row].encode("utf-8"), reverse=True)[:500]
    np.testing.assert_array_equal(top.positions, [best] * 20)


def test_thousands_of_copies_at_the_cut() -> None:
    rng = np.random.default_rng(15)
    queries = np.abs(rng.standard_normal((20, 8), dtype=np.float32))
    documents = np.repeat(np.ones((1, 8), np.float32), 25_000, axis=0)
    better = rng.choice(25_000, 100, replace=False)
    documents[better] += rng.random((100, 8), dtype=np.float32) + 1
    ids = shuffled_ids(rng, len(documents))
    top = in_blocks(queries, documents, ids, 300)
    copies = sorted(set(range(25_000)) - set(better.tolist()), key=lambda row: ids[row].encode("utf-8"), reverse=True)
    for positions in top.positions.tolist():
        assert set(positions[:100]) == set(better.tolist())
        assert positions[100:] == copies[:200]


def test_measures_equal_those_of_the_full_ranking() -> None:
    """pytrec_eval sorts a run itself: it must not matter whether it gets our k best or all documents."""
    rng = np.random.default_rng(16)
    queries, documents = small_integers(rng, 30, 4, 1), small_integers(rng, 3_000, 4, 1)
    ids = shuffled_ids(rng, len(documents))
    qrels = {
        f"q{query}": {ids[row]: int(rng.integers(1, 4)) for row in rng.choice(3_000, 300, replace=False)}
        for query in range(30)
    }
    everything = {
        f"q{query}": dict(zip(ids, scores.tolist(), strict=True)) for query, scores in enumerate(queries @ documents.T)
    }
    searching = ExactSearch(queries, 100)
    searching.add(documents, ids)
    top = searching.result()
    ours = {
        f"q{query}": dict(zip(names, scores.tolist(), strict=True))
        for query, (names, scores) in enumerate(zip(searching.document_ids(top.positions), top.scores, strict=True))
    }
    measures = {"ndcg_cut.5,10,100", "recall.10,100", "P.1,100", "map_cut.100"}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, measures)
    expected = evaluator.evaluate(everything)
    assert sum(of_query["ndcg_cut_100"] for of_query in expected.values()) > 1
    assert evaluator.evaluate(ours) == expected


@pytest.mark.full
def test_two_million_streamed_documents_take_less_than_a_gibibyte() -> None:
    command = [sys.executable, "benchmarks/search.py", "--memory", "--queries", "500"]
    output = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    assert json.loads(output.splitlines()[-1])["rss_growth_mib"] <= 1024


# ------------------------------------------------------------------------------------------------ searched in parts


def in_parts(
    queries: Floats, documents: Floats, ids: Sequence[str], k: int, parts: Sequence[NDArray[np.int64]]
) -> tuple[TopK, list[int]]:
    """Search each part by itself and merge; beside the result, how many candidates each part handed over."""
    merged = MergedSearch(len(queries), k)
    assert merged.announce(ids) == 0
    handed_over = []
    for part in parts:
        searching = ExactSearch(queries, k, bounds=merged.bounds)
        searching.add(documents[part], [ids[place] for place in part])
        found = searching.candidates()
        handed_over.append(len(found.scores))
        merged.add(found._replace(positions=part[found.positions]), len(part))
    return merged.result(), handed_over


def test_merges_parts_by_hand() -> None:
    queries, documents = np.array([[1.0]], np.float32), np.array([[5], [7], [7], [1]], np.float32)
    found, handed_over = in_parts(queries, documents, list("abcd"), 2, [np.array([3, 0]), np.array([1, 2])])
    np.testing.assert_array_equal(found.scores, [[7, 7]])
    np.testing.assert_array_equal(found.positions, [[2, 1]])  # c before b
    assert handed_over == [2, 2]
    found, handed_over = in_parts(queries, documents, list("abcd"), 2, [np.array([1, 2]), np.array([3, 0])])
    np.testing.assert_array_equal(found.positions, [[2, 1]])
    assert handed_over == [2, 0]  # the bound is 7 by then


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_parts=st.integers(1, 9), k=st.integers(1, 60), largest=st.integers(1, 4))
def test_merged_parts_are_one_search(seed: int, n_parts: int, k: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 500))
    queries, documents, ids = (
        small_integers(rng, 5, 4, largest),
        small_integers(rng, n, 4, largest),
        shuffled_ids(rng, n),
    )
    parts = [part for part in np.array_split(rng.permutation(n), n_parts) if len(part)]
    found, _ = in_parts(queries, documents, ids, k, parts)
    assert_same(found, by_full_sort(queries, documents, ids, k))


def test_bounds_keep_candidates_few() -> None:
    """k (1 + 1/2 + 1/3 + ...) of them are wanted of equally good parts, not k of each."""
    rng = np.random.default_rng(8)
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    documents = rng.standard_normal((40_000, 16)).astype(np.float32)
    ids = [str(number) for number in range(len(documents))]
    parts = np.array_split(rng.permutation(len(documents)), 40)
    found, handed_over = in_parts(queries, documents, ids, 100, parts)
    expected = in_blocks(queries, documents, ids, 100)
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert sum(handed_over) < 0.4 * 40 * 100 * len(queries)
