"""Collects what comes to light while a folder of local data is read: faults, counts, and a digest of each file.

Every file is read through it, so that nothing is read outside the folder and every byte read is hashed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from evaluation.errors import DataError

MAX_VALUE_BYTES: Final = 1 << 24
"""Of a line and of a cell: a longer text is no document, and libraries abort on it. Files may have any size."""
_MAX_PROBLEMS: Final = 20
_CHUNK_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DECODER: Final = json.JSONDecoder()


class Notes:
    """What was noticed while a folder was read: problems, counts, and a digest of each file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._problems: list[str] = []
        self._digests: dict[str, bytes] = {}

    def problem(self, place: Path | str, sentence: str) -> None:
        """Notes a fault; keeps the first 20 and counts the others."""
        self.total += 1
        if not self.full:
            self._problems.append(f"{place}: {sentence}")

    @property
    def full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self._problems) >= _MAX_PROBLEMS

    def raise_problems(self) -> None:
        """Raises DataError if there was any problem."""
        more = self.total - len(self._problems)
        if self.total:
            raise DataError([*self._problems, f"and {more} more"] if more else self._problems)

    def content_hash(self) -> str:
        """Returns 40 hex digits over the relative name and bytes of every file read, in any order of reading."""
        whole = hashlib.blake2b(digest_size=20)
        for name, digest in sorted(self._digests.items()):
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
        return whole.hexdigest()

    def inside(self, path: Path) -> bool:
        """Returns whether the path stays inside the folder once symbolic links are followed; notes a problem if not."""
        try:
            real = path.resolve()
            if real.is_relative_to(self.root.resolve()):
                return True
            self.problem(path, f"is a symbolic link out of the folder (to {real}); copy the data into it.")
        except (OSError, RuntimeError) as error:  # a link to itself
            self.problem(path, f"is a symbolic link that can't be followed: {error}.")
        return False

    def byte_lines(self, path: Path) -> Iterator[bytes]:
        """Yields the file's lines with their line ends and hashes them; notes a problem where it can't be read."""
        if not self.inside(path):
            return
        digest = hashlib.blake2b(digest_size=20)
        try:
            if not path.is_file():  # opening a named pipe would block forever
                self.problem(path, "is not a file.")
                return
            with path.open("rb") as file:
                while lines := _read_lines(file):
                    digest.update(b"".join(lines))
                    yield from lines
        except OSError as error:
            self.problem(path, f"can't be read: {error.strerror}.")
        self._digests[path.relative_to(self.root).as_posix()] = digest.digest()

    def text_lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Yields number and text of each line that is not blank, without line end and byte-order mark."""
        for number, raw in enumerate(self.byte_lines(path), start=1):
            if len(raw) >= MAX_VALUE_BYTES:
                self.problem(f"{path}, line {number}", f"has more than {MAX_VALUE_BYTES:,} bytes; split the text.")
                return
            try:
                line = (raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw).decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                self.problem(f"{path}, line {number}", not_utf8(error))
                continue
            if line and not line.isspace():
                yield number, line

    def parse_json(self, text: str, names: Sequence[str] = ()) -> Any:
        """Parses JSON; replaces and counts lone surrogates, in an object only in the keys `names`.

        Raises:
            ValueError: the text is not JSON; the message says why.
        """
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{error.msg} at column {error.colno}") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if "\\ud" not in text and "\\uD" not in text:
            return value
        if isinstance(value, dict):
            value = {name: value[name] for name in names if name in value}
        return self._clean(value)

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                cleaned, found = _LONE_SURROGATE.subn("\ufffd", value)
                self.counts["lone surrogates replaced"] += found
                return cleaned
            case list():
                return [self._clean(item) for item in value]
            case dict():
                return {key: self._clean(item) for key, item in value.items()}
        return value


def _read_lines(file: IO[bytes]) -> list[bytes]:
    """Returns the next lines, about a megabyte of them; a line of more than 16 MiB in pieces of that size."""
    chunk = file.read(_CHUNK_BYTES)
    if chunk and not chunk.endswith(b"\n"):
        chunk += file.readline(MAX_VALUE_BYTES)
    return io.BytesIO(chunk).readlines()


def show(value: object) -> str:
    """Returns a value as an error message quotes it: JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def not_utf8(error: UnicodeDecodeError) -> str:
    """Returns the sentence for bytes that are not UTF-8."""
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8."
