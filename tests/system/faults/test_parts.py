"""Parts of one run as processes on one folder: at once, killed, started again; the table is that of one run."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import TASKS, write_small_run
from support.watched_runs import Orders, read_events, start

from evaluation.errors import FolderInUseError
from evaluation.execution.run_lock import hold
from evaluation.planning.parts import Part
from evaluation.records.store import RunStore

LABELS = {"tiny": "e5", "bare": "none"}


def orders_in(folder: Path, model: Path) -> Orders:
    folder.mkdir(exist_ok=True)
    config = write_small_run(folder, list(TASKS), LABELS, model=model, name="small", runtime={"max_tokens": 2048})
    return Orders(config, folder / "cache", folder / "events", folder / "said")


def results_of(run_folder: Path) -> dict[tuple[str, str], Any]:
    """(label, task) -> scores and the checksums of the tables, of a finished run."""
    records = RunStore(run_folder).current_records()
    assert all(record.state == "done" for record in records)
    return {
        (record.label, record.task): (
            record.scores,
            {name: sha256 for name, sha256 in record.files.items() if name.endswith(".parquet")},
        )
        for record in records
    }


def summary_of(run_folder: Path) -> tuple[list[str], str]:
    """The table without what was measured of the machine, and summary.csv."""
    measured = ("| Tokens/s", "| Hours", "| Peak memory")
    lines = (run_folder / "summary.md").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("| Mean over ") for line in lines)
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(measured)]
    return rows, (run_folder / "summary.csv").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run by one process."""
    orders = orders_in(tmp_path_factory.mktemp("whole"), tiny_checkpoint)
    process = start(orders)
    process.join(180)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    return orders.config.parent / "results" / "small"


@pytest.fixture
def orders(whole: Path, tiny_checkpoint: Path, tmp_path: Path) -> Orders:
    """Orders in a fresh folder, on a machine where the model was proved before."""
    orders = orders_in(tmp_path / "parts", tiny_checkpoint)
    shutil.copytree(whole.parents[1] / "cache" / "proofs", orders.cache / "proofs")
    return orders


def check_whole(orders: Orders, whole: Path) -> None:
    run_folder = orders.config.parent / "results" / "small"
    assert results_of(run_folder) == results_of(whole)
    assert summary_of(run_folder) == summary_of(whole)
    parts, one = RunStore(run_folder).read_run(), RunStore(whole).read_run()
    assert [(job.key, job.state) for job in parts.jobs] == [(job.key, job.state) for job in one.jobs]
    assert parts.ended is not None
    assert not [file for file in run_folder.rglob("*.tmp")]


def run_parts(orders: Orders, n_parts: int, killed: Sequence[int]) -> None:
    """Run all parts at once; kill some of them in mid-job, and start these again while the others go on."""
    parts = {
        number: replace(orders, arguments=("--part", f"{number}/{n_parts}"), said=orders.said.with_suffix(f".{number}"))
        for number in range(1, n_parts + 1)
    }
    starts = {
        number: replace(part, kill_at=("encoded", 2), signals=(signal.SIGKILL,)) if number in killed else part
        for number, part in parts.items()
    }
    running = {number: start(part) for number, part in starts.items()}
    for number in killed:
        running[number].join(180)
        assert running[number].exitcode == -signal.SIGKILL
        running[number] = start(parts[number])
    for number, process in running.items():
        process.join(240)
        assert process.exitcode == 0, parts[number].said.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("n_parts", "killed"), [(3, (2,)), pytest.param(8, (3, 6), marks=pytest.mark.full)], ids=["three", "eight"]
)
def test_parts_at_once_give_the_table_of_one_run(
    n_parts: int, killed: tuple[int, ...], whole: Path, orders: Orders
) -> None:
    run_parts(orders, n_parts, killed)
    check_whole(orders, whole)
    events = read_events(orders.events)
    scored = Counter(event.what for event in events if event.kind == "scored")
    assert scored == Counter(dict.fromkeys(TASKS, len(LABELS))), "no job ran twice"
    kept = Counter(event.what for event in events if event.kind == "kept")
    encoded = Counter(event.what for event in events if event.kind == "encode")
    assert max(kept.values()) == 1, "no vector was stored twice"
    assert encoded.total() - len(encoded) <= len(killed), "only what was under way when a part was killed"


def test_parts_keep_out_whole_runs_the_same_part_and_other_divisions(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with hold(folder, part=Part(1, 3)), hold(folder, part=Part(2, 3)):
        for other in (None, Part(1, 3), Part(1, 4)):
            with pytest.raises(FolderInUseError, match="is in use by process"), hold(folder, part=other):
                pass
        with hold(folder, part=Part(3, 3)):
            pass
    with hold(folder), contextlib.ExitStack() as held, pytest.raises(FolderInUseError, match="in use by process"):
        held.enter_context(hold(folder, part=Part(1, 3)))
    with hold(folder, part=Part(1, 4)):
        pass


def test_glances_of_other_parts_are_not_taken_for_a_run(tmp_path: Path) -> None:
    """Parts that start at the same moment look at the same lock of the whole run."""
    with hold(tmp_path / "run"):
        pass
    started = time.monotonic()
    for _ in range(20):
        with contextlib.ExitStack() as held:
            for number in range(1, 9):
                held.enter_context(hold(tmp_path / "run", part=Part(number, 8)))
    assert time.monotonic() - started < 30
