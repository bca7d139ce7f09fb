"""Processes that are killed with SIGKILL: nothing that was finished is lost, nothing unfinished is used."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.watched_runs import TASKS, Event, Orders, Scores, finished_jobs, read_events, scores_of, start

MOMENTS = ["job", "encode", "encoded", "kept", "take", "search", "scored", "write", "written"]


def check_no_finished_job_ran_again(events: list[Event], done_before: set[str]) -> None:
    ran = {event.what for event in events if event.kind == "job"}
    assert not ran & done_before


def check_one_shard_at_most_is_encoded_again(events: list[Event], n_kills: int) -> None:
    """A shard is encoded again only where a process was killed between its encoding and its segment."""
    begun, kept = Counter[str](), Counter[str]()
    for event in events:
        begun[event.what] += event.kind == "encode"
        kept[event.what] += event.kind == "kept"
    assert sum(begun.values()) - len(begun) <= n_kills
    for shard, count in kept.items():
        assert count <= begun[shard]


def run_with_kills(orders: Orders, kills: int, seed: int, expected: Scores) -> Counter[str]:
    """Start until `kills` processes were killed and a last one ended well; rounds begin anew when a run is through.

    Half of the kills come at a random moment of the clock, half at a random step. Returns where they hit.
    """
    rng = random.Random(seed)
    hit: Counter[str] = Counter()
    round_, base = 0, orders.config.parent
    while hit.total() < kills:
        round_ += 1
        cache, events, said = (base / f"{name}{round_}" for name in ("cache", "events", "said"))
        output = base / f"results{round_}"
        here = replace(orders, cache=cache, events=events, said=said, arguments=("--output", str(output)))
        folder = output / "small"
        killed_here = 0
        while True:
            done, n_events = finished_jobs(folder), len(read_events(events))
            want_kill = hit.total() < kills
            by_clock = hit.total() % 2 == 0
            moment = (rng.choice(MOMENTS), rng.randint(1, 6))
            process = start(replace(here, kill_at=moment if want_kill and not by_clock else None))
            if want_kill and by_clock:
                process.join(rng.uniform(0.05, 2.5))
                process.kill()
            process.join(120)
            new = read_events(events)[n_events:]
            check_no_finished_job_ran_again(new, done)
            if process.exitcode == 0:
                break
            assert process.exitcode == -9, said.read_text(encoding="utf-8")
            killed_here += 1
            hit[new[-1].kind if new else "loading"] += 1
        assert scores_of(folder) == expected
        assert not list(folder.rglob("*.tmp"))
        assert not list(base.rglob("*.damaged"))
        check_one_shard_at_most_is_encoded_again(read_events(events), killed_here)
    return hit


@pytest.mark.parametrize(
    ("kills", "seed"), [(3, 1), pytest.param(25, 2, marks=pytest.mark.full)], ids=["3 kills", "25 kills"]
)
def test_killed_runs_end_with_the_scores_of_an_undisturbed_one(
    kills: int, seed: int, fresh: Callable[..., Orders], expected: Scores
) -> None:
    hit = run_with_kills(fresh("run"), kills, seed, expected)
    assert hit.total() == kills
    print("kills by the last step before them:", dict(hit))  # noqa: T201


@pytest.mark.parametrize(
    "moment",
    [("encoded", 4), pytest.param(("write", 5), marks=pytest.mark.full)],
    ids=["before a shard is kept", "in a write"],
)
def test_a_kill_in_the_middle_of_a_job_costs_one_shard(
    moment: tuple[str, int], fresh: Callable[..., Orders], expected: Scores
) -> None:
    orders = fresh("run", kill_at=moment)
    killed = start(orders)
    killed.join(120)
    assert killed.exitcode == -9
    before = read_events(orders.events)
    kept = {event.what for event in before if event.kind == "kept"}
    process = start(replace(orders, kill_at=None))
    process.join(120)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    after = read_events(orders.events)[len(before) :]
    assert not kept & {event.what for event in after if event.kind == "encode"}
    assert scores_of(orders.config.parent / "results" / "small") == expected
    assert set(expected.main) == set(TASKS)


def test_a_killed_holder_s_lock_is_taken_over(fresh: Callable[..., Orders]) -> None:
    orders = fresh("run", kill_at=("job", 1))
    killed = start(orders)
    killed.join(120)
    folder = orders.config.parent / "results" / "small"
    assert (folder / ".holder.json").exists()
    before = time.monotonic()
    process = start(replace(orders, kill_at=None))
    process.join(120)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    assert time.monotonic() - before < 60
    assert not (folder / ".holder.json").exists()
    assert "was killed" in (folder / "run.log").read_text(encoding="utf-8")
    assert Path(folder / "run.json").exists()
