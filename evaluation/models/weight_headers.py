"""Reads the header of a safetensors file: names, shapes and places of its tensors, but not the tensors.

The layout: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from evaluation.system.limited_reading import parse_json

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000


class WeightHeader(NamedTuple):
    """A file's tensors by name, and where their data begin, in bytes."""

    tensors: dict[str, dict[str, Any]]
    data_start: int


def read_weight_header(file: Path) -> WeightHeader:
    """Reads a header.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not a safetensors file, or ends within its header.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        content = parse_json(stream.read(length)) if length <= min(file.stat().st_size, _LONGEST_HEADER) else None
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise ValueError(f"{file} does not begin with a safetensors header")
    return WeightHeader(
        {name: entry for name, entry in content.items() if name != "__metadata__"}, _LENGTH_BYTES + length
    )
