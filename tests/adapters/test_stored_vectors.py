"""Search, reranking and pairs in stored forms: equality with brute force, ties by id, candidates and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.adapters.stored_vectors import StoredSide, spilled_vectors
from evaluation.config.stored_forms import StoredForm
from evaluation.stored_forms.fitting import fit_form

N, WIDTH, K = 300, 32, 20
IDS = [f"d{n}" for n in range(N)]


def unit(n: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, WIDTH)) + 0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


DOCUMENTS, QUERIES = unit(N, 1), unit(9, 2)


def side(declared: dict[str, Any]) -> StoredSide:
    form = StoredForm.model_validate(declared)
    return StoredSide(form, DOCUMENTS, IDS, unit_length=True, directions=lambda vectors: vectors)


@pytest.mark.parametrize(
    "declared",
    [
        {"as": "int8"},
        {"as": "int8", "queries": "same"},
        {"as": "binary"},
        {"as": "binary", "queries": "same"},
        {"as": "binary", "center": True, "queries": "same"},
        {"dims": 8, "as": "int8"},
        {"pca": 6},
    ],
    ids=str,
)
def test_search_is_brute_force_over_what_is_read_back(declared: dict[str, Any]) -> None:
    """Ties, of which binary codes on both sides have many, go to the larger id, as trec_eval orders them."""
    fitted = fit_form(StoredForm.model_validate(declared), DOCUMENTS, unit_length=True)
    scores = fitted.queries(QUERIES).astype(np.float64) @ fitted.documents(DOCUMENTS).T
    found = side(declared).search(QUERIES, K, device="cpu")
    for row, ids, own in zip(scores, found.ids, found.scores, strict=True):
        expected = sorted(zip(row.round(5).tolist(), IDS, strict=True), reverse=True)[:K]
        np.testing.assert_allclose(own, [score for score, _ in expected], atol=1e-5)
        if fitted.scores_codes and fitted.stores_queries:
            assert ids == [id_ for _, id_ in expected]
        else:
            assert set(ids[:-1]) <= {
                id_ for id_, score in zip(IDS, row, strict=True) if score >= expected[-1][0] - 1e-5
            }


def test_scores_of_bits_on_both_sides_count_differing_bits() -> None:
    bits = np.unpackbits(np.packbits(DOCUMENTS > 0, axis=1), axis=1), QUERIES > 0
    differing = (bits[0][None] != bits[1][:, None]).sum(axis=2)
    found = side({"as": "binary", "queries": "same"}).search(QUERIES, N, device="cpu")
    for row, ids, own in zip(differing, found.ids, found.scores, strict=True):
        assert own.tolist() == [WIDTH - 2 * row[IDS.index(id_)] for id_ in ids]


def test_rescoring_orders_the_candidates_of_the_smaller_form() -> None:
    declared = {"as": "binary", "queries": "same", "rescore": {"with": "float32", "candidates": 10}}
    first = side({"as": "binary", "queries": "same"}).search(QUERIES, 10, device="cpu")
    found = side(declared).search(QUERIES, K, device="cpu")
    exact = QUERIES @ DOCUMENTS.T
    for row, candidates, ids, own in zip(exact, first.ids, found.ids, found.scores, strict=True):
        expected = sorted(candidates, key=lambda id_: -row[IDS.index(id_)])
        assert ids == expected
        np.testing.assert_allclose(own, [row[IDS.index(id_)] for id_ in expected], atol=1e-6)


def test_rescoring_needs_the_bytes_of_both_forms() -> None:
    size = side({"as": "binary", "rescore": {"candidates": 10}}).size
    assert size == (WIDTH // 8 + WIDTH, 2 * 4 * WIDTH)


def test_candidates_of_a_query_are_ranked_as_a_search_ranks_them() -> None:
    stored = side({"as": "int8"})
    found = stored.search(QUERIES, N, device="cpu")
    some = [5, 40, 41, 120]
    top = stored.rank(QUERIES[0], some)
    in_order = [id_ for id_ in found.ids[0] if id_ in {IDS[at] for at in some}]
    assert [IDS[some[at]] for at in top.positions[0]] == in_order


def test_spilled_vectors_come_back_in_their_order() -> None:
    with spilled_vectors() as spilled:
        spilled.add(DOCUMENTS[:100], IDS[:100])
        spilled.add(DOCUMENTS[100:], IDS[100:])
        np.testing.assert_array_equal(spilled.read(), DOCUMENTS)
        assert spilled.ids == IDS
