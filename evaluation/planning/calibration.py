"""Keeps what earlier runs and measurements on this machine taught, in a small file in the user's cache folder.

Holds characters per token for each tokenizer, seconds per token for each device and model shape, and the time that
each task took besides encoding. Knows nothing of jobs. A missing or damaged file counts as empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from evaluation.errors import UnwritableError
from evaluation.system.atomic_files import write_json
from evaluation.system.cache_folder import user_cache_dir

FILE_NAME = "planning.json"
_USUAL_CHARACTERS = {
    "bert-uncased": {"english": 4.4, "code": 2.9, "other": 2.4},
    "xlm-roberta": {"english": 4.0, "code": 2.9, "other": 2.9},
}
"""Characters per token, measured on public English, Python and other texts; used until a run here has measured them."""


class _Measurements(BaseModel):
    """The content of the file.

    Attributes:
        tokenizers: Tokenizer -> kind of text or "task NAME" -> characters and tokens seen.
        speed: "place | shape" -> tokens per text -> seconds per token and layer.
        scoring: "place | task" -> seconds besides encoding.
    """

    tokenizers: dict[str, dict[str, tuple[int, int]]] = {}
    speed: dict[str, dict[int, float]] = {}
    scoring: dict[str, float] = {}


class Calibration:
    """The file's content, read once; `save` writes what was noted.

    Args:
        file: The file; by default `planning.json` in the user's cache folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or user_cache_dir() / FILE_NAME
        try:
            self._seen = _Measurements.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            self._seen = _Measurements()

    def characters_per_token(self, tokenizer: str, script: str, task: str) -> float:
        """Returns the value measured on the same task, else on texts of the same kind, else the usual value."""
        seen = self._seen.tokenizers.get(tokenizer, {})
        for key in (f"task {task}", script):
            characters, tokens = seen.get(key, (0, 0))
            if tokens:
                return characters / tokens
        return _USUAL_CHARACTERS.get(tokenizer, _USUAL_CHARACTERS["bert-uncased"])[script]

    def note_texts(self, tokenizer: str, script: str, task: str, characters: int, tokens: int) -> None:
        """Notes the characters of a task's texts and their tokens, special tokens excluded.

        Only the first run of a task counts, so that repeated runs do not give its texts more weight.
        """
        seen = self._seen.tokenizers.setdefault(tokenizer, {})
        if tokens > 0 and f"task {task}" not in seen:
            before = seen.get(script, (0, 0))
            seen[script] = (before[0] + characters, before[1] + tokens)
            seen[f"task {task}"] = (characters, tokens)

    def seconds_per_token(self, place: str, shape: str) -> Mapping[int, float] | None:
        """Returns tokens per text -> measured seconds per token and layer; None before the first measurement."""
        return self._seen.speed.get(f"{place} | {shape}")

    def note_speed(self, place: str, shape: str, seconds: Mapping[int, float]) -> None:
        """Notes a measurement of speed."""
        self._seen.speed[f"{place} | {shape}"] = dict(seconds)

    def scoring_s(self, place: str, task: str) -> float | None:
        """Returns the seconds that a task took besides encoding when it last ran here."""
        return self._seen.scoring.get(f"{place} | {task}")

    def note_scoring(self, place: str, task: str, seconds: float) -> None:
        """Notes the seconds that a task took besides encoding."""
        self._seen.scoring[f"{place} | {task}"] = round(seconds, 3)

    def save(self) -> None:
        """Writes the file. A cache folder that can't be written is left as it is."""
        with contextlib.suppress(UnwritableError):
            write_json(self._file, self._seen.model_dump(mode="json"))
