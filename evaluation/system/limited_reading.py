"""Reads untrusted JSON and compressed bytes with limits on values, depth and expansion, but not on size.

A few kilobytes can describe gigabytes: by compression, or by nesting. Each function fails with a
ValueError, whose text ends a sentence, before memory is used for more than a file can hold in earnest.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

_MAX_JSON_VALUES = 5_000_000


def parse_json(content: bytes | str) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: It is not JSON in UTF-8, holds more than five million values or half a character, or is nested too
            deeply.
    """
    text = content if isinstance(content, str) else content.decode("utf-8")
    if len(text) > _MAX_JSON_VALUES and sum(text.count(mark) for mark in ",[{") > _MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {_MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate)") from None
    return value


def decompress(data: bytes, *, max_bytes: int) -> bytes:
    """Returns what zlib compressed.

    Raises:
        ValueError: It is larger than `max_bytes`.
        zlib.error: The data is damaged.
    """
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(data, max_bytes)
    if not unpacking.eof:
        if len(content) >= max_bytes:
            raise ValueError(f"it expands to more than {max_bytes:,} bytes")
        raise zlib.error("incomplete data")
    return content
