"""Snapshots in the Hub's cache: which one a revision means, and what makes one incomplete."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hub_repositories import make_snapshot

from evaluation.hub.cache import HubError, IncompleteSnapshotError, check_complete, matches, snapshot_folder

COMMIT, OLDER = "a" * 40, "b" * 40


def test_snapshot_is_the_one_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    older, newer = (make_snapshot(tmp_path, commit, {"a.csv": commit}) for commit in (OLDER, COMMIT))
    refs = older.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT, encoding="utf-8")
    assert snapshot_folder("dataset", "some/data", OLDER) == older
    assert snapshot_folder("dataset", "some/data", None) == newer
    assert snapshot_folder("dataset", "some/data", "c" * 40) is None
    assert snapshot_folder("model", "some/data", COMMIT) is None


def test_patterns_match_as_the_cards_of_datasets_mean_them() -> None:
    assert matches("data/test-00000-of-00001.parquet", ["data/test-*"])
    assert matches("en/test.jsonl", ["en"])
    assert matches("a/b/c.csv", ["a/**/*.csv"])
    assert not matches("data/train-00000.parquet", ["data/test-*"])
    assert not matches("english/test.jsonl", ["en"])


@pytest.mark.parametrize(
    ("files", "patterns", "lacks"),
    [
        ({"data/test-00000-of-00002.parquet": ""}, ["data/test-*"], "data/test-00001-of-00002.parquet"),
        ({"README.md": "", "corpus.jsonl": ""}, ["corpus.jsonl", "queries.jsonl"], "queries.jsonl"),
        ({"README.md": "", "a.csv": ""}, ["*.csv"], "b.csv"),
        ({"README.md": ""}, ["*.csv", "*.json"], "every data file"),
    ],
)
def test_incomplete_snapshot_is_refused(tmp_path: Path, files: dict[str, str], patterns: list[str], lacks: str) -> None:
    listed = [*files, "b.csv"] if "a.csv" in files else None
    folder = make_snapshot(tmp_path, COMMIT, files, listed=listed)
    with pytest.raises(IncompleteSnapshotError, match=lacks):
        check_complete(folder, patterns, "some/data")
    assert issubclass(IncompleteSnapshotError, HubError)


def test_complete_snapshot_is_taken(tmp_path: Path) -> None:
    names = {"README.md": "", "data/test-00000-of-00002.csv": "", "data/test-00001-of-00002.csv": ""}
    folder = make_snapshot(tmp_path, COMMIT, names, listed=[*names, "notes.pdf"])
    check_complete(folder, ["README.md", "data/test-*"], "some/data")
