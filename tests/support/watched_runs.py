"""A run of a few jobs, and processes that do it and can be watched, starved of room and killed.

Imported by the tests, and by a fork server whose children each run the real command: with torch and mteb imported once,
a start costs a second or two. What a child does is written to a file of events, a line each.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from support.small_runs import write_small_run

TASKS = ("Pairs", "Search", "Kinds", "Groups")
SHARD_TEXTS = 40
"""Small shards, where the encoder's rule lets itself be changed: several of them to a job."""


def write_run(folder: Path, model: Path, *, tasks: Sequence[str] = TASKS, name: str = "small") -> Path:
    """The config of a run on data of every kind of table and a retrieval corpus."""
    return write_small_run(folder, tasks, {"tiny": "e5"}, model=model, name=name, runtime={"max_tokens": 2048})


class Scores(NamedTuple):
    """What must not depend on what happened on the way."""

    main: dict[str, float | None]
    scores: dict[str, Any]
    tables: dict[str, dict[str, str]]


def scores_of(run_folder: Path) -> Scores:
    """Of a finished run, every file of it checked by the store on the way."""
    from evaluation.records.store import RunStore

    records = {record.task: record for record in RunStore(run_folder).current_records()}
    return Scores(
        {task: record.main_score for task, record in records.items()},
        {task: record.scores for task, record in records.items()},
        {
            task: {name: sha for name, sha in record.files.items() if name.endswith(".parquet")}
            for task, record in records.items()
        },
    )


def finished_jobs(run_folder: Path) -> set[str]:
    """Tasks with a sound record, whatever run.json says."""
    from evaluation.records.store import read_record

    records = (read_record(file) for file in run_folder.glob("jobs/*/*/*/record.json"))
    return {record.task for record in records if record is not None and record.state == "done"}


# ---------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Orders:
    """What a child is to do, and what is to happen to it.

    Attributes:
        kill_at: An event and its number: there the process is sent its signals.
        signals: One after the other.
        max_file_bytes: RLIMIT_FSIZE: no file can grow beyond.
    """

    config: Path
    cache: Path
    events: Path
    said: Path
    arguments: tuple[str, ...] = ()
    kill_at: tuple[str, int] | None = None
    signals: tuple[int, ...] = (signal.SIGKILL,)
    max_file_bytes: int | None = None


def start(orders: Orders) -> multiprocessing.process.BaseProcess:
    """A new process, forked from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.watched_runs", "support.watched_runs_preload"])
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # the server of 3.11 ignores sys.path
        forkserver.ensure_running()
    process = context.Process(target=work, args=(orders,))
    process.start()
    return process


def work(orders: Orders) -> None:
    """The command, in the child."""
    os.setsid()
    os.environ["E5_EVALUATION_CACHE"] = str(orders.cache)
    said = os.open(orders.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: PTH123, SIM115
    watch(orders.events if orders.max_file_bytes is None else Path(os.devnull), orders)
    if orders.max_file_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (orders.max_file_bytes, hard))
    from evaluation.commands.entry import run_benchmark

    sys.argv = ["run-benchmark", str(orders.config), "--quiet", *orders.arguments]
    run_benchmark()


def watch(events: Path, orders: Orders) -> None:
    """Write a line for each step into `events`, and send the process its signals at a chosen one."""
    import torch

    from evaluation.encoding import batching
    from evaluation.encoding.cache import EmbeddingCache
    from evaluation.execution.local_executor import LocalExecutor
    from evaluation.search.exact import ExactSearch

    torch.set_num_threads(1)
    assert batching.shard_bounds.__kwdefaults__["shard_texts"] == batching.SHARD_TEXTS
    batching.shard_bounds.__kwdefaults__["shard_texts"] = SHARD_TEXTS
    log = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen: Counter[str] = Counter()

    def note(event: str, what: str = "") -> None:
        seen[event] += 1
        os.write(log, f"{os.getpid()} {event} {what}\n".encode())
        if orders.kill_at == (event, seen[event]):
            for number in orders.signals:
                os.kill(os.getpid(), number)

    def surround(owner: Any, method: str, before: str, after: str, name: Callable[..., str]) -> None:
        """Note something before and after each call of a method; `name` makes a word of its arguments."""
        original = getattr(owner, method)

        def watched(*arguments: Any, **options: Any) -> Any:
            if before:
                note(before, name(*arguments))
            found = original(*arguments, **options)
            if method == "get":
                note("take" if found is not None else "encode", name(*arguments))
            elif after:
                note(after, name(*arguments))
            return found

        setattr(owner, method, watched)

    surround(EmbeddingCache, "get", "", "", lambda cache, hashes: shard_name(hashes))
    surround(EmbeddingCache, "put", "encoded", "kept", lambda cache, hashes, shard: shard_name(hashes))
    surround(LocalExecutor, "execute", "job", "scored", lambda executor, job: str(job.task.name))
    surround(ExactSearch, "result", "search", "", lambda search: "")
    surround(os, "fsync", "write", "written", lambda handle: "")


def shard_name(hashes: Any) -> str:
    return f"{hashes.tobytes().hex()[:32]}+{len(hashes)}"


class Event(NamedTuple):
    """One line of a child's events."""

    pid: int
    kind: str
    what: str


def read_events(file: Path) -> list[Event]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    parts = [line.split(" ") for line in lines]
    return [Event(int(pid), kind, what) for pid, kind, what in parts]
