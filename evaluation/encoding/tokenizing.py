"""Strings -> token ids, with the checkpoint's tokenizer and our own truncation. Knows nothing of models or tasks.

The truncation and padding that a tokenizer.json may carry (all-MiniLM-L6-v2: 128 tokens) never count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from evaluation.errors import ModelError


class Tokenized(NamedTuple):
    """Token ids of N texts.

    Attributes:
        ids: N lists of token ids, special tokens included, at most max_length long.
        full_lengths: (N,) int64 tokens before truncation, special tokens included.
        lengths: (N,) int64 tokens kept.
    """

    ids: list[list[int]]
    full_lengths: NDArray[np.int64]
    lengths: NDArray[np.int64]


class TextTokenizer:
    """A checkpoint's tokenizer with truncation to `max_length` tokens, special tokens kept."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self._tokenizer = _load(folder)
        self._tokenizer.no_padding()
        self._specials = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= self._specials:
            raise ModelError(f"max_length {max_length} leaves no room beside {self._specials} special tokens.")
        self._tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.pad_id = _pad_id(folder, self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Tokenize texts in parallel threads; lone surrogates become U+FFFD (they can't be encoded as UTF-8)."""
        encodings = self._tokenizer.encode_batch_fast([_encodable(text) for text in texts])
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        full = lengths.copy()
        for row in np.flatnonzero(lengths >= self.max_length):
            full[row] += sum(len(part.ids) - self._specials for part in encodings[row].overflowing)
        return Tokenized(ids, full, lengths)


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _load(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelError(f"{file} can't be read: {error}") from error
    from transformers import AutoTokenizer

    slow_or_fast = AutoTokenizer.from_pretrained(str(folder), use_fast=True, trust_remote_code=False)
    backend: Tokenizer | None = getattr(slow_or_fast, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{folder} has no fast tokenizer; save it once with save_pretrained from a fast tokenizer.")
    return backend


def _pad_id(folder: Path, tokenizer: Tokenizer) -> int:
    """Id of the padding token; masked out, but embeddings are looked up for it, so it must exist."""
    config = folder / "config.json"
    declared = json.loads(config.read_text(encoding="utf-8")).get("pad_token_id") if config.is_file() else None
    for candidate in (declared, tokenizer.token_to_id("[PAD]"), tokenizer.token_to_id("<pad>")):
        if isinstance(candidate, int):
            return candidate
    return 0
