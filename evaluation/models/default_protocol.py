"""Decides which protocol a model runs under: the config's choice, else what the model's name and files imply.

What it is made of counts, never the name of its folder. Knows no task and no prefix.
"""

from __future__ import annotations

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import OWN, UNDECIDED, RunConfig
from evaluation.hub.cache import snapshot_folder
from evaluation.models.builtin import BUILTIN_MODELS
from evaluation.models.declarations import Declarations, read_declarations
from evaluation.models.names import BUILTIN_PREFIX, e5_family, is_bm25, is_builtin, is_folder_name, is_in_memory
from evaluation.protocols import ModelPrompts, ModelProtocol

_KINDS = {"e5": "E5", "instruct": "instruction-tuned E5"}
_BM25 = "because BM25 matches words, so no prefix applies; it scores retrieval and reranking tasks only"
_OWN = "because the model's own encode decides prefix, pooling and length; its vectors are not cached"
_CHOSEN = "as the config says"
_NOT_HERE = "because its files, which decide it, are not on this machine yet"
_FILLS_MASKS = (
    "it is saved as a masked language model without a pooling module, so the mean over its tokens is scored; that is "
    "wrong for a sparse encoder (SPLADE)."
)
_NO_PROMPTS = "it declares no prompts, so its texts get none; if it was made from an E5 model, set protocol: e5."


def protocol_of(config: RunConfig, model: ModelConfig) -> ModelProtocol:
    """Decides the protocol of a model from the config, its name, and those of its files that are on this machine.

    Raises:
        ModelError: A file that declares prompts can't be understood.

    Example:
        >>> protocol_of(config, config.models[0]).name
        'e5'
    """
    if model.endpoint is not None:
        return choose_protocol(config, model, model.model, Declarations())
    if is_bm25(model.model):
        return ModelProtocol("none", _BM25)
    if is_in_memory(model.model):
        return ModelProtocol(OWN, _OWN)
    if is_builtin(model.model):
        builtin = BUILTIN_MODELS.get(model.model.removeprefix(BUILTIN_PREFIX))
        return choose_protocol(config, model, builtin.public_name if builtin else None, Declarations())
    folder = config.resolve_path(model.model)
    if folder.is_dir() or is_folder_name(model.model):
        return choose_protocol(config, model, None, read_declarations(folder))
    snapshot = snapshot_folder("model", model.model, model.revision)
    declared = None if snapshot is None else read_declarations(snapshot)
    return choose_protocol(config, model, model.model, declared)


def choose_protocol(
    config: RunConfig, model: ModelConfig, name: str | None, declared: Declarations | None
) -> ModelProtocol:
    """Decides a model's protocol: the config's, else the default that follows from what the model is.

    Args:
        config: Holds the user's own protocols.
        model: The model as the config declares it.
        name: Its public name on the Hub; None for a folder, whose name says nothing.
        declared: What its files say; None where they are not on this machine.
    """
    default, reason = _default(name, declared)
    prompts = ModelPrompts() if declared is None else declared.prompts
    warnings = [_FILLS_MASKS] if declared is not None and declared.fills_masks else []
    if model.protocol is None:
        warnings += [_NO_PROMPTS] if default == "none" else []
        warnings += _unused_prompts(prompts) if default == "declared" else []
        return ModelProtocol(default, reason, prompts, tuple(warnings))
    own = config.protocols.get(model.protocol)
    base = model.protocol if own is None else own.base
    if base == "declared":
        if declared is None:
            return ModelProtocol(UNDECIDED, _NOT_HERE)
        return ModelProtocol(model.protocol, _CHOSEN, prompts, (*warnings, *_unused_prompts(prompts)))
    if prompts.filled and base != default and (base, default) != ("mteb", "e5"):  # mteb's rules send E5's prompts too
        warnings += [f"protocol {model.protocol} ignores the prompts that the model declares ({_shown(prompts)})."]
    return ModelProtocol(model.protocol, _CHOSEN, prompts, tuple(warnings))


def _default(name: str | None, declared: Declarations | None) -> tuple[str, str]:
    """Returns the default protocol and the reason for it; the prompts of a fine-tuned model outweigh its origin."""
    if name is not None and (family := e5_family(name)):
        return family, f"because {name} is an {_KINDS[family]} model"
    if declared is None:
        return UNDECIDED, _NOT_HERE
    prompts = declared.prompts.filled
    if declared.prompts.are_e5s:
        return "e5", "because its prompts are E5's"
    origin = next((origin for origin in declared.origins if e5_family(origin)), None)
    if origin is not None and not prompts.keys() & {"query", "document", declared.prompts.default_name}:
        family = e5_family(origin) or ""
        return family, f"because it was made from {origin}, an {_KINDS[family]} model"
    if prompts:
        return "declared", f"because it declares prompts of its own ({_shown(declared.prompts)})"
    return "none", "because it declares no prompts"


def _unused_prompts(prompts: ModelPrompts) -> list[str]:
    """Warns of prompts for documents under a name that sentence-transformers never reaches."""
    filled = prompts.filled
    name = next((name for name in ("passage", "corpus") if name in filled), None)
    if name is None or "document" in filled:
        return []
    return [f"its prompt {name!r} is never sent: sentence-transformers sends documents the prompt 'document'."]


def _shown(prompts: ModelPrompts) -> str:
    filled = list(prompts.filled.items())
    listed = [f"{name} {text[:30]!r}" for name, text in filled[:3]]
    return ", ".join(listed) + (f" and {len(filled) - 3} more" if len(filled) > 3 else "")
