"""Where this package keeps files of its own on a user's machine. Imports nothing of ours."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "E5_EVALUATION_CACHE"


def user_cache_dir() -> Path:
    """The folder for files that can be made again; it need not exist yet.

    `$E5_EVALUATION_CACHE` when set, else `e5-evaluation` in `$XDG_CACHE_HOME` when that is an absolute path (the XDG
    base directory specification has relative ones ignored), else `~/.cache/e5-evaluation`. Read at every call, so that
    a changed environment counts.
    """
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "e5-evaluation"
