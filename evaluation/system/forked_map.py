"""Applies a function to many items in copies of this process, one per processor."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from io import BufferedRandom
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_POSITION = array("I")


def map_forked(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Returns the function's results in the order of the items, as a loop would.

    Copies are made on Linux only, and only of a process without other threads, whose locks a copy would hold forever;
    elsewhere this is a loop. What the function changes in a copy is lost.

    Args:
        function: Its results can be pickled.

    Raises:
        Exception: What the function raises.
    """
    n = min(_processors(), len(items))
    if n < 2 or sys.platform != "linux" or threading.active_count() > 1:
        return [function(item) for item in items]
    results: dict[int, Result] = {}
    children: dict[int, BufferedRandom] = {}
    with _memory_file() as queue:
        queue.write(array(_POSITION.typecode, range(len(items))).tobytes())
        queue.seek(0)
        try:
            with contextlib.suppress(BlockingIOError):  # the system allows no more processes
                for _ in range(n - 1):
                    stream = _memory_file()
                    children[_fork(function, items, queue, stream)] = stream
            for at in _taken_from(queue):
                results[at] = function(items[at])
            while children:
                pid = next(iter(children))
                _, status = os.waitpid(pid, 0)
                with children.pop(pid) as stream:
                    stream.seek(0)
                    if status == 0:
                        results |= pickle.load(stream)  # noqa: S301 (our own)
        finally:
            for pid, stream in children.items():
                stream.close()
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
    # what a copy could not do is done here, and raises here
    return [results[at] if at in results else function(item) for at, item in enumerate(items)]


def _fork(
    function: Callable[[Item], Result], items: Sequence[Item], queue: BufferedRandom, stream: BufferedRandom
) -> int:
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
        results = {at: function(items[at]) for at in _taken_from(queue)}
        pickle.dump(results, stream, protocol=pickle.HIGHEST_PROTOCOL)
        stream.flush()
        status = 0
    finally:
        os._exit(status)  # nothing else of this process may run twice: exit handlers, buffered output


def _memory_file() -> BufferedRandom:
    return os.fdopen(os.memfd_create("forked_map"), "w+b")


def _taken_from(queue: BufferedRandom) -> Iterator[int]:
    """Takes positions from a file until none is left; copies of a process share its place in the file."""
    while taken := os.read(queue.fileno(), _POSITION.itemsize):
        yield int.from_bytes(taken, sys.byteorder)


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
