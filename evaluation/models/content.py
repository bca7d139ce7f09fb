"""The content identity of a checkpoint folder: every file that a loading library may open, by its sha256.

All files count but a named inert list (README, optimizer state, logs, ONNX exports ...); a test traces what the
libraries really open. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from evaluation.errors import ModelError
from evaluation.system.atomic_files import reason
from evaluation.system.content_hashes import FileState, content_hash, state_of, was_just_written
from evaluation.system.file_systems import is_on_local_disk
from evaluation.system.limited_reading import parse_json

INERT_FOLDERS = (
    ".*", "__pycache__", "assets", "checkpoint-*", "coreml", "eval", "figures", "global_step*", "images", "logs",
    "mlruns", "onnx", "openvino", "runs", "wandb",
)  # fmt: skip
_INERT_FILES = (
    ".*", "README*", "LICENSE*", "LICENCE*", "NOTICE*", "CITATION*", "*.md",
    "optimizer.*", "optimizer_*", "scheduler.*", "scaler.*", "rng_state*", "random_states_*",
    "trainer_state.json", "training_args.*", "all_results.json", "train_results.json", "eval_results.json",
    "*.log", "*.csv", "events.out.tfevents.*",
    "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.tflite", "*.mlmodel",
    "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.pdf",
)  # fmt: skip
_VOCABULARIES = ("tokenizer.json", "tokenizer.*.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
_TOKENIZER_FILES = (
    *_VOCABULARIES, "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json",
)  # fmt: skip
_SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PATH_KEYS = ("vocab_file", "merges_file", "spm_file", "sp_model_file")
"""Of tokenizer_config.json: transformers before 5 opens what they name."""
_MAX_FILES = 10_000


class _Seen(NamedTuple):
    path: Path
    state: FileState
    read_at_ns: int


@dataclass(slots=True)
class FolderContent:
    """The files that a library may open, as they were when they were hashed.

    Attributes:
        folder: The checkpoint.
        code: Folders of remote code that the checkpoint names, by repository; only their *.py count.
        hashes: sha256 by name; names of remote code begin with its repository and a colon.
    """

    folder: Path
    code: Mapping[str, Path] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, code: Mapping[str, Path] | None = None) -> FolderContent:
        """Hash all files.

        Raises:
            ModelError: A file can't be read or changes meanwhile, or a path in the checkpoint leaves its folder.
        """
        content = cls(folder, dict(code or {}))
        for name, path in content._files().items():
            content.hashes[name], content._seen[name] = _read(path)
        return content

    def digest(self, is_wanted: Callable[[str], bool]) -> str:
        """One sha256 over the names and hashes of the wanted files."""
        wanted = {name: content for name, content in self.hashes.items() if is_wanted(name)}
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()

    def verify_unchanged(self) -> None:
        """Check, after a model was loaded, that the loaded files are those that were hashed.

        A file is hashed again where its inode, size, mtime or ctime changed, and always on network file systems, whose
        clients may report what these were before.

        Raises:
            ModelError: A file changed, appeared or is gone.
        """
        files = self._files()
        changed = sorted(files.keys() ^ self.hashes.keys())
        for name in files.keys() & self.hashes.keys():
            path = files[name]
            if (not is_on_local_disk(path) or self._may_differ(name, path)) and not self._is_same(name, path):
                changed.append(name)
        self._refuse(changed)

    def verify_not_overwritten(self) -> None:
        """Check, before vectors are kept, that no file was overwritten in place since the model was loaded.

        Libraries map weights into memory, so that such a change reaches a loaded model. A file that was replaced by
        another (renamed over it) is left alone: the model still has the old one.

        Raises:
            ModelError: A file was overwritten.
        """
        changed = []
        for name, seen in list(self._seen.items()):
            state = state_of(seen.path)
            is_same_file = state is not None and state[:2] == seen.state[:2]
            if is_same_file and self._may_differ(name, seen.path) and not self._is_same(name, seen.path):
                changed.append(name)
        self._refuse(changed)

    def _refuse(self, changed: list[str]) -> None:
        if changed:
            names = ", ".join(sorted(changed)[:3]) + (" and others" if len(changed) > 3 else "")
            raise ModelError(
                f"{names} in {self.folder} changed after the checkpoint was identified, so its scores would belong to "
                "other weights; nothing of it is stored. Evaluate a copy that nothing writes to, and start again."
            )

    def _may_differ(self, name: str, path: Path) -> bool:
        seen = self._seen[name]
        return was_just_written(seen.state, seen.read_at_ns) or state_of(path) != seen.state

    def _is_same(self, name: str, path: Path) -> bool:
        try:
            digest, seen = _read(path)
        except ModelError:
            return False
        if digest == self.hashes[name]:
            self._seen[name] = seen  # touched only: not read again
        return digest == self.hashes[name]

    def _files(self) -> dict[str, Path]:
        found = {name: self.folder / name for name in counted_files(self.folder)}
        for repository, folder in self.code.items():
            found |= {f"{repository}:{name}": folder / name for name in _all_files(folder) if name.endswith(".py")}
        return found


def _read(path: Path) -> tuple[str, _Seen]:
    """A file's sha256, and its state meanwhile.

    Raises:
        ModelError: It can't be read, or changes meanwhile.
    """
    before, read_at = state_of(path), time.time_ns()
    if before is None or not path.is_file():
        raise ModelError(f"{path} is not a readable file; repair or fetch the checkpoint again.")
    try:
        digest = content_hash(path)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}.") from error
    if state_of(path) != before:
        raise ModelError(f"{path} changed while it was read; start again once nothing writes to it.")
    return digest, _Seen(path, before, read_at)


def counted_files(folder: Path) -> list[str]:
    """Names of the files in a checkpoint that a library may open, sorted, subfolders included.

    Raises:
        ModelError: A path that the checkpoint's files name leaves its folder, or there are implausibly many files.
    """
    everything = set(_all_files(folder))
    named = set(_named_paths(folder, everything))
    return sorted(name for name in everything if _is_named(name, named) or not _is_inert(name, everything))


def is_tokenizer_file(name: str) -> bool:
    """Whether a file of a checkpoint belongs to its tokenizer."""
    return _is_like(name, _TOKENIZER_FILES)


def is_vocabulary(name: str) -> bool:
    """Whether a file of a checkpoint holds a tokenizer's vocabulary, so that a tokenizer can be made of it."""
    return _is_like(name, _VOCABULARIES)


def _is_like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.rsplit("/", 1)[-1], pattern) for pattern in patterns)


def _all_files(folder: Path) -> list[str]:
    """Names of all files, through links to folders too."""
    names: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        inside = Path(place).relative_to(folder)
        above = {os.path.realpath(folder.joinpath(*inside.parts[:depth])) for depth in range(len(inside.parts) + 1)}
        folders[:] = [name for name in folders if os.path.realpath(Path(place, name)) not in above]  # no circles
        names += [(inside / name).as_posix() for name in files]
        if len(names) > _MAX_FILES:
            raise ModelError(f"{folder} holds more than {_MAX_FILES:,} files, so it is not one checkpoint.")
    return names


def _is_named(name: str, named: set[str]) -> bool:
    return name in named or any(parent.as_posix() in named for parent in PurePosixPath(name).parents)


def _is_inert(name: str, everything: set[str]) -> bool:
    if name.endswith(".py"):
        return False
    *folders, last = name.split("/")
    if any(fnmatchcase(part, pattern) for part in folders for pattern in INERT_FOLDERS):
        return True
    if fnmatchcase(last, "pytorch_model*.bin*"):  # never opened where safetensors of the same weights lie beside it
        return any("/".join([*folders, safe]) in everything for safe in _SAFE_WEIGHTS)
    return _is_like(name, _INERT_FILES)


def _named_paths(folder: Path, everything: Iterable[str]) -> Iterator[str]:
    """Files and folders that the checkpoint's own files name, relative to it; they count wherever they lie."""
    for name in everything:
        file, last = folder / name, name.rsplit("/", 1)[-1]
        inside = PurePosixPath(name).parent
        if last.endswith(".index.json"):
            shards = _mapping(file).get("weight_map")
            paths = set(shards.values()) if isinstance(shards, dict) else set()
        elif last == "modules.json":
            modules = _json(file)
            listed = modules if isinstance(modules, list) else []
            paths = {module.get("path") for module in listed if isinstance(module, dict)}
        elif last == "router_config.json":
            types = _mapping(file).get("types")
            paths = set(types) if isinstance(types, dict) else set()
        elif last == "tokenizer_config.json":
            paths = {_mapping(file).get(key) for key in _PATH_KEYS}
        else:
            continue
        for path in paths:
            if isinstance(path, str) and path:
                if PurePosixPath(path).is_absolute() or ".." in path.replace("\\", "/").split("/"):
                    raise ModelError(
                        f"{file} names the path {path!r}, which leaves the checkpoint's folder; only files inside it "
                        "are part of its identity. Save the model again with save_pretrained."
                    )
                if path not in {".", "./"}:
                    yield (inside / path).as_posix()


def _mapping(file: Path) -> Mapping[str, Any]:
    content = _json(file)
    return content if isinstance(content, dict) else {}


def _json(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None  # whoever needs it says what is wrong with it
    except ValueError as error:  # a library may read it all the same
        raise ModelError(f"{file} can't be read as JSON: {error}.") from error
