"""Sends requests to an embedding server.

Each has a deadline and a cap on the size of its answer, and is retried until the patience ends.
Knows HTTP; knows nothing of batches and vectors.
"""

from __future__ import annotations

import datetime
import email.utils
import itertools
import json
import logging
import threading
import time
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import requests
import urllib3

from evaluation.config.model_config import EndpointConfig
from evaluation.encoding.endpoint_answers import server_words
from evaluation.encoding.endpoint_sessions import endpoint_session
from evaluation.errors import EncodingError, ModelError
from evaluation.system.limited_reading import parse_json
from evaluation.system.retries import PASSING_STATUS
from evaluation.system.threads import call_with_deadline

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Between tries of a server that names no time; the pause doubles from the first to the longest."""
_CHUNK_BYTES, _ERROR_BYTES = 1 << 16, 1 << 16
_CONNECTION_FAULTS = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)


class Refusal(NamedTuple):
    """A 4xx answer that another try would get again: its status and the server's words."""

    status: int
    words: str


class _Passing(NamedTuple):
    """A failure that may pass: why, and the pause that the server asks for."""

    reason: str
    pause_s: float | None = None


class _Received(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class EndpointClient:
    """Sends requests to one server. Threads may share it.

    Args:
        endpoint: The address, the limits, and the environment variable that holds the key.

    Attributes:
        url: Where requests go.
        answered: Whether the server has answered properly before. From then on, a refused connection counts as a
            restart of the server, and its requests are tried again.
        n_lost: How often a connection was refused or cut.
    """

    def __init__(self, endpoint: EndpointConfig) -> None:
        self.url = f"{endpoint.url.rstrip('/')}/embeddings"
        self.answered, self.n_lost = False, 0
        self._endpoint = endpoint
        self._session = endpoint_session(endpoint)
        self._session.headers.update({"Accept-Encoding": "gzip", "Content-Type": "application/json"})
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=endpoint.concurrency)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def post(
        self, body: Mapping[str, Any], *, max_bytes: int, stopped: threading.Event
    ) -> dict[str, Any] | list[Any] | Refusal:
        """Sends a request until the server answers or refuses it, for `endpoint.patience_s` at most.

        Args:
            body: The request, as JSON.
            max_bytes: The largest answer that is read.
            stopped: Ends the pauses between tries.

        Raises:
            ModelError: The server can't be reached, stays busy, or does not answer with JSON.
            EncodingError: The answer is larger than `max_bytes`.
        """
        payload, patience = json.dumps(body).encode(), self._endpoint.patience_s
        ends = time.monotonic() + patience
        for attempt in itertools.count():
            outcome = self._try(payload, max_bytes, stopped)
            if not isinstance(outcome, _Passing):
                return outcome
            if stopped.is_set():
                break
            pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) if outcome.pause_s is None else outcome.pause_s
            if time.monotonic() + pause > ends:
                self.answered = False  # the next job does not wait as long for a server that is gone
                wanted = "" if outcome.pause_s is None else f", and asks for a pause of {pause:g} s"
                raise ModelError(
                    f"the endpoint {self.url} {outcome.reason}{wanted}; endpoint.patience_s ({patience:g} s) does not "
                    "allow another try. Start the same run again later, or raise endpoint.patience_s."
                )
            _LOG.warning("the endpoint %s %s; the next try is in %g s.", self.url, outcome.reason, pause)
            if stopped.wait(pause):
                break
        raise ModelError(f"the request to {self.url} was given up, because another one failed.")

    def _try(
        self, payload: bytes, max_bytes: int, stopped: threading.Event
    ) -> dict[str, Any] | list[Any] | Refusal | _Passing:
        seconds = self._endpoint.timeout_s
        try:
            received = call_with_deadline(lambda: self._exchange(payload, max_bytes, stopped), seconds)
        except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
            return _Passing(f"did not answer completely within {seconds:g} s (endpoint.timeout_s)")
        except requests.exceptions.SSLError as error:
            raise ModelError(f"the endpoint {self.url} has no valid TLS certificate: {error}.") from error
        except _CONNECTION_FAULTS as error:
            self.n_lost += 1
            if self.answered or _was_cut(error):
                return _Passing("refused or cut the connection")
            raise ModelError(
                f"the endpoint {self.url} can't be reached; start the server, or correct endpoint.url."
            ) from error
        except requests.RequestException as error:
            raise ModelError(f"the endpoint {self.url} can't be asked ({error}); correct endpoint.url.") from error
        if received.status in PASSING_STATUS:
            words = server_words(received.content)
            return _Passing(f"answers HTTP {received.status} ({words})", _retry_after(received.headers))
        if received.status >= HTTPStatus.BAD_REQUEST:
            return Refusal(received.status, server_words(received.content))
        return self._parse(received.content)

    def _parse(self, content: bytes) -> dict[str, Any] | list[Any] | _Passing:
        try:
            found = parse_json(content)
            if not isinstance(found, dict | list):
                raise ValueError
        except ValueError as error:
            if self.answered:
                return _Passing(f"answered with something other than JSON ({server_words(content)})")
            raise ModelError(f"the endpoint {self.url} did not return JSON; check endpoint.url.") from error
        return found

    def _exchange(self, payload: bytes, max_bytes: int, stopped: threading.Event) -> _Received:
        """Sends one request and reads its answer; of an answer that reports an error, only the beginning."""
        seconds = self._endpoint.timeout_s
        ends = time.monotonic() + seconds
        with self._session.post(self.url, data=payload, timeout=seconds, stream=True) as response:
            is_error = response.status_code >= HTTPStatus.BAD_REQUEST
            most = _ERROR_BYTES if is_error else max_bytes
            unpacking = zlib.decompressobj(wbits=47) if response.headers.get("Content-Encoding") else None
            content = bytearray()
            while len(content) <= most and (chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False)):
                try:
                    content += unpacking.decompress(chunk, most + 1 - len(content)) if unpacking else chunk
                except zlib.error:
                    break  # what was read is no JSON
                if stopped.is_set() or time.monotonic() > ends:
                    raise TimeoutError
        if len(content) > most and not is_error:
            raise EncodingError(
                f"the endpoint {self.url} sends more than {max_bytes:,} bytes, more than the vectors that were asked "
                "for can take; check endpoint.url and the server."
            )
        return _Received(response.status_code, response.headers, bytes(content[:most]))


def _was_cut(error: BaseException) -> bool:
    """Whether a connection was made and then lost, so that a server is there."""
    causes = (error, *error.args)
    return any(isinstance(cause, urllib3.exceptions.ProtocolError) for cause in causes) or isinstance(
        error, requests.exceptions.ChunkedEncodingError
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that the header Retry-After asks for, as a number or a date; None where it has neither."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(tz=datetime.UTC)).total_seconds())
