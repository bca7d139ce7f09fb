"""Collects what comes to light while a folder of local data is read: faults, counts, and a digest of each file.

Every file is read through it, so that links are followed only where the user said so, and every byte read is hashed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

from evaluation.errors import DataError

MAX_VALUE_BYTES: Final = 1 << 24
"""Of a line and of a cell: a longer text is no document, and libraries abort on it. Files may have any size."""
_MAX_BYTES, _MAX_RATIO = 1 << 28, 100
_MAX_PROBLEMS: Final = 20
_CHUNK_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DECODER: Final = json.JSONDecoder()
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


class Notes:
    """What was noticed while a folder was read: problems, counts, and a digest of each file.

    Links may lead to files in the folder itself, to the blobs of the Hub's cache that the folder is a snapshot of, and
    into the `linked` folders; everywhere if `linked` is None.
    """

    def __init__(self, root: Path | zipfile.Path, linked: Sequence[Path] | None = ()) -> None:
        self.root = root
        self._trees = None if linked is None or isinstance(root, zipfile.Path) else [*_own_trees(root), *linked]
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._problems: list[str] = []
        self._digests: dict[str, bytes] = {}

    def problem(self, place: Path | zipfile.Path | str, sentence: str) -> None:
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
        if self.counts["judgements of unknown documents"]:
            whole.update(b"judgements of unknown documents count\0")  # they did not always, so scores differ
        for name, digest in sorted(self._digests.items()):
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
        return whole.hexdigest()

    def inside(self, path: Path | zipfile.Path) -> bool:
        """Returns whether a path leads where it may lead once symbolic links are followed; notes a problem if not."""
        if self._trees is None or isinstance(path, zipfile.Path):  # archives are read in place: nothing leads out
            return True
        try:
            real = path.resolve()
            if any(real.is_relative_to(tree) for tree in self._trees):
                return True
            self.problem(
                path,
                f"is a symbolic link out of the folder (to {real}); copy the data into it, or set data_root: in the "
                "config to a folder that holds both.",
            )
        except (OSError, RuntimeError) as error:  # a link to itself
            self.problem(path, f"is a symbolic link that can't be followed: {error}.")
        return False

    def byte_lines(self, path: Path | zipfile.Path) -> Iterator[bytes]:
        """Yields the file's lines, uncompressed and with their line ends, and hashes them.

        Notes a problem where the file can't be read.
        """
        if not self.inside(path):
            return
        digest = hashlib.blake2b(digest_size=20)
        try:
            if not path.is_file():  # opening a named pipe would block forever
                self.problem(path, "is not a file.")
                return
            with _open(path) as file:
                first, n_bytes, most = True, 0, _most_bytes(path)
                while lines := _read_lines(file):
                    if first and lines[0].startswith(_LFS_POINTER):
                        self.problem(path, "is a git-lfs pointer, not the data: run git lfs pull in its repository.")
                        return
                    first = False
                    n_bytes += sum(map(len, lines))
                    if n_bytes > most:
                        self.problem(path, f"expands to more than {most:,} bytes, {_MAX_RATIO} times its size.")
                        return
                    digest.update(b"".join(lines))
                    yield from lines
        except OSError as error:
            self.problem(path, f"can't be read: {error.strerror or error}.")
        except (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            self.problem(path, f"can't be decompressed: {error}; it is damaged or encrypted.")
        self._digests[self._name_in_root(path)] = digest.digest()

    def _name_in_root(self, path: Path | zipfile.Path) -> str:
        if isinstance(path, zipfile.Path):
            return path.at.removeprefix(cast(zipfile.Path, self.root).at)
        return path.relative_to(cast(Path, self.root)).as_posix()

    def text_lines(self, path: Path | zipfile.Path) -> Iterator[tuple[int, str]]:
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


def _open(path: Path | zipfile.Path) -> IO[bytes]:
    file: IO[bytes] = path.open("rb")
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if path.name.endswith(".gz") else file


def _most_bytes(path: Path | zipfile.Path) -> float:
    """Returns how many bytes a file may expand to: a quarter of a gigabyte, or 100 times its size if that is more."""
    if isinstance(path, zipfile.Path):
        return max(_MAX_BYTES, _MAX_RATIO * path.root.getinfo(path.at).compress_size)
    return max(_MAX_BYTES, _MAX_RATIO * path.stat().st_size) if path.name.endswith(".gz") else math.inf


def _own_trees(root: Path) -> list[Path]:
    """Returns the folders in which a folder's links may end: itself, and the blobs of its repository in a Hub cache."""
    real = root.resolve()
    snapshots = next((parent for parent in real.parents if parent.name == "snapshots"), None)
    return [real] if snapshots is None else [real, snapshots.parent / "blobs"]
