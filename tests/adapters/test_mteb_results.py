"""Fetching mteb's results repository with Git, from a repository on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.published_results import write_result

from evaluation.adapters.mteb_results import fetch_results
from evaluation.analysis.comparison.results_repository import read_repository
from evaluation.hub.cache import HubError


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_repository_is_cloned_updated_and_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    origin = tmp_path / "origin"
    for number, model in enumerate(("x/one", "x/two")):
        write_result(origin, model, "SciFact", {("test", "default"): 0.5})
        if not number:
            git(origin, "init")
        git(origin, "add", ".")
        git(origin, "commit", "-m", model)
        fetch_results(tmp_path / "all", origin.as_uri())
        found = read_repository(tmp_path / "all")
        assert found.models == ("x/one", "x/two")[: number + 1]
        assert found.origin.commit == git(origin, "rev-parse", "HEAD")


def test_what_cannot_be_fetched_is_said(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="nowhere could not be fetched"):
        fetch_results(tmp_path / "all", (tmp_path / "nowhere").as_uri())
