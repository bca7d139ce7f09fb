"""Sends a batch of texts to an embedding server, in smaller requests where the server refuses its size.

What the status of a refusal means is decided here; `system/retries.py` knows those that pass, and
`endpoint_sessions.py` redirects.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NoReturn

import numpy as np

from evaluation.config.model_config import EndpointConfig
from evaluation.encoding.endpoint_answers import Answer, check_widths, read_answer
from evaluation.encoding.endpoint_requests import EndpointClient, Refusal
from evaluation.errors import EmptyTextError, ModelError

_INPUT_TYPES = {"query:": "query", "passage:": "passage"}
_SIZE_STATUS = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})
_REQUEST_STATUS = frozenset({*_SIZE_STATUS, HTTPStatus.BAD_REQUEST})
_SIZE_WORDS = re.compile(
    r"batch|too (large|long|many|big)|tokens?\b|length|longer|exceed|maximum|at most|less than|limit|size",
    re.IGNORECASE,
)
_LENGTH_WORDS = re.compile(r"tokens?\b|length|longer|payload|entity|body|bytes|characters", re.IGNORECASE)
_FORMAT_WORDS = re.compile(r"encoding_format|base64", re.IGNORECASE)
_WIDEST, _NUMBER_BYTES, _ROW_BYTES, _ANSWER_BYTES = 16_384, 32, 1_024, 1 << 16
"""The largest answer: values per vector until the server's own width is known, and bytes of JSON for each part."""


class BatchSender:
    """Sends batches, and remembers what the server does not accept. Threads may share it.

    Args:
        client: Sends single requests.
        model: The model's name on the server.
    """

    def __init__(self, client: EndpointClient, endpoint: EndpointConfig, model: str) -> None:
        self.client, self._endpoint, self._model = client, endpoint, model
        self._most_texts, self._most_characters = endpoint.batch, float("inf")
        self._as_base64 = True
        self._width: int | None = None

    def send(self, batch: Sequence[str], prefix: str, stopped: threading.Event) -> Answer:
        """Returns the vectors of a batch, (B, D) float32 in its order.

        Args:
            batch: B texts, the prefix in front of each.
            prefix: Taken off again where the server is told the side of the task instead.
            stopped: Ends waiting for the server.

        Raises:
            ModelError: The server refuses even a single text, or the request for another reason than its size.
            EmptyTextError: The server refuses an empty text.
            EncodingError: Vectors can't be matched with their texts.
        """
        n_characters = sum(map(len, batch))
        if len(batch) > 1 and (len(batch) > self._most_texts or n_characters > self._most_characters):
            return self._in_halves(batch, prefix, stopped)
        as_base64 = self._as_base64
        outcome = self.client.post(
            self._body(batch, prefix, as_base64=as_base64), max_bytes=self._most_bytes(len(batch)), stopped=stopped
        )
        if not isinstance(outcome, Refusal):
            answer = read_answer(outcome, len(batch), self.client.url)
            self._width, self.client.answered = answer.vectors.shape[1], True
            return answer
        if as_base64 and outcome.status in _REQUEST_STATUS and _FORMAT_WORDS.search(outcome.words):
            self._as_base64 = False
            return self.send(batch, prefix, stopped)
        has_empty = any(not text[len(prefix) :].strip() for text in batch)
        if not self._may_pass_in_parts(outcome, has_empty=has_empty):
            self._refuse(outcome)
        if len(batch) == 1:
            self._refuse_text(outcome, batch[0], is_empty=has_empty)
        self._note_limit(outcome, len(batch), n_characters)
        return self._in_halves(batch, prefix, stopped)

    def send_as(self, batch: Sequence[str], input_type: str | None) -> Answer | None:
        """Returns the vectors of a batch that is sent with an input type, or with none; None if that is refused."""
        body = self._body(batch, "", as_base64=self._as_base64)
        if input_type is not None:
            body["input_type"] = input_type
        outcome = self.client.post(body, max_bytes=self._most_bytes(len(batch)), stopped=threading.Event())
        return None if isinstance(outcome, Refusal) else read_answer(outcome, len(batch), self.client.url)

    def _in_halves(self, batch: Sequence[str], prefix: str, stopped: threading.Event) -> Answer:
        middle = len(batch) // 2
        halves = [self.send(half, prefix, stopped) for half in (batch[:middle], batch[middle:])]
        check_widths({half.vectors.shape[1] for half in halves}, self.client.url)
        counts = [half.tokens for half in halves if half.tokens is not None]
        return Answer(np.concatenate([half.vectors for half in halves]), sum(counts) if len(counts) == 2 else None)

    def _body(self, batch: Sequence[str], prefix: str, *, as_base64: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "input": list(batch)}
        if as_base64:
            body["encoding_format"] = "base64"
        if self._endpoint.prefix == "input_type" and prefix:
            body |= {"input": [text[len(prefix) :] for text in batch], "input_type": _input_type(prefix)}
        return body

    def _most_bytes(self, n_texts: int) -> int:
        width = self._width or _WIDEST
        return _ANSWER_BYTES + n_texts * (_ROW_BYTES + _NUMBER_BYTES * width)

    def _may_pass_in_parts(self, refusal: Refusal, *, has_empty: bool) -> bool:
        """Whether the refusal may be about the size of the request or about one of its texts."""
        is_told = has_empty or bool(_SIZE_WORDS.search(refusal.words))
        return refusal.status in _SIZE_STATUS or (refusal.status == HTTPStatus.BAD_REQUEST and is_told)

    def _note_limit(self, refusal: Refusal, n_texts: int, n_characters: int) -> None:
        """Keeps later requests below a size that was refused, in characters where the words are about length."""
        if refusal.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _LENGTH_WORDS.search(refusal.words):
            self._most_characters = min(self._most_characters, max(n_characters // 2, 1))
        elif _SIZE_WORDS.search(refusal.words):
            self._most_texts = min(self._most_texts, max(n_texts // 2, 1))

    def _refuse(self, refusal: Refusal) -> NoReturn:
        raise ModelError(
            f"the endpoint {self.client.url} refuses the request (HTTP {refusal.status}): {refusal.words}."
        )

    def _refuse_text(self, refusal: Refusal, text: str, *, is_empty: bool) -> NoReturn:
        refuses = f"the endpoint {self.client.url} refuses"
        reason = f"(HTTP {refusal.status}): {refusal.words}."
        if not self.client.answered and not _SIZE_WORDS.search(refusal.words):
            self._refuse(refusal)  # every text, it seems
        if is_empty:
            raise EmptyTextError(f"{refuses} it {reason}")
        raise ModelError(
            f"{refuses} even a single text of {len(text):,} characters ({text[:80]!r}) {reason} Raise the server's "
            "limit, or set endpoint.max_characters to have texts cut before they are sent."
        )


def _input_type(prefix: str) -> str:
    name = prefix.strip()
    if name not in _INPUT_TYPES:
        raise ModelError(
            f"the prefix {prefix!r} is not an input_type; set endpoint.prefix: text, or choose another protocol."
        )
    return _INPUT_TYPES[name]
