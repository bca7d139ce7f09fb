"""A checkpoint as its own library runs it: sentence-transformers where the folder has modules.json, else transformers.

This is the truth that our own forward pass is compared with, and what runs where that one can't. A normalising module
at the end is detached, because normalising belongs to the protocol; one anywhere else stays, and so does one in front
of a truncation, as in the library. Plain transformers folders are pooled as E5's model cards do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from evaluation.errors import EncodingError, EvaluationError, ModelError
from evaluation.models.facts import UNLIMITED, CheckpointFacts, Similarity, TextRole
from evaluation.models.refusals import adapter_folder, check_dense_encoder, module_entries

_PLAIN_LENGTH = 512  # of E5's scripts, where a tokenizer declares none
_SHORT_POOLING = {"lasttoken": "last"}
_LONG_POOLING = {"last": "lasttoken"}


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """How a checkpoint is loaded by its library; None: as it declares."""

    dtype: torch.dtype
    device: str
    pooling: str | None = None
    max_length: int | None = None
    truncate_dim: int | None = None
    trust_remote_code: bool = False


class Reference(Protocol):
    """A loaded checkpoint.

    Attributes:
        name: For messages.
        facts: What the library says of it, under the settings it was loaded with.
    """

    name: str
    facts: CheckpointFacts

    def ids(self, texts: Sequence[str], role: TextRole) -> list[list[int]] | None:
        """Token ids of texts, the prefix in front, cut to the maximum length; None where a model has no such rows."""

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        """Tokens of texts, the prefix in front, before they are cut."""

    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        """(B, D) float32 vectors of texts as one batch, on the model's device."""


def load_reference(folder: Path, name: str, settings: ReferenceSettings) -> Reference:
    """Load a checkpoint by its own library.

    Args:
        folder: Its files.
        name: For messages.
        settings: How it is run.

    Raises:
        ModelError: It is not a dense sentence encoder, or the library can't load it.
    """
    check_dense_encoder(folder, name, pooling=settings.pooling)
    kind = _SentenceTransformers if (folder / "modules.json").is_file() else _Transformers
    missing: list[str] = []
    try:
        with _noting_missing_weights(missing):
            model: Reference = kind(folder, name, settings)
    except EvaluationError as error:
        raise ModelError(str(error)) from error
    except Exception as error:  # whatever a library, or a repository's own code, makes of broken files
        if "trust_remote_code" in str(error) and not settings.trust_remote_code:
            raise ModelError(
                f"{name} has Python code of its own, which runs only with trust_remote_code: true; read it first."
            ) from error
        raise ModelError(f"{name} can't be loaded from {folder} by {kind.library}: {reason_of(error)}") from error
    if missing:
        raise ModelError(
            f"{name} can't be loaded from {folder}: {len(missing)} weights are missing from its files, "
            f"{missing[0]} among them."
        )
    if model.facts.max_length > model.facts.max_positions:
        asked, positions = model.facts.max_length, model.facts.max_positions
        raise ModelError(f"max_length {asked} is more than the {positions} positions of {name}; lower it.")
    return model


def reason_of(error: BaseException) -> str:
    """The first line of an error as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."


class _SentenceTransformers:
    library = "sentence-transformers"

    def __init__(self, folder: Path, name: str, settings: ReferenceSettings) -> None:
        from sentence_transformers import SentenceTransformer

        self.name = name
        self._model = SentenceTransformer(
            str(folder),
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=True,
            truncate_dim=settings.truncate_dim,
            model_kwargs={"dtype": settings.dtype, "use_safetensors": True},
        ).eval()
        if adapter_folder(folder) is not None:
            _merge_adapters(self._model)
        paths = [path for _, path in module_entries(folder)]
        kinds = tuple(type(module).__name__ for module in self._model)
        if kinds[0] == "Transformer" and paths[0]:
            kinds = (f"{paths[0]}/Transformer", *kinds[1:])
        normalize = kinds[-1] == "Normalize" and self._model.truncate_dim is None
        if normalize:
            delattr(self._model, list(self._model._modules)[-1])
        poolings = [module for module in self._model.modules() if type(module).__name__ == "Pooling"]
        declared = _pooling_name(poolings[0]) if len(poolings) == 1 else "none"
        if settings.pooling not in {None, declared}:
            self._replace_pooling(str(settings.pooling))
        positions = _positions(self._model)
        length = _limit_length(self._model, settings.max_length, name)
        self._pools = kinds[-1] != "Transformer" and not kinds[-1].endswith("/Transformer")
        self._routed = any(type(module).__name__ == "Router" for module in self._model)
        self.facts = CheckpointFacts(
            library="sentence-transformers",
            architecture=_architecture(self._model),
            modules=kinds,
            pooling=settings.pooling or declared,
            max_length=length,
            max_positions=positions,
            include_prompt=all(getattr(module, "include_prompt", True) for module in poolings),
            normalize=normalize,
            truncate_dim=self._model.truncate_dim,
            similarity=_similarity(self._model.similarity_fn_name, name),
            prompts={key: text for key, text in self._model.prompts.items() if text},
            default_prompt_name=self._model.default_prompt_name,
            routed=self._routed,
            plain=kinds in {("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")},
            embedding_dim=0,
        )
        width = self.embed(["a"], TextRole()).shape[1]
        self.facts = replace(self.facts, embedding_dim=int(width))

    def _replace_pooling(self, how: str) -> None:
        places = [key for key, module in self._model._modules.items() if type(module).__name__ == "Pooling"]
        if len(places) != 1:
            raise ModelError(
                f"pooling {how!r} can't be set: {self.name} does not have one pooling module; leave it out."
            )
        old: Any = self._model._modules[places[0]]
        width = getattr(old, "embedding_dimension", None) or old.word_embedding_dimension
        new = type(old)(width, _LONG_POOLING.get(how, how), include_prompt=old.include_prompt)
        setattr(self._model, places[0], new)

    def ids(self, texts: Sequence[str], role: TextRole) -> list[list[int]] | None:
        prepare = getattr(self._model, "preprocess", None) or self._model.tokenize
        task = {"task": role.route} if self._routed and role.route else {}
        features = prepare([role.prefix + text for text in texts], **task)
        ids, mask = features.get("input_ids"), features.get("attention_mask")
        if ids is None or mask is None or ids.ndim != 2:
            return None
        return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        module: Any = self._model[0]
        if self._routed and role.route in getattr(module, "sub_modules", {}):
            module = module.sub_modules[role.route][0]
        lengths = _full_lengths(module.tokenizer, [role.prefix + text for text in texts])
        return lengths if _cuts_texts(module) else [min(length, self.facts.max_length) for length in lengths]

    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        encode: Callable[..., torch.Tensor] = self._model.encode
        if self._routed and role.route is not None:
            encode = self._model.encode_query if role.route == "query" else self._model.encode_document
        if not self._pools:
            raise EncodingError(
                f"{self.name} has no pooling module, so that it makes no vector of a text; "
                "add the one it was trained with."
            )
        with _sentences(self.name, self.library):
            found = encode(
                list(texts), prompt=role.prefix, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
            )
        return found.float()


class _Transformers:
    library = "transformers"

    def __init__(self, folder: Path, name: str, settings: ReferenceSettings) -> None:
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

        self.name, self._device = name, settings.device
        trust: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "local_files_only": True}
        config = AutoConfig.from_pretrained(str(folder), **trust)
        encoder_only = config.is_encoder_decoder or str(config.architectures).endswith("EncoderModel']")
        of_encoder = AutoModelForTextEncoding if encoder_only else AutoModel
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), **trust)
        self._model = of_encoder.from_pretrained(str(folder), dtype=settings.dtype, use_safetensors=True, **trust)
        self._model = self._model.to(settings.device).eval()
        if adapter_folder(folder) is not None:
            _merge_adapters(self._model)
        self._how = settings.pooling or "mean"
        positions = _positions(self._model)
        declared = self._tokenizer.model_max_length
        declared = _PLAIN_LENGTH if declared is None or declared > UNLIMITED else int(declared)
        self.facts = CheckpointFacts(
            library="transformers",
            architecture=type(self._model).__name__,
            modules=(),
            pooling=self._how,
            max_length=settings.max_length or min(declared, positions),
            max_positions=positions,
            include_prompt=True,
            normalize=False,
            truncate_dim=settings.truncate_dim,
            similarity="cosine",
            prompts={},
            default_prompt_name=None,
            routed=False,
            plain=True,
            embedding_dim=0,
        )
        width = self.embed(["a"], TextRole()).shape[1]
        self.facts = replace(self.facts, embedding_dim=int(width))

    def ids(self, texts: Sequence[str], role: TextRole) -> list[list[int]] | None:
        strings = [role.prefix + text for text in texts]
        ids = self._tokenizer(strings, truncation=True, max_length=self.facts.max_length, padding=False)["input_ids"]
        return cast(list[list[int]], ids)

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        return _full_lengths(self._tokenizer, [role.prefix + text for text in texts])

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        strings, length = [role.prefix + text for text in texts], self.facts.max_length
        with _sentences(self.name, self.library):
            batch = self._tokenizer(strings, truncation=True, max_length=length, padding=True, return_tensors="pt")
            batch = batch.to(self._device)
            hidden = self._model(**batch).last_hidden_state  # (B, T, D)
        return _pooled(hidden, batch["attention_mask"], self._how)[:, : self.facts.truncate_dim]


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, how: str) -> torch.Tensor:
    """(B, D) float32; mean as on E5's model cards, first or last token."""
    if how == "cls":
        return hidden[torch.arange(len(mask)), mask.argmax(dim=1)].float()
    if how == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)  # whichever side is padded
        return hidden[torch.arange(len(mask)), last].float()
    kept = hidden.float().masked_fill(~mask[..., None].bool(), 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1)[..., None]


def _limit_length(model: Any, asked: int | None, name: str) -> int:
    """Cut texts as asked, else as declared, but never beyond the positions; the tokens that are kept."""
    cutting = [module for module in model.modules() if _cuts_texts(module)]
    if not cutting:
        if asked not in {None, UNLIMITED}:
            raise ModelError(f"max_length {asked} can't be set: {name} reads every text to its end; leave it out.")
        return UNLIMITED
    limits = []
    for module in cutting:
        declared = module.max_seq_length
        declared = UNLIMITED if declared is None or math.isinf(declared) else min(int(declared), UNLIMITED)
        limits.append(min(declared, _positions(module)))
    if asked not in {None, max(limits)}:  # routes keep lengths of their own otherwise
        limits = [asked] * len(cutting)
    for module, limit in zip(cutting, limits, strict=True):
        if module.max_seq_length != limit:
            module.max_seq_length = limit
    return max(limits)


def _cuts_texts(module: Any) -> bool:
    """Whether it is a Transformer module of sentence-transformers; static embeddings read a text to its end."""
    return hasattr(module, "do_lower_case") and hasattr(module, "max_seq_length")


def _positions(model: torch.nn.Module) -> int:
    """Tokens that a loaded model can take; RoBERTa's kind counts positions from behind the padding token."""
    found = []
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            skipped = getattr(module, "padding_idx", None)
            found.append(table.num_embeddings - (skipped + 1 if isinstance(skipped, int) else 0))
    if found:
        return min(found)
    config = getattr(model, "config", None) or getattr(getattr(model, "transformers_model", None), "config", None)
    declared = getattr(config, "max_position_embeddings", None)
    return declared if isinstance(declared, int) and declared > 0 else UNLIMITED


def _pooling_name(module: Any) -> str:
    mode = getattr(module, "pooling_mode", None)
    modes = [mode] if isinstance(mode, str) else list(mode or module.get_pooling_mode_str().split("+"))
    return "+".join(_SHORT_POOLING.get(one, one) for one in modes)


def _similarity(declared: str | None, name: str) -> Similarity:
    if declared not in {None, "cosine", "dot"}:
        raise ModelError(f"{name} declares the similarity {declared!r}; cosine and dot are supported.")
    return cast(Similarity, declared or "cosine")


def _architecture(model: Any) -> str:
    return type(model.transformers_model if model.transformers_model is not None else model[0]).__name__


def _full_lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    if hasattr(tokenizer, "encode_batch"):  # of StaticEmbedding, which adds no special tokens
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [len(ids) for ids in tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]]


def _merge_adapters(model: Any) -> None:
    """Fold the adapters of peft into the weights below them, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ModelError(
            "its adapter was not applied by the library; merge it with merge_and_unload and save the model."
        )
    for layer in layers:
        layer.merge()


@contextmanager
def _sentences(name: str, library: str) -> Iterator[None]:
    """Turn what a library raises while it encodes into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except IndexError as error:
        raise EncodingError(
            f"{name} can't be run by {library}: its tokenizer gives ids, or more tokens, than it has embeddings for."
        ) from error
    except Exception as error:
        raise EncodingError(f"{name} can't be run by {library}: {reason_of(error)}") from error


@contextmanager
def _noting_missing_weights(missing: list[str]) -> Iterator[None]:
    """Collect the names of weights that transformers would fill in with random numbers, of which it only warns."""
    from transformers import PreTrainedModel

    patched: Any = PreTrainedModel
    original = patched.__dict__["from_pretrained"]

    def noting(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        model, report = original.__get__(None, cls)(*arguments, **{**options, "output_loading_info": True})
        missing.extend(sorted(name for name in report["missing_keys"] if "pooler." not in name))
        return model

    patched.from_pretrained = classmethod(noting)
    try:
        yield
    finally:
        patched.from_pretrained = original
