"""The proof: agreement and its limits by stub passes, what is stored, and what does not fit or can't be run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.checkpoint_variations import change_json, change_weights, plain, sentence_model
from support.resolved_models import resolve

from evaluation.errors import EncodingError, ModelError
from evaluation.execution import resolving
from evaluation.models import memory, proof
from evaluation.models.facts import CheckpointFacts, TextRole
from evaluation.models.proof import prove
from evaluation.models.proof_store import Proven
from evaluation.models.reference import ReferenceSettings
from evaluation.models.reference_loading import load_reference

FLOAT32 = ReferenceSettings(torch.float32, "cpu")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single_thread: None) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proved") / "model"
    sentence_model(folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    sentence_model(folder)
    return folder


class Stub:
    """The library's own ids and vectors, then changed."""

    def __init__(
        self,
        folder: Path,
        vectors: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda found: found,
        ids: Callable[[list[list[int]]], list[list[int]]] = lambda found: found,
    ) -> None:
        self._reference = load_reference(folder, "model", FLOAT32)
        self._vectors, self._ids = vectors, ids

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        return self._ids(self._reference.ids(texts, TextRole()) or [])

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        return self._vectors(np.concatenate([self._reference.embed([text], TextRole()).numpy() for text in texts]))


def proved(folder: Path, **changes: Any) -> Proven:
    return prove(folder, "model", FLOAT32, lambda facts: Stub(folder, **changes))


# ---------------------------------------------------------------------------------------------------------- comparison


def test_agreement_runs_our_forward_pass(model: Path) -> None:
    facts, found = proved(model)
    assert (found.outcome, found.reference) == ("fast", "sentence-transformers, float32")
    assert found.cosine_distance is not None and found.cosine_distance < 1e-6
    assert found.length_difference is not None and found.length_difference < 1e-5
    assert (found.cosine_limit, found.length_limit) == (1e-5, 1e-5)
    assert found.versions["torch"] == torch.__version__
    assert (facts.max_length, facts.normalize, facts.pooling, facts.embedding_dim) == (32, True, "mean", 16)


def turned(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The third vector turned by an angle whose cosine is 1 - 2e-5, its length kept."""
    changed = vectors.astype(np.float64)
    row = changed[2]
    across = np.roll(row, 1) - row * (np.roll(row, 1) @ row) / (row @ row)
    across *= np.linalg.norm(row) / np.linalg.norm(across)
    angle = np.arccos(1 - 2e-5)
    changed[2] = np.cos(angle) * row + np.sin(angle) * across
    return changed.astype(np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vectors": turned}, "our vectors differ from the library's"),
        ({"vectors": lambda found: found * np.float32(1.00002)}, "relative length 2.0e-05"),
        ({"vectors": lambda found: found * np.float32("nan")}, "our vectors differ"),
        ({"vectors": lambda found: found[:, :5]}, "our vectors have 5 dimensions, not 16"),
        ({"ids": lambda found: [*found[:-1], [*found[-1][:-1], 9]]}, "our token ids of 2 probe texts differ"),
    ],
)
def test_disagreement_runs_the_library_and_says_why(model: Path, change: Any, words: str) -> None:
    found = proved(model, **change).proof
    assert found.outcome == "library"
    assert words in found.reason


@pytest.mark.parametrize("error", [EncodingError("2 of 2 vectors can't be used."), RuntimeError("no such kernel")])
def test_forward_pass_that_fails_is_not_used(model: Path, error: Exception) -> None:
    def fail(facts: CheckpointFacts) -> Stub:
        raise error

    found = prove(model, "model", FLOAT32, fail).proof
    assert found.outcome == "library"
    assert f"our own forward pass does not run it: {'' if isinstance(error, EncodingError) else 'RuntimeError: '}" in (
        found.reason
    )
    assert str(error) in found.reason


def test_real_forward_pass_in_half_precision_is_within_twice_the_library(model: Path, tmp_path: Path) -> None:
    found = resolve(model, tmp_path, dtype="bfloat16")
    assert found.proof is not None
    assert found.settings.forward == "ours", found.proof.reason
    assert found.proof.reference == "sentence-transformers, float32"
    assert found.proof.cosine_limit is not None and found.proof.cosine_limit > 1e-5
    assert found.proof.cosine_distance is not None and found.proof.cosine_distance <= found.proof.cosine_limit


def test_library_vector_that_is_not_finite_is_refused(copy: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in weights if "layer.1.output.LayerNorm.bias" in name)
        return {**weights, name: torch.full_like(weights[name], float("inf"))}

    change_weights(copy, spoil)
    with pytest.raises(ModelError, match="its own library returns a vector with NaN or infinity for"):
        proved(copy)


# -------------------------------------------------------------------------------------------------------------- memory


def test_float32_that_does_not_fit_names_the_way_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    with pytest.raises(
        ModelError, match=r"model needs 0\.0 GiB in float32, but cpu has only 0\.0 GiB free; set dtype: bfloat16"
    ):
        proved(model)


def test_half_precision_is_held_against_half_where_float32_does_not_fit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: memory.needed_bytes(model, "bfloat16"))
    found = resolve(model, tmp_path, dtype="bfloat16").proof
    assert found is not None
    assert found.reference == "sentence-transformers, bfloat16"
    assert found.cosine_limit == proof.HALF_TOLERANCE["bfloat16"]


def test_weights_are_counted_from_headers(model: Path) -> None:
    from transformers import AutoModel

    n_weights = sum(weight.numel() for weight in AutoModel.from_pretrained(model).parameters())
    assert memory.needed_bytes(model, "float32") == int(1.1 * 4 * n_weights)
    assert memory.needed_bytes(model, "bfloat16") == int(1.1 * 2 * n_weights)


# --------------------------------------------------------------------------------------------------------------- store


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were loaded by a library for a proof."""
    found: list[Path] = []

    def noting(folder: Path, *arguments: Any) -> Any:
        found.append(folder)
        return load_reference(folder, *arguments)

    monkeypatch.setattr(proof, "load_reference", noting)
    return found


def test_second_time_no_library_is_loaded(model: Path, tmp_path: Path, loads: list[Path]) -> None:
    first = resolve(model, tmp_path)
    second = resolve(model, tmp_path)
    assert len(loads) == 1
    assert second == first


def test_another_setting_is_another_proof(model: Path, tmp_path: Path, loads: list[Path]) -> None:
    resolve(model, tmp_path)
    other = resolve(model, tmp_path, max_length=20)
    assert len(loads) == 2
    assert other.settings.max_length == 20


@pytest.mark.parametrize("file", ["1_Pooling/config.json", "tokenizer_config.json", "modules.json"])
def test_a_changed_file_is_another_proof(copy: Path, tmp_path: Path, loads: list[Path], file: str) -> None:
    resolve(copy, tmp_path)
    path = copy / file
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    resolve(copy, tmp_path)
    assert len(loads) == 2


def test_another_version_of_a_library_is_another_proof(
    model: Path, tmp_path: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(model, tmp_path)
    monkeypatch.setattr(resolving, "library_versions", lambda: {"torch": "0.1"})
    resolve(model, tmp_path)
    assert len(loads) == 2


def test_damaged_proof_is_made_again(model: Path, tmp_path: Path, loads: list[Path]) -> None:
    resolve(model, tmp_path)
    [file] = (tmp_path / "cache" / "proofs").glob("*.json")
    file.write_bytes(file.read_bytes().replace(b'"max_length": 32', b'"max_length": 31'))
    assert resolve(model, tmp_path).settings.max_length == 32
    assert len(loads) == 2


# ------------------------------------------------------------------------------------------------- settings of a config


def test_truncate_dim_of_the_config_cuts_after_the_modules(model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from evaluation.encoding.encoder import Encoder

    found = resolve(model, tmp_path, truncate_dim=5)
    assert (found.settings.forward, found.settings.truncate_dim, found.checkpoint.normalize) == ("ours", 5, False)
    expected = SentenceTransformer(str(model), device="cpu", truncate_dim=5).encode(["cat", "a longer text"])
    vectors = Encoder(found.checkpoint, found.settings).encode(["cat", "a longer text"]).vectors
    assert np.abs(vectors - expected).max() < 1e-5
    assert found.identity != resolve(model, tmp_path).identity


def test_library_is_used_where_the_config_asks_for_it(model: Path, tmp_path: Path) -> None:
    found = resolve(model, tmp_path, backend="sentence-transformers")
    assert found.settings.forward == "library"
    assert found.proof is not None and found.proof.reason == "backend: sentence-transformers asks for it."


def test_too_long_for_the_positions_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="max_length 33 is more than the 32 positions of local/model; lower it"):
        resolve(model, tmp_path, max_length=33)


def test_pooling_of_the_config_opens_a_generative_model(tmp_path: Path) -> None:
    from support.checkpoint_variations import GPT2, NO_TOKEN_TYPES

    folder = tmp_path / "decoder"
    plain(folder, **GPT2, tokens=NO_TOKEN_TYPES)
    assert resolve(folder, tmp_path, pooling="last").settings.pooling == "last"


def test_declared_precision_is_read(copy: Path, tmp_path: Path) -> None:
    change_json(copy / "config.json", dtype="bfloat16")
    assert resolve(copy, tmp_path).checkpoint.declared_dtype == "bfloat16"
