"""What earlier runs and measurements on this machine taught a plan, in one small file of the user's cache folder.

Characters a token for each tokenizer, seconds a token for each device and shape of model, and what a task took beside
encoding. Knows nothing of jobs; a file that is missing or damaged counts as empty.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import UnwritableError
from evaluation.system.atomic_files import write_json
from evaluation.system.cache_folder import user_cache_dir

FILE_NAME = "planning.json"
_MEASURED = {
    "bert-uncased": {"english": 4.4, "code": 2.9, "other": 2.4},
    "xlm-roberta": {"english": 4.0, "code": 2.9, "other": 2.9},
}
"""Characters a token of public English, Python and other texts, before a run of one's own."""


class Calibration:
    """The file's content, read once; `save` writes what was noted."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or user_cache_dir() / FILE_NAME
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        self._content: dict[str, dict[str, Any]] = content if isinstance(content, dict) else {}

    def characters_a_token(self, tokenizer: str, script: str, task: str) -> float:
        """From the same task, from texts of the same kind, or the usual value."""
        seen = self._part("tokenizers").get(tokenizer, {})
        for key in (f"task {task}", script):
            characters, tokens = seen.get(key, (0, 0))
            if tokens:
                return float(characters) / float(tokens)
        return _MEASURED.get(tokenizer, _MEASURED["bert-uncased"])[script]

    def note_texts(self, tokenizer: str, script: str, task: str, characters: int, tokens: int) -> None:
        """Take note of a job's texts: all their characters and their tokens without special ones.

        A task is noted once, so that running it again does not give its texts more weight.
        """
        seen = self._part("tokenizers").setdefault(tokenizer, {})
        if tokens > 0 and f"task {task}" not in seen:
            before = seen.get(script, (0, 0))
            seen[script] = [before[0] + characters, before[1] + tokens]
            seen[f"task {task}"] = [characters, tokens]

    def seconds_a_token(self, place: str, shape: str) -> Mapping[int, float] | None:
        """Tokens of a text -> seconds a token and layer, as measured; None before."""
        found = self._part("speed").get(f"{place} | {shape}")
        return None if found is None else {int(length): float(value) for length, value in found.items()}

    def note_speed(self, place: str, shape: str, seconds: Mapping[int, float]) -> None:
        """Keep a measurement."""
        self._part("speed")[f"{place} | {shape}"] = {str(length): value for length, value in seconds.items()}

    def scoring_s(self, place: str, task: str) -> float | None:
        """What a task took beside encoding when it last ran here."""
        found = self._part("scoring").get(f"{place} | {task}")
        return None if found is None else float(found)

    def note_scoring(self, place: str, task: str, seconds: float) -> None:
        """Keep what a task took beside encoding."""
        self._part("scoring")[f"{place} | {task}"] = round(seconds, 3)

    def save(self) -> None:
        """Write the file; a cache folder that can't be written is left as it is."""
        with contextlib.suppress(UnwritableError):
            write_json(self._file, self._content)

    def _part(self, name: str) -> dict[str, Any]:
        part = self._content.setdefault(name, {})
        return part if isinstance(part, dict) else {}
