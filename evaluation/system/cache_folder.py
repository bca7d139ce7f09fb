"""Where this package keeps files of its own on a user's machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "E5_EVALUATION_CACHE"


def user_cache_dir() -> Path:
    """The folder for files that can be made again; it need not exist yet.

    `$E5_EVALUATION_CACHE` if set, else the system's cache folder for `e5-evaluation` (on Linux in `$XDG_CACHE_HOME` or
    `~/.cache`). Read at every call, so a changed environment counts.
    """
    own = os.environ.get(CACHE_VARIABLE)
    return Path(own).expanduser() if own else user_cache_path("e5-evaluation", appauthor=False)
