"""Proves that our own forward pass gives the library's vectors for a checkpoint: probe texts go through both.

Token ids must be identical; raw pooled vectors must agree in direction and in length. Where they don't, or where a
checkpoint has parts that only its library runs, the library's own forward pass is used, and the proof says why. A proof
is stored by the content of everything it depends on. Knows our forward pass only as a function that it is given.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.errors import EncodingError, EvaluationError, ModelError
from evaluation.models.facts import CheckpointFacts, Route, TextRole
from evaluation.models.memory import check_fits, fits, needed_bytes
from evaluation.models.proof_store import Proof, Proven, library_versions
from evaluation.models.reference import Reference, ReferenceSettings, reason_of
from evaluation.models.reference_loading import load_reference

FULL_TOLERANCE = 1e-5
"""Largest cosine distance and relative difference of lengths in float32."""
HALF_FACTOR = 2.0
"""In half precision: the library's own distance to its float32, times this."""
HALF_TOLERANCE = {"bfloat16": 1e-3, "float16": 1e-4}
"""In half precision, where the library's float32 does not fit into memory."""

_SMALL = 2**26  # bytes of weights that need not be let go at once
_LONGEST_VECTOR = 1_024  # tokens of a probe whose vectors are compared; of longer ones the ids alone
_LONGEST_TEXT = 40_000  # words of the probe beyond the maximum length
_PARAGRAPH = (
    "The quick brown fox jumps over the lazy dog, while 42 researchers in Zürich measure how long a sentence can grow. "
)
_PARAGRAPH_WORDS, _PARAGRAPH_TOKENS = 21, 32  # tokens at most, with the usual vocabularies
PROBES = (
    "a",
    "cat",
    "dog",
    "",
    "query: how much protein should a female eat",
    "passage: As a general guideline, the average requirement is 46 grams per day.",
    "ÜBER GRÖSSE: Naïve CAFÉS in İstanbul, ÇA VA, École",
    "日本語のテキストと中文文本",
    "русский текст, ελληνικά, العربية, हिन्दी, ไทย",
    "emoji 🙂👩‍👩‍👧 and zero\u200bwidth",
    "runs   of     blanks\tand\ttabs  ",
    "line\nbreaks\r\nand\n\nempty lines\n",
    "e\u0301 is é, ﬁ is fi, ① is 1",
    "[CLS] <s> [MASK] <mask> </s> [SEP] inside a text",
    "https://example.org/a?b=1&c=2 costs $1,234.50 -- “about” 3.14159 (really)",
    _PARAGRAPH * 5,
)


class FastPath(Protocol):
    """Our own forward pass of a checkpoint, loaded."""

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to the maximum length."""

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) raw pooled vectors, in batches as in a run."""


class _Distances(NamedTuple):
    cosine: float
    length: float


class _Probed(NamedTuple):
    """Probe texts with what the library makes of them; `long`: a text beyond the maximum length, for its ids."""

    texts: list[str]
    ids: list[list[int]] | None
    vectors: NDArray[np.float32]
    long: str
    long_ids: list[list[int]] | None


def prove(
    folder: Path,
    name: str,
    settings: ReferenceSettings,
    load_fast: Callable[[CheckpointFacts], FastPath],
    *,
    library_asked: bool = False,
) -> Proven:
    """Load a checkpoint by its library, then by our own code, and compare; one copy of the weights at a time.

    Args:
        settings: How it is to be run.
        load_fast: Loads our own forward pass for a checkpoint with these facts.
        library_asked: Whether the config asks for the library.

    Raises:
        ModelError: It is not a dense sentence encoder, can't be loaded or run by its library, or does not fit into
            memory.
    """
    started = time.perf_counter()
    dtype = str(settings.dtype).removeprefix("torch.")
    check_fits(folder, name, dtype=dtype, device=settings.device)
    whole = settings.dtype == torch.float32 or fits(folder, dtype="float32", device=settings.device)
    reference_dtype = "float32" if whole and not library_asked else dtype
    facts, probed = _by_library(folder, name, replace(settings, dtype=getattr(torch, reference_dtype)))
    blank = Proof(
        outcome="library",
        reason="",
        reference=f"{facts.library}, {reference_dtype}",
        n_texts=len(probed.texts),
        cosine_distance=None,
        length_difference=None,
        cosine_limit=None,
        length_limit=None,
        versions=dict(library_versions()),
        seconds=0.0,
    )
    obstacle = "backend: sentence-transformers asks for it." if library_asked else _obstacle(facts, probed)
    if obstacle is not None:
        proof = replace(blank, reason=obstacle)
    else:
        limits = _Distances(FULL_TOLERANCE, FULL_TOLERANCE)
        if reference_dtype != dtype:
            half = _by_library(folder, name, settings)[1]
            own = _distances(half.vectors, probed.vectors)
            limits = _Distances(*(max(HALF_FACTOR * distance, FULL_TOLERANCE) for distance in own))
        elif dtype != "float32":
            limits = _Distances(HALF_TOLERANCE[dtype], math.sqrt(HALF_TOLERANCE[dtype]))
        proof = _compared(probed, load_fast, facts, limits, blank)
    return Proven(facts, replace(proof, seconds=round(time.perf_counter() - started, 3)))


def _by_library(folder: Path, name: str, settings: ReferenceSettings) -> tuple[CheckpointFacts, _Probed]:
    """What the library says and does; its weights are let go before this returns."""
    reference = load_reference(folder, name, settings)
    try:
        return reference.facts, _probe(reference)
    except EvaluationError as error:
        raise ModelError(str(error)) from error
    except Exception as error:  # whatever a library, or a repository's own code, makes of a probe text
        raise ModelError(f"{name} can't be run by {reference.facts.library}: {reason_of(error)}") from error
    finally:
        del reference
        if needed_bytes(folder, "float32") > _SMALL:  # modules hold one another in circles
            gc.collect()
        if settings.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _probe(reference: Reference) -> _Probed:
    facts, role = reference.facts, TextRole()
    long = _PARAGRAPH * (min(facts.max_length, _LONGEST_TEXT) // _PARAGRAPH_WORDS + 2)
    prompts = [f"{prompt}how long is a sentence" for prompt in facts.prompts.values()]
    texts = list(dict.fromkeys([*PROBES, *prompts]))
    texts.append(long if facts.max_length <= _LONGEST_VECTOR else _PARAGRAPH * (_LONGEST_VECTOR // _PARAGRAPH_TOKENS))
    if not _takes_empty(reference):
        texts.remove("")
    vectors = _library_vectors(reference, texts, role)
    if facts.routed:
        routes: tuple[Route, ...] = ("query", "document")
        for route in routes:
            _library_vectors(reference, texts[:2], TextRole(route=route))
    return _Probed(texts, reference.ids(texts, role), vectors, long, reference.ids([long], role))


def _takes_empty(reference: Reference) -> bool:
    """Whether the library makes a usable vector of an empty text."""
    try:
        vector = reference.embed([""], TextRole())
    except EncodingError:
        return False
    return bool(torch.isfinite(vector).all() and vector.any())


def _library_vectors(reference: Reference, texts: list[str], role: TextRole) -> NDArray[np.float32]:
    """(N, D) vectors, in batches whose texts differ in length, but not so much that they are mostly padding."""
    lengths = np.array(reference.full_lengths(texts, role)).clip(max=reference.facts.max_length)
    found: dict[int, NDArray[np.float32]] = {}
    batch: list[int] = []
    order = [int(place) for place in np.argsort(lengths, kind="stable")]
    for place, following in zip(order, [*order[1:], None], strict=True):
        batch.append(place)
        if following is None or lengths[following] > 4 * max(int(lengths[batch[0]]), 8):
            vectors = reference.embed([texts[row] for row in batch], role).cpu().numpy()
            found |= dict(zip(batch, vectors, strict=True))
            batch = []
    stacked = np.stack([found[place] for place in range(len(texts))])
    for text, vector in zip(texts, stacked, strict=True):
        if not np.isfinite(vector).all():
            raise ModelError(
                f"{reference.name}: its own library returns a vector with NaN or infinity for "
                f"{text[:40]!r}; set dtype: float32, or choose another checkpoint."
            )
    return stacked


def _obstacle(facts: CheckpointFacts, probed: _Probed) -> str | None:
    """Why our own forward pass can't run a checkpoint, if it can't."""
    if facts.routed:
        return "queries and documents take different ways through it (Router)."
    if facts.architecture.endswith(("Encoder", "EncoderModel")):
        return f"its architecture is {facts.architecture}."
    if not facts.plain:
        return f"its modules are {', '.join(facts.modules)}."
    if facts.pooling not in {"mean", "cls", "last"}:
        return f"its pooling is {facts.pooling}."
    if not facts.include_prompt:
        return "it leaves the tokens of a prompt out of its pooling (include_prompt: false)."
    return "its library gives no token ids." if probed.ids is None else None


def _compared(
    probed: _Probed,
    load_fast: Callable[[CheckpointFacts], FastPath],
    facts: CheckpointFacts,
    limits: _Distances,
    blank: Proof,
) -> Proof:
    """Run our own forward pass on the probe texts."""
    try:
        fast = load_fast(facts)
        own_ids, own_long_ids = fast.token_ids(probed.texts), fast.token_ids([probed.long])
        vectors = fast.vectors(probed.texts)
    except EvaluationError as error:
        return replace(blank, reason=f"our own forward pass does not run it: {error}")
    except Exception as error:  # whatever a model class of transformers makes of it
        return replace(blank, reason=f"our own forward pass does not run it: {reason_of(error)}")
    ids = [*(probed.ids or []), *(probed.long_ids or [])]
    different = [place for place, own in enumerate([*own_ids, *own_long_ids]) if own != ids[place]]
    if different:
        text = [*probed.texts, probed.long][different[0]]
        return replace(blank, reason=f"our token ids of {len(different)} probe texts differ, {text[:40]!r} among them.")
    if vectors.shape != probed.vectors.shape:
        return replace(blank, reason=f"our vectors have {vectors.shape[1]} dimensions, not {probed.vectors.shape[1]}.")
    found = _distances(vectors, probed.vectors)
    agree = found.cosine <= limits.cosine and found.length <= limits.length
    measured = replace(
        blank,
        cosine_distance=found.cosine,
        length_difference=found.length,
        cosine_limit=limits.cosine,
        length_limit=limits.length,
    )
    if agree:
        return replace(measured, outcome="fast", reason="token ids and vectors agree with the library's.")
    where = f"cosine distance {found.cosine:.1e}, relative length {found.length:.1e}"
    return replace(measured, reason=f"our vectors differ from the library's ({where}).")


def _distances(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> _Distances:
    """The largest cosine distance and the largest relative difference of lengths of corresponding rows."""
    ours, theirs = vectors.astype(np.float64), reference.astype(np.float64)
    lengths, expected = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    products = np.maximum(lengths * expected, np.finfo(np.float64).tiny)
    cosine = 1 - (ours * theirs).sum(axis=1) / products
    relative = np.abs(lengths - expected) / np.maximum(expected, np.finfo(np.float64).tiny)
    return _Distances(float(np.max(cosine)), float(np.max(relative)))
