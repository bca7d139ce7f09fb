"""Applies a function to many items in copies of this process, one per processor."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from io import BufferedRandom
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_forked(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns the function's results in the order of the items, as a loop would.

    Copies are made on Linux only, and only of a process without other threads, whose locks a copy would hold forever;
    elsewhere this is a loop. What the function changes in a copy is lost.

    Args:
        function: Its results can be pickled.
        items: Each about as much work as the others.

    Raises:
        Exception: What the function raises.
    """
    n = min(_processors(), len(items))
    if n < 2 or sys.platform != "linux" or threading.active_count() > 1:
        return [function(item) for item in items]
    shares = [range(first, len(items), n) for first in range(n)]
    children: dict[int, tuple[BufferedRandom, range]] = {}
    results: dict[int, Result] = {}
    try:
        for share in shares[1:]:
            stream = os.fdopen(os.memfd_create("results"), "w+b")
            children[_fork(function, [items[at] for at in share], stream)] = stream, share
        for at in shares[0]:
            results[at] = function(items[at])
        while children:
            pid = next(iter(children))
            _, status = os.waitpid(pid, 0)
            stream, share = children.pop(pid)
            with stream:
                stream.seek(0)
                for at in share:  # what a child could not do is done here, and raises here
                    results[at] = function(items[at]) if status else pickle.load(stream)  # noqa: S301 (our own)
    finally:
        for pid, (stream, _) in children.items():
            stream.close()
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return [results[at] for at in range(len(items))]


def _fork(function: Callable[[Item], Result], items: Sequence[Item], stream: BufferedRandom) -> int:
    """Starts a copy of this process that writes its results to a stream. Returns its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads of OpenBLAS, which it stops before a fork
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for item in items:
            pickle.dump(function(item), stream, protocol=pickle.HIGHEST_PROTOCOL)
        stream.flush()
        status = 0
    finally:
        os._exit(status)  # nothing else of this process may run twice: exit handlers, buffered output


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
