"""Snapshots in the Hub's cache: which one a revision means, and what makes one incomplete."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import make_snapshot

from evaluation.hub.cache import (
    HubError,
    IncompleteSnapshotError,
    check_complete,
    check_content,
    matches,
    snapshot_folder,
)

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


def put_blob(folder: Path, name: str, content: bytes, blob: str) -> Path:
    """A file as the Hub's library keeps it: a link from the snapshot to a blob."""
    file = folder.parent.parent / "blobs" / blob
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(f"../../blobs/{blob}")
    return file


SMALL = "f719efd430d52bcfc8566a43b2eb655688d38871"  # printf 'two\n' | git hash-object --stdin
LARGE = "27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a"  # printf 'two\n' | sha256sum


@pytest.mark.parametrize("blob", [SMALL, LARGE])
def test_a_file_that_is_not_what_the_hub_sent_is_refused(tmp_path: Path, blob: str) -> None:
    folder = tmp_path / "datasets--some--data" / "snapshots" / COMMIT
    file = put_blob(folder, "a.csv", b"two\n", blob)
    assert check_content(folder, ["*.csv"], "some/data") == []
    file.write_bytes(b"tw")
    with pytest.raises(HubError, match=f"a.csv of some/data .* is damaged: .* Delete {file.resolve()}"):
        check_content(folder, ["*.csv"], "some/data")
    assert check_content(folder, ["*.json"], "some/data") == []


def test_files_without_a_hash_are_named(tmp_path: Path) -> None:
    folder = make_snapshot(tmp_path, COMMIT, {"plain.csv": "a"})
    put_blob(folder, "a.csv", b"a", "abc-1")
    put_blob(folder, "b.csv", b"two\n", SMALL)
    assert check_content(folder, ["*.csv"], "some/data") == ["a.csv", "plain.csv"]
