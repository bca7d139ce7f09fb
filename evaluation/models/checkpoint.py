"""Where a model lies and what its files declare: pooling, maximum length, normalising, identity. Loads no weights.

Understands a transformers folder with or without the sentence-transformers files beside it (modules.json,
sentence_bert_config.json, config_sentence_transformers.json).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from evaluation.errors import ModelError
from evaluation.hub.cache import HubError, check_complete, is_offline, snapshot_folder
from evaluation.hub.client import fetch
from evaluation.models.builtin import BUILTIN_MODELS, materialize
from evaluation.models.content import INERT_FOLDERS, FolderContent, is_tokenizer_file, is_vocabulary
from evaluation.models.facts import UNLIMITED
from evaluation.models.names import BUILTIN_PREFIX, is_builtin, is_folder_name, public_local
from evaluation.models.refusals import check_files, module_entries, read_json
from evaluation.models.remote_code import check_code, code_folders

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py", "*README.md"]
HUB_IGNORED = [pattern for folder in INERT_FOLDERS for pattern in (f"{folder}/*", f"*/{folder}/*")]
_KNOWN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
_PLAIN_LENGTH = 512  # of E5's scripts, where no file declares one


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder and what its files say.

    Attributes:
        name: The public name, such as intfloat/e5-large-unsupervised, builtin/... or local/<folder name>.
        revision: Hub commit, or a hash of the content for folders and builtin models (40 hex digits).
        pooling, max_length, normalize, similarity: As declared; a plain transformers folder declares E5's (mean
            pooling, its positions up to 512, no Normalize module, cosine). This is a light reading, replaced by what
            the checkpoint's library says (models/facts.py) before anything is scored.
        declared_dtype: The precision that config.json names.
        other_modules: sentence-transformers modules beyond Transformer, Pooling and Normalize.
        weights_hash, tokenizer_hash: sha256 of all files that may decide an embedding: the tokenizer's, and the rest.
        content: The files behind these hashes; None for a model that has none here.
    """

    folder: Path
    name: str
    revision: str
    pooling: str
    max_length: int
    max_positions: int
    normalize: bool
    similarity: Literal["cosine", "dot"]
    other_modules: tuple[str, ...]
    weights_hash: str
    tokenizer_hash: str
    embedding_dim: int
    declared_dtype: str | None = None
    content: FolderContent | None = field(default=None, compare=False, repr=False)

    def verify_unchanged(self) -> None:
        """Check that what a library has just loaded is what the hashes say; see `FolderContent`.

        Raises:
            ModelError: A file changed after it was hashed.
        """
        if self.content is not None:
            self.content.verify_unchanged()
            check_code(self.content.code)

    def verify_not_overwritten(self) -> None:
        """Check, before vectors are kept, that the loaded files were not overwritten; see `FolderContent`.

        Raises:
            ModelError: A file was overwritten in place.
        """
        if self.content is not None:
            self.content.verify_not_overwritten()


def locate(model: str, revision: str | None, base_dir: Path, *, trust_remote_code: bool = False) -> Checkpoint:
    """Find a model's files, fetching them from the Hub if need be, and read what they declare.

    Args:
        model: builtin:<name>, a folder (absolute or relative to `base_dir`), or a Hub name.
        revision: Hub commit, branch or tag; only for Hub names.
        base_dir: Folder of the config.
        trust_remote_code: Whether code of other repositories that the checkpoint names will run, so that it is fetched
            and belongs to the identity.

    Raises:
        ModelError: It does not exist, its download failed, or files are missing or can't be read.
    """
    if is_builtin(model):
        known = BUILTIN_MODELS[model.removeprefix(BUILTIN_PREFIX)]
        return read_checkpoint(materialize(known.name), name=known.public_name, revision=known.revision)
    folder = (base_dir / Path(model).expanduser()).resolve()
    if is_folder_name(model) or folder.is_dir():
        if not folder.is_dir():
            raise ModelError(f"model {model!r}: there is no folder {folder}.")
        code = code_folders(folder) if trust_remote_code else {}
        return read_checkpoint(folder, name=public_local(folder.name), revision=None, code=code)
    return _from_hub(model, revision, trust_remote_code=trust_remote_code)


def _from_hub(model: str, revision: str | None, *, trust_remote_code: bool) -> Checkpoint:
    try:
        folder = snapshot_folder("model", model, revision) if is_offline() else None
        if folder is None:
            folder = fetch("model", model, revision, HUB_FILES, ignored=HUB_IGNORED)
        else:
            check_complete(folder, HUB_FILES, model, ignored=HUB_IGNORED)
    except HubError as error:
        raise ModelError(str(error)) from error
    code = code_folders(folder) if trust_remote_code else {}
    return read_checkpoint(folder, name=model, revision=folder.name, code=code)


def read_checkpoint(
    folder: Path, *, name: str, revision: str | None, code: Mapping[str, Path] | None = None
) -> Checkpoint:
    """Read what a checkpoint folder declares.

    Args:
        name: Its public name.
        revision: Its Hub commit; None: a hash of its content.
        code: Folders of the code of other repositories that it runs, by repository.

    Raises:
        ModelError: A file that is needed is missing or not understood.
    """
    check_files(folder, name)
    modules = [(kind.rsplit(".", 1)[-1], path) for kind, path in module_entries(folder)]
    kinds = [kind for kind, _ in modules]
    transformer = folder / next((path for kind, path in modules if kind == "Transformer"), "")
    config = _read_json(transformer / "config.json", required=not modules)
    content = FolderContent.read(folder, code)
    if not any(is_vocabulary(name) for name in content.hashes):
        raise ModelError(f"{folder} holds no tokenizer (tokenizer.json, vocab.txt, sentencepiece.bpe.model).")
    positions = _max_positions(folder, config)
    weights_hash = content.digest(lambda name: not is_tokenizer_file(name))
    tokenizer_hash = content.digest(is_tokenizer_file)
    return Checkpoint(
        folder=folder,
        name=name,
        revision=revision or hashlib.sha256(f"{weights_hash} {tokenizer_hash}".encode()).hexdigest()[:40],
        pooling=_declared_pooling(folder, modules),
        max_length=min(_declared_length(transformer) or min(positions, _PLAIN_LENGTH), positions),
        max_positions=positions,
        normalize="Normalize" in kinds,
        similarity=_declared_similarity(folder),
        other_modules=tuple(kind for kind in kinds if kind not in _KNOWN_MODULES),
        weights_hash=weights_hash,
        tokenizer_hash=tokenizer_hash,
        embedding_dim=_integer(folder, config, "hidden_size") or 0,
        declared_dtype=config.get("dtype") or config.get("torch_dtype"),
        content=content,
    )


def _declared_length(transformer: Path) -> int | None:
    """The maximum length that a file declares; sentence-transformers 6 keeps it in tokenizer_config.json."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        length = _read_json(transformer / name).get(key)
        if isinstance(length, float) or (isinstance(length, int) and length > UNLIMITED):
            continue  # transformers writes 1e30 for a tokenizer without a limit
        found = _integer(transformer, {key: length}, key)
        if found is not None:
            return found
    return None


def _declared_pooling(folder: Path, modules: list[tuple[str, str]]) -> str:
    paths = [path for kind, path in modules if kind == "Pooling"]
    if not paths:
        return "none" if modules else "mean"
    declared = _read_json(folder / paths[0] / "config.json", required=True)
    mode = declared.get("pooling_mode")
    modes = (
        [mode] if isinstance(mode, str) else mode or [on for flag, on in _POOLING_FLAGS.items() if declared.get(flag)]
    )
    return "+".join({"lasttoken": "last"}.get(one, one) for one in modes) or "mean"


def _declared_similarity(folder: Path) -> Literal["cosine", "dot"]:
    name = _read_json(folder / "config_sentence_transformers.json").get("similarity_fn_name") or "cosine"
    if name not in {"cosine", "dot"}:
        raise ModelError(f"{folder} declares the similarity {name!r}; cosine and dot are supported.")
    return cast(Literal["cosine", "dot"], name)


def _max_positions(folder: Path, config: dict[str, Any]) -> int:
    """Tokens a text may have. RoBERTa-like models number positions from padding_idx + 1."""
    positions = _integer(folder, config, "max_position_embeddings") or 512
    return positions - 2 if config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"} else positions


def _read_json(file: Path, *, required: bool = False) -> dict[str, Any]:
    content = read_json(file)
    if content is None and required:
        raise ModelError(f"{file} is missing; a model folder needs it.")
    if not isinstance(content, dict | None):
        raise ModelError(f"{file} does not hold a JSON object.")
    return content or {}


def _integer(folder: Path, declared: dict[str, Any], name: str) -> int | None:
    """A whole number that a checkpoint's file declares, if it does."""
    value = declared.get(name)
    if value is not None and type(value) is not int:
        raise ModelError(f"{folder} declares {name} {value!r}, which is not a whole number.")
    return value
