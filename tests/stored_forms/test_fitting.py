"""Forms fitted on a stored side: by hand on a few vectors, against scikit-learn's components, and their faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.config.stored_forms import StoredForm
from evaluation.errors import EncodingError
from evaluation.stored_forms import fitting
from evaluation.stored_forms.fitting import FittedForm, fit_form

VECTORS = np.array([[3, 4, 0], [0, 3, 4], [4, 0, 3], [1, 1, 1]], np.float32)


def fit(declared: dict[str, Any], vectors: NDArray[np.float32] = VECTORS, *, unit_length: bool = True) -> FittedForm:
    return fit_form(StoredForm.model_validate(declared), vectors, unit_length=unit_length)


def random_vectors(n: int = 300, width: int = 12) -> NDArray[np.float32]:
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(n, width)) * np.linspace(2, 0.2, width) + rng.normal(size=width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_dims_are_the_first_ones_at_unit_length_only_where_the_protocol_normalises() -> None:
    np.testing.assert_allclose(fit({"dims": 2}).documents(VECTORS)[:2], [[0.6, 0.8], [0, 1]], atol=1e-7)
    assert fit({"dims": 2}, unit_length=False).documents(VECTORS)[:2].tolist() == [[3, 4], [0, 3]]


def test_queries_are_cut_as_documents_are_but_stored_only_where_asked_for() -> None:
    query = np.array([[0.3, -0.2, 9]], np.float32)
    assert fit({"dims": 2, "as": "binary"}, unit_length=False).queries(query).tolist() == query[:, :2].tolist()
    assert fit({"dims": 2, "as": "binary", "queries": "same"}).queries(query).tolist() == [[1, -1]]


def test_center_takes_the_documents_mean_off_both_sides() -> None:
    """The mean of the documents is (2, 2, 2)."""
    found = fit({"as": "binary", "center": True})
    assert found.documents(VECTORS).tolist() == [[1, 1, -1], [-1, 1, 1], [1, -1, 1], [-1, -1, -1]]
    assert found.queries(np.array([[2.5, 0, 2]], np.float32)).tolist() == [[0.5, -2, 0]]


def test_components_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    vectors = random_vectors()
    ours, theirs = (
        fit({"pca": 4}, vectors, unit_length=False),
        PCA(4, svd_solver="full").fit(vectors.astype(np.float64)),
    )
    for rows in (vectors, vectors[:5] + 1):
        found, expected = ours.documents(rows), theirs.transform(rows.astype(np.float64))
        signs = np.sign((found * expected).sum(axis=0))  # a component's sign is free
        np.testing.assert_allclose(found * signs, expected, atol=2e-6)
        np.testing.assert_array_equal(found, ours.queries(rows))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = random_vectors()
    forms = [{"pca": 4, "as": "int8"}, {"as": "binary", "center": True}, {"dims": 5, "as": "int8"}]
    whole = [fit(form, vectors).documents(vectors) for form in forms]
    monkeypatch.setattr(fitting, "BLOCK", 7)
    for expected, form in zip(whole, forms, strict=True):
        np.testing.assert_allclose(fit(form, vectors).documents(vectors), expected, atol=1e-6)


def test_int8_is_normalised_again_where_the_protocol_normalises() -> None:
    vectors = random_vectors()
    for unit_length, least, most in ((True, 0, 1e-6), (False, 1e-4, 0.1)):
        found = fit({"as": "int8"}, vectors, unit_length=unit_length).documents(vectors)
        assert least <= np.abs(np.linalg.norm(found, axis=1) - 1).max() <= most


@pytest.mark.parametrize(
    ("declared", "per_vector", "once"),
    [
        ({"as": "float16"}, 24, 0),
        ({"as": "int8"}, 12, 96),
        ({"as": "binary"}, 2, 0),
        ({"as": "binary", "center": True}, 2, 48),
        ({"dims": 5}, 20, 0),
        ({"dims": 5, "as": "int8"}, 5, 40),
        ({"pca": 4}, 16, 4 * 12 + 4 * 12 * 4),
    ],
)
def test_bytes_of_a_vector_and_of_what_is_needed_once(declared: dict[str, Any], per_vector: int, once: int) -> None:
    assert fit(declared, random_vectors()).size == (per_vector, once)


def test_few_vectors_per_component_are_a_warning() -> None:
    assert not fit({"pca": 4}, random_vectors(80)).warnings
    (warning,) = fit({"pca": 4}, random_vectors(79)).warnings
    assert warning.startswith("stored: pca: 4 is fitted on 79 vectors, fewer than 20 per component")


@pytest.mark.parametrize("option", ["dims", "pca"])
def test_more_dimensions_than_vectors_have_are_refused(option: str) -> None:
    with pytest.raises(EncodingError, match=f"{option}: 4 keeps more than the 3 dimensions"):
        fit({option: 4})


@pytest.mark.parametrize(
    ("vectors", "components", "says"),
    [
        (random_vectors(8), 7, None),
        (
            random_vectors(8),
            8,
            "stored: pca: 8 can't be fitted on 8 vectors, which vary in 7 directions only; lower pca",
        ),
        (np.repeat(random_vectors(5), 50, axis=0), 5, "on 250 vectors, which vary in 4 directions only"),
        (np.ones((40, 12), np.float32), 1, "on 40 vectors, which vary in 0 directions only"),
    ],
)
def test_components_beyond_what_vectors_span_are_refused(
    vectors: NDArray[np.float32], components: int, says: str | None
) -> None:
    """N centred vectors span at most N - 1 dimensions, and copies of a vector add none."""
    if says is None:
        assert fit({"pca": components}, vectors).documents(vectors).shape == (8, components)
        return
    with pytest.raises(EncodingError, match=says):
        fit({"pca": components}, vectors)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(EncodingError, match="no vectors to be fitted on"):
        fit({"as": "int8"}, np.zeros((0, 3), np.float32))
