"""The Hub's cache on this machine: where a repository's snapshot lies, found without the Hub's library."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_cache() -> Path:
    """The Hub's cache folder, where huggingface_hub looks: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def snapshot_folder(kind: Kind, repository: str, revision: str | None) -> Path | None:
    """The folder of a repository's files at a revision, if the cache has one.

    Args:
        kind: Of the repository.
        repository: Its name on the Hub.
        revision: Commit, branch or tag; None: main.
    """
    root = hub_cache() / f"{kind}s--{repository.replace('/', '--')}"
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (root / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None
