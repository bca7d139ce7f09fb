"""Checkpoints loaded by sentence-transformers and by transformers.

A normalizing module at the end is detached, because normalizing belongs to the protocol. One anywhere else stays, and
so does one in front of a truncation, as in the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from evaluation.errors import EncodingError, ModelError
from evaluation.models.facts import UNLIMITED, CheckpointFacts, Similarity, TextRole
from evaluation.models.reference import (
    ReferenceSettings,
    count_positions,
    library_errors,
    merge_adapters,
    untruncated_lengths,
)
from evaluation.models.refusals import adapter_folder, module_entries

_PLAIN_LENGTH = 512
"""Maximum length in E5's scripts, used where a tokenizer declares none."""
_SHORT_POOLING = {"lasttoken": "last"}
_LONG_POOLING = {"last": "lasttoken"}


class SentenceTransformersReference:
    """A folder with modules.json; its last module is detached where it normalizes."""

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
            merge_adapters(self._model)
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
        positions = count_positions(self._model)
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
        """Returns the token ids of texts, cut to the maximum length; None where a model has no such rows."""
        prepare = getattr(self._model, "preprocess", None) or self._model.tokenize
        task = {"task": role.route} if self._routed and role.route else {}
        features = prepare([role.prefix + text for text in texts], **task)
        ids, mask = features.get("input_ids"), features.get("attention_mask")
        if ids is None or mask is None or ids.ndim != 2:
            return None
        return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        """Returns the tokens of texts before they are cut."""
        module: Any = self._model[0]
        if self._routed and role.route in getattr(module, "sub_modules", {}):
            module = module.sub_modules[role.route][0]
        lengths = untruncated_lengths(module.tokenizer, [role.prefix + text for text in texts])
        return lengths if _cuts_texts(module) else [min(length, self.facts.max_length) for length in lengths]

    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        """Returns (B, D) float32 vectors of texts as one batch, on the model's device."""
        encode: Callable[..., torch.Tensor] = self._model.encode
        if self._routed and role.route is not None:
            encode = self._model.encode_query if role.route == "query" else self._model.encode_document
        if not self._pools:
            raise EncodingError(
                f"{self.name} has no pooling module, so it can't turn a text into a vector; "
                "add the one it was trained with."
            )
        with library_errors(self.name, self.library):
            found = encode(
                list(texts), prompt=role.prefix, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
            )
        return found.float()


class TransformersReference:
    """A plain folder, pooled as on E5's model cards unless the config says otherwise."""

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
            merge_adapters(self._model)
        self._how = settings.pooling or "mean"
        positions = count_positions(self._model)
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
        """Returns the token ids of texts, cut to the maximum length; None where a model has no such rows."""
        strings = [role.prefix + text for text in texts]
        ids = self._tokenizer(strings, truncation=True, max_length=self.facts.max_length, padding=False)["input_ids"]
        return cast(list[list[int]], ids)

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        """Returns the tokens of texts before they are cut."""
        return untruncated_lengths(self._tokenizer, [role.prefix + text for text in texts])

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        """Returns (B, D) float32 vectors of texts as one batch, on the model's device."""
        strings, length = [role.prefix + text for text in texts], self.facts.max_length
        with library_errors(self.name, self.library):
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
        limits.append(min(declared, count_positions(module)))
    if asked not in {None, max(limits)}:  # routes keep lengths of their own otherwise
        limits = [asked] * len(cutting)
    for module, limit in zip(cutting, limits, strict=True):
        if module.max_seq_length != limit:
            module.max_seq_length = limit
    return max(limits)


def _cuts_texts(module: Any) -> bool:
    """Whether it is a Transformer module of sentence-transformers; static embeddings read a text to its end."""
    return hasattr(module, "do_lower_case") and hasattr(module, "max_seq_length")


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
