"""Two processes: on one run folder the second is refused or waits, on one cache they share the work."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.watched_runs import Orders, Scores, read_events, scores_of, start

from evaluation.errors import FolderInUseError
from evaluation.execution.run_lock import HOLDER_FILE, hold


def wait_for(events: Path, kind: str) -> None:
    deadline = time.monotonic() + 120
    while not any(event.kind == kind for event in read_events(events)):
        assert time.monotonic() < deadline, kind
        time.sleep(0.005)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.full)])
def test_two_runs_on_one_cache_share_the_work(rounds: int, fresh: Callable[..., Orders], expected: Scores) -> None:
    most_doubled = 0
    for number in range(rounds):
        first = fresh(f"first {number}")
        second = replace(fresh(f"second {number}"), cache=first.cache)
        processes = [start(first), start(second)]
        for process, orders in zip(processes, (first, second), strict=True):
            process.join(120)
            assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
            assert scores_of(orders.config.parent / "results" / "small") == expected
        encoded = Counter(
            event.what for orders in (first, second) for event in read_events(orders.events) if event.kind == "encode"
        )
        assert len(encoded) > 8
        most_doubled = max(most_doubled, encoded.total() - len(encoded))
        names = [path.name for path in first.cache.rglob("*") if path.is_file()]
        assert not [name for name in names if name.endswith((".damaged", ".tmp", ".claim"))]
        assert sum(name.endswith(".safetensors") for name in names) == len(encoded)
    print(f"{rounds} rounds, at most {most_doubled} shards encoded twice")  # noqa: T201
    assert most_doubled <= 1


def test_the_second_on_one_run_folder_is_told_who_holds_it(fresh: Callable[..., Orders], expected: Scores) -> None:
    orders = fresh("run")
    first = start(orders)
    wait_for(orders.events, "job")
    refused = replace(orders, events=orders.config.parent / "events 2", said=orders.config.parent / "said 2")
    second = start(refused)
    waiting = replace(refused, said=orders.config.parent / "said 3", arguments=("--wait",))
    third = start(waiting)
    second.join(120)
    first.join(120)
    third.join(120)
    said = refused.said.read_text(encoding="utf-8")
    assert (first.exitcode, second.exitcode, third.exitcode) == (0, 2, 0), said
    assert f"is in use by process {first.pid} on " in said
    assert "--wait" in said
    assert len(said.splitlines()) == 1
    assert f"is in use by process {first.pid} on " in waiting.said.read_text(encoding="utf-8")
    assert not [event for event in read_events(refused.events) if event.kind == "job"]
    assert scores_of(orders.config.parent / "results" / "small") == expected


def test_the_lock_is_one_s_own_and_free_again(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        holder = json.loads((tmp_path / "run" / HOLDER_FILE).read_text(encoding="utf-8"))
        with (
            pytest.raises(FolderInUseError, match=rf"in use by process {holder['pid']} on .* add --wait"),
            hold(tmp_path / "run"),
        ):
            pass
    with hold(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / HOLDER_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"pid": 1}'])
def test_a_damaged_holder_s_file_does_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    with hold(tmp_path / "run"):
        (tmp_path / "run" / HOLDER_FILE).write_bytes(content)
        with pytest.raises(FolderInUseError, match="in use by another process"), hold(tmp_path / "run"):
            pass
    (tmp_path / "run" / HOLDER_FILE).write_bytes(content)
    with hold(tmp_path / "run"):
        pass
