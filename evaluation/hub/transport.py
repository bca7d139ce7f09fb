"""Limits what huggingface_hub accepts from a server: the size of a body, its compression, and the time it may take.

Imports huggingface_hub inside functions only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urljoin

from evaluation.hub.cache import HubError

_UNKNOWN_BYTES = 1 << 27
"""Limit for bodies of which nobody said beforehand how large they are, such as descriptions of repositories."""
_LEAST_BYTES = 1 << 16  # an error has a page of its own
_LIMITING = threading.Lock()
_GRACE_S, _SLOWEST_BYTES_PER_S = 60.0, 1_000


def limit_transport() -> None:
    """Puts the limits into huggingface_hub's client, once per process; versions without clients stay as they are.

    Setting them closes the client, which other threads may be using.
    """
    with _LIMITING:
        _limit()


@cache
def _limit() -> None:
    import huggingface_hub

    set_factory = getattr(huggingface_hub, "set_client_factory", None)
    if set_factory is not None:  # before version 1 there was none
        set_factory(_limited_client)


def _limited_client() -> Any:
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.headers["Accept-Encoding"] = "identity"  # what is not compressed can't expand
    stream_class = import_module(type(client).__module__.partition(".")[0]).SyncByteStream
    guard = _Guard(type("LimitedStream", (_LimitedStream, stream_class), {}))
    client.event_hooks = {**client.event_hooks, "response": [*client.event_hooks.get("response", []), guard]}
    return client


class _Guard:
    """Called with every response before its body is read. Notes the sizes that answers to HEAD and redirects state."""

    def __init__(self, limited: Any) -> None:
        self._limited = limited
        self._sizes: dict[str, int] = {}

    def __call__(self, response: Any) -> None:
        url, headers = str(response.request.url), response.headers
        length = headers.get("Content-Length", "")
        announced = headers.get("X-Linked-Size", length if response.request.method == "HEAD" else "")
        if announced.isdecimal():
            self._sizes[url] = int(announced)
        if response.has_redirect_location and url in self._sizes:
            self._sizes[urljoin(url, headers["Location"])] = self._sizes[url]
        place = f"{response.request.url.host}{response.request.url.path}"
        if headers.get("Content-Encoding", "identity") != "identity":
            raise HubError(f"{place} was sent compressed, which was not asked for; check HF_ENDPOINT and the network.")
        known = self._sizes.get(url, int(length) if length.isdecimal() else _UNKNOWN_BYTES)
        response.stream = self._limited(response.stream, max(known, _LEAST_BYTES), place)


class _LimitedStream:
    """The body of a response, up to a size and above a speed."""

    def __init__(self, stream: Any, most: int, place: str) -> None:
        self._stream, self._most, self._place = stream, most, place

    def __iter__(self) -> Iterator[bytes]:
        started, received = time.monotonic(), 0
        for chunk in self._stream:
            received += len(chunk)
            if received > self._most:
                raise HubError(
                    f"{self._place} sends more than the {self._most:,} bytes that were announced; check HF_ENDPOINT "
                    "and the network."
                )
            if time.monotonic() - started > _GRACE_S + received / _SLOWEST_BYTES_PER_S:
                raise HubError(
                    f"{self._place} sends less than a kilobyte per second. Start again later: what was fetched is kept."
                )
            yield chunk

    def close(self) -> None:
        self._stream.close()
