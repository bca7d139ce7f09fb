"""An undisturbed run to compare with, and fresh folders for disturbed ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.watched_runs import Orders, Scores, scores_of, start, write_run


@pytest.fixture(scope="session")
def undisturbed(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    orders = Orders(write_run(folder, tiny_checkpoint), folder / "cache", folder / "events", folder / "said")
    process = start(orders)
    process.join(180)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def expected(undisturbed: Path) -> Scores:
    return scores_of(undisturbed / "results" / "small")


@pytest.fixture
def fresh(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Orders]:
    """A function: name of a subfolder -> orders for a run there."""

    def make(name: str, **more: object) -> Orders:
        folder = tmp_path / name
        folder.mkdir()
        config = write_run(folder, tiny_checkpoint)
        return Orders(config, folder / "cache", folder / "events", folder / "said", **more)  # type: ignore[arg-type]

    return make
