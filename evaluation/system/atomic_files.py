"""Files that appear whole or not at all, and JSON that shows whether it was damaged. Knows nothing of runs or records.

A write goes to a temporary file, which is synced, moved into place, and made durable by syncing the folder. A sealed
JSON file ends with the sha256 of everything before it, so that each of its bytes is covered.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import DamagedFileError, StoreError, UnwritableError
from evaluation.system.limited_reading import parse_json
from evaluation.system.redaction import hide, redactor

_LOG = logging.getLogger(__name__)
_unsynced: set[int | None] = set()
_swept: set[Path] = set()
DAMAGED_SUFFIX = ".damaged"
_TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_STALE_S = 24 * 3600.0
"""A temporary file this old belongs to a process that was killed."""
_SEAL = re.compile(rb'(.*),\n "sha256": "([0-9a-f]{64})"\n}\n', re.DOTALL)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; numbers that are not finite become null, secrets in texts are hidden."""
    _write_json_text(file, json_text(content))


def write_sealed_json(file: Path, content: Mapping[str, Any]) -> None:
    """The same for a mapping that is not empty, with a last key "sha256" that `read_sealed_json` checks."""
    body = json_text(content).removesuffix("\n}\n")
    _write_json_text(file, f'{body},\n "sha256": "{hashlib.sha256(_encode(body)).hexdigest()}"\n}}\n')


def read_sealed_json(file: Path) -> dict[str, Any]:
    """The content of a sealed file, without the seal.

    Raises:
        DamagedFileError: Its bytes are not those that were written.
        FileNotFoundError: There is no such file.
        StoreError: It can't be read.
    """
    try:
        found = _SEAL.fullmatch(file.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{file} can't be read: {reason(error)}.") from error
    if found is None:
        raise DamagedFileError(file, "it does not end with its checksum (cut short, or changed by hand)")
    if hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
        raise DamagedFileError(file, "its checksum is not that of what was written")
    try:
        content: dict[str, Any] = parse_json(found[1] + b"\n}")
    except ValueError as error:
        raise DamagedFileError(file, f"{error}, although its checksum is right") from error
    return content


def check_file(file: Path, sha256: str) -> None:
    """Compares a file with the checksum that was noted when it was written.

    Raises:
        DamagedFileError: It is another one, or gone.
        StoreError: It can't be read.
    """
    with _read_faults(file):
        digest = sha256_of(file)
    _compare(file, digest, sha256)


def read_checked(file: Path, sha256: str) -> bytes:
    """Reads a file and compares it with the checksum that was noted when it was written.

    Raises:
        DamagedFileError: It is another one, or gone.
        StoreError: It can't be read.
    """
    with _read_faults(file):
        data = file.read_bytes()
    _compare(file, hashlib.sha256(data).hexdigest(), sha256)
    return data


@contextlib.contextmanager
def _read_faults(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DamagedFileError(file, "it is missing") from None
    except OSError as error:
        raise StoreError(f"{file} can't be read: {reason(error)}.") from error


def _compare(file: Path, digest: str, sha256: str) -> None:
    if digest != sha256:
        raise DamagedFileError(file, "its checksum is not that of what was written")


def sha256_of(file: Path) -> str:
    """The sha256 of a file's content, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(file: Path) -> None:
    """Rename a damaged file to *.damaged, out of every reader's way; one that is gone is none to rename.

    Raises:
        StoreError: It can't be renamed.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            file.replace(file.with_name(file.name + DAMAGED_SUFFIX))
    except OSError as error:
        raise StoreError(f"{file} is damaged and can't be set aside: {reason(error)}.") from error


def _write_json_text(file: Path, text: str) -> None:
    """Write JSON whose strings hold no secret; its numbers stay as they are."""
    write_atomically(file, lambda path: path.write_bytes(_encode(text)))


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text atomically, without secrets; lone surrogates become question marks."""
    write_atomically(file, lambda path: path.write_bytes(_encode(hide(text))))


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, sync it, move it into place and sync the folder.

    The first write into a folder removes what killed processes left half-written there.

    Raises:
        UnwritableError: The folder can't be made or written.
    """
    try:
        make_folder(file.parent)
        _sweep(file.parent.absolute())
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less what the user's umask takes
        try:
            write(temporary)
            with temporary.open("r+b") as stream:
                os.fsync(stream.fileno())
            temporary.replace(file)
            sync_folder(file.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableError(f"{file} can't be written: {reason(error)}.") from error


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `write_atomically` gives to an unfinished file."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def _sweep(folder: Path) -> None:
    """Removes stale temporary files, once per process and folder: by their own names only, never through a link."""
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(handle) as entries:
                own = [one for one in entries if is_temporary(one.name) and one.is_file(follow_symlinks=False)]
                oldest = time.time() - _STALE_S
                stale = [one.name for one in own if one.stat(follow_symlinks=False).st_mtime < oldest]
            for name in stale:
                os.unlink(name, dir_fd=handle)  # noqa: PTH108 (pathlib knows no folder handles)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each synced into the one that holds it.

    Raises:
        OSError: It can't be made; NotADirectoryError where a file has its name.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
        sync_folder(folder.parent)


def reason(error: OSError) -> str:
    """Why the system refused, in its own words where a library adds to them."""
    return os.strerror(error.errno) if error.errno else error.strerror or str(error)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut; where the system can't, a warning says so, once per reason."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _unsynced:
            _unsynced.add(error.errno)
            _LOG.warning(
                "%s can't be synced (%s): after a power cut, files that were just written may be gone; the same "
                "command makes them again.",
                folder,
                reason(error),
            )


def json_text(content: Mapping[str, Any]) -> str:
    """The text that `write_json` writes."""
    redact = redactor()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return redact(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, Mapping):
            return {redact(str(key)): clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        item = getattr(value, "item", None)  # of a number of numpy
        return clean(item()) if callable(item) and not hasattr(value, "__len__") else value

    def plain(value: Any) -> Any:
        return clean(value.tolist() if hasattr(value, "tolist") else str(value))

    return json.dumps(clean(content), ensure_ascii=False, indent=1, default=plain, allow_nan=False) + "\n"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
