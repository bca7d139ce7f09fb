"""Prepares a config's plain data: drops keys that begin with x-, and expands environment variables in paths.

Knows nothing of what the other keys mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Final

from evaluation.config.run_config import ConfigPath

EXTENSION_PREFIX: Final = "x-"
"""Top-level keys for anchors, as in Docker Compose; their values reach no option except through YAML's aliases."""

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def without_extensions(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the config without its top-level keys that begin with x-."""
    return {key: value for key, value in document.items() if not str(key).startswith(EXTENSION_PREFIX)}


def expand_paths(document: dict[str, Any]) -> Iterator[tuple[ConfigPath, str]]:
    """Expands $NAME and ${NAME} in paths, in place; yields where a variable is not set, with its name."""
    places: list[tuple[ConfigPath, Any, str]] = [((key,), document, key) for key in ("data_root", "output")]
    for group, key in (("models", "model"), ("models", "folders"), ("tasks", "data")):
        entries = document.get(group)
        for position, entry in enumerate(entries if isinstance(entries, list) else []):
            places.append(((group, position, key), entry, key))
    for path, holder, key in places:
        value = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(value, str) or "$" not in value:
            continue
        names = [braced or plain for braced, plain in _VARIABLE.findall(value)]
        unset = [name for name in names if name not in os.environ]
        if unset:
            yield path, unset[0]
        else:
            holder[key] = _VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], value)
