"""Runs work in threads that never keep the process alive: one call with a deadline, or many calls side by side.

Threads of `concurrent.futures` are joined when the process ends, so one that waits for a silent server would hold up
Ctrl-C. These are abandoned instead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ended(NamedTuple):
    """How a call ended: its place among all calls, and its result or its exception."""

    place: int
    result: object
    error: BaseException | None


def call_with_deadline(work: Callable[[], Result], seconds: float) -> Result:
    """Returns what `work` returns. A call that takes longer is abandoned and goes on in its thread.

    Raises:
        TimeoutError: The deadline has passed.
    """
    ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
    _start(lambda: ended.put(_call(0, work)))
    try:
        done = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no result within {seconds:g} s") from None
    return _result_of(done)  # type: ignore[return-value]  # of the same work


def map_in_threads(
    work: Callable[[Item, threading.Event], Result], items: Sequence[Item], n_threads: int
) -> Iterator[tuple[int, Result]]:
    """Yields the place of each item with its result, as they end; the first exception is raised at once.

    Args:
        work: Called with an item, and with an event that is set once results are no longer wanted.
        items: Taken in order.
        n_threads: Calls at the same time.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(items)):
        waiting.put(place)
    ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                return
            done = _call(place, lambda: work(items[place], stopped))  # noqa: B023 (called at once)
            if done.error is not None:
                stopped.set()
            ended.put(done)

    try:
        for _ in range(min(n_threads, len(items))):
            _start(serve)
        for _ in items:
            done = ended.get()
            yield done.place, _result_of(done)  # type: ignore[misc]  # of the same work
    finally:
        stopped.set()


def _start(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()


def _call(place: int, work: Callable[[], object]) -> _Ended:
    try:
        return _Ended(place, work(), None)
    except BaseException as error:
        return _Ended(place, None, error)


def _result_of(done: _Ended) -> object:
    if done.error is not None:
        raise done.error
    return done.result
