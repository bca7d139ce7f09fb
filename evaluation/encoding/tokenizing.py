"""Strings -> token ids, with the checkpoint's tokenizer and our own truncation. Knows nothing of models or tasks.

The tokenizer is the one that transformers builds from all of the checkpoint's tokenizer files, so that ids are the
library's. The truncation and padding that a tokenizer.json may carry (all-MiniLM-L6-v2: 128 tokens) do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.encoding.token_rows import TokenRows
from evaluation.errors import EncodingError, ModelError
from evaluation.models.facts import TextRole
from evaluation.system.limited_reading import parse_json

_CHUNK = 2_048
_MAX_CHARACTERS = 1 << 24  # per text; the library aborts the process on texts of hundreds of megabytes


class Tokenized(NamedTuple):
    """N texts as a model takes them.

    Attributes:
        ids: N sequences, special tokens included, at most max_length long; empty where a library tokenizes.
        full_lengths: (N,) int64 tokens before truncation, special tokens included.
        lengths: (N,) int64 tokens kept.
        texts, role: What was tokenized, for models that take texts; empty where ids are taken.
    """

    ids: TokenRows
    full_lengths: NDArray[np.int64]
    lengths: NDArray[np.int64]
    texts: Sequence[str] = ()
    role: TextRole = TextRole()


class TextTokenizer:
    """A checkpoint's tokenizer with truncation to `max_length` tokens, special tokens kept.

    Args:
        folder: Of the checkpoint.
        max_length: Tokens kept of a text.
        trust_remote_code: Run a tokenizer class of the checkpoint's own.

    Attributes:
        max_length: As given.
        pad_id: The padding token; it is masked out, but embeddings are looked up for it.

    Raises:
        ModelError: The tokenizer can't be loaded, has no fast form, or leaves no room for text.
    """

    def __init__(self, folder: Path, max_length: int, *, trust_remote_code: bool = False) -> None:
        loaded = _load(folder, trust_remote_code)
        self._tokenizer = loaded.backend_tokenizer
        self._tokenizer.no_padding()
        self._specials = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= self._specials:
            raise ModelError(
                f"max_length {max_length} leaves no room beside {self._specials} special tokens; raise it."
            )
        self._tokenizer.enable_truncation(max_length, direction=loaded.truncation_side)
        self.max_length = max_length
        self.pad_id = _pad_id(folder, loaded)

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Tokenize texts in parallel threads; lone surrogates become U+FFFD (they can't be encoded as UTF-8)."""
        parts: list[TokenRows] = []
        full: list[int] = []
        longest = max(map(len, texts), default=0)
        if longest > _MAX_CHARACTERS:
            raise EncodingError(
                f"a text has {longest:,} characters, and at most {_MAX_CHARACTERS:,} can be tokenized; split it."
            )
        for start in range(0, len(texts), _CHUNK):
            ids: list[list[int]] = []
            for encoding in self._tokenizer.encode_batch_fast(list(map(encodable, texts[start : start + _CHUNK]))):
                kept = encoding.ids
                ids.append(kept)
                cut = encoding.overflowing if len(kept) >= self.max_length else ()
                full.append(len(kept) + sum(len(part) - self._specials for part in cut))
            parts.append(TokenRows.of(ids))
        rows = TokenRows.joined(parts)
        return Tokenized(rows, np.array(full, dtype=np.int64), rows.lengths)


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _load(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder), use_fast=True, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # the Rust library raises bare Exception, and transformers whatever the files provoke
        raise ModelError(f"the tokenizer in {folder} can't be read: {error}") from error
    if getattr(loaded, "backend_tokenizer", None) is None:
        raise ModelError(f"{folder} has no fast tokenizer; save it once with save_pretrained from a fast tokenizer.")
    return loaded


def _pad_id(folder: Path, tokenizer: Any) -> int:
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    config = folder / "config.json"
    declared = parse_json(config.read_bytes()).get("pad_token_id") if config.is_file() else None
    return declared if isinstance(declared, int) else 0
