"""Retries calls that fail for transient network reasons: timeouts, cut connections, busy servers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

_LOG = logging.getLogger(__name__)
_PAUSES_S = (2.0, 8.0, 30.0)
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that another try may not get."""
_PASSING_NAMES = frozenset(
    {
        "TimeoutException",  # httpx; the base of its four timeouts
        "ReadError",  # httpx: the connection was cut
        "WriteError",
        "RemoteProtocolError",
        "Timeout",  # requests
        "ChunkedEncodingError",
        "ProtocolError",  # urllib3
        "ServerDisconnectedError",  # aiohttp
        "ClientPayloadError",
    }
)
"""Classes of HTTP libraries, one of which the Hub's client uses: by name, so that none of them has to be installed."""

T = TypeVar("T")


def with_retries(ask: Callable[[], T], what: str) -> T:
    """What `ask` returns; asked up to three times more where it fails for a reason that can pass.

    Args:
        ask: Raises whatever its libraries raise.
        what: For the log: what is asked for.
    """
    for pause in _PAUSES_S:
        try:
            return ask()
        except Exception as error:
            if not can_pass(error):
                raise
            _LOG.warning("%s: %s; trying again in %g s.", what, type(error).__name__, pause)
            time.sleep(pause)
    return ask()


def can_pass(error: BaseException) -> bool:
    """Whether the same request may well succeed in a minute: no answer in time, a cut connection, 429 or 5xx.

    Not so: a missing or gated repository, no permission, offline mode, a host that is unknown or refuses connections.
    """
    found = list(_chain(error))
    statuses = [getattr(getattr(link, "response", None), "status_code", None) for link in found]
    known = [status for status in statuses if isinstance(status, int)]
    if known:
        return known[0] in PASSING_STATUS
    return any(_is_passing(link) for link in found)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, TimeoutError | ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return True
    return any(kind.__name__ in _PASSING_NAMES for kind in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
