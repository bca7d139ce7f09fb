"""The size of a model, from its name or its config.json: enough to say what a forward pass costs. Loads no weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.system.limited_reading import parse_json

_SIZES = {"small": (12, 384, 1_536), "base": (12, 768, 3_072), "large": (24, 1_024, 4_096)}
"""Layers, width and inner width of the E5 models: their config.json on the Hub."""
_E5 = re.compile(r"(?:intfloat/|builtin:)(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?$")
_MINI_LM = re.compile(r"(?:sentence-transformers/|builtin:)all-MiniLM-L(6|12)-v2$")
_PLAIN_LENGTH = 512
_BERT_VOCABULARY, _XLM_VOCABULARY = 30_522, 250_037


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a transformer of the BERT family.

    Attributes:
        tokenizer: A name for its tokenizer: bert-uncased, xlm-roberta, or the model's own.
        max_length: Tokens kept of a text, as the checkpoint declares.
    """

    layers: int
    width: int
    inner_width: int
    vocabulary: int
    max_length: int
    tokenizer: str

    @property
    def parameters(self) -> int:
        """Weights, those of the pooler left out."""
        layer = 4 * self.width * self.width + 2 * self.width * self.inner_width + 9 * self.width + self.inner_width
        return self.layers * layer + (self.vocabulary + 514 + 2) * self.width

    @property
    def name(self) -> str:
        """What of the shape decides the time of a layer."""
        return f"{self.width}x{self.inner_width}"

    def flops(self, tokens: float, mean_length: float) -> float:
        """Multiplications and additions of a forward pass over texts of about one length."""
        dense = 2 * (4 * self.width * self.width + 2 * self.width * self.inner_width)
        return self.layers * tokens * (dense + 4 * mean_length * self.width)


def shape_of_name(model: str) -> ModelShape | None:
    """The shape of a model that is known by name."""
    found = _E5.fullmatch(model)
    if found:
        multilingual, size, _ = found.groups()
        vocabulary = _XLM_VOCABULARY if multilingual else _BERT_VOCABULARY
        return ModelShape(*_SIZES[size], vocabulary, 512, "xlm-roberta" if multilingual else "bert-uncased")
    found = _MINI_LM.fullmatch(model)
    if found:
        layers = int(found.group(1))
        return ModelShape(layers, 384, 1_536, _BERT_VOCABULARY, 256 if layers == 6 else 128, "bert-uncased")
    return None


def shape_of_folder(folder: Path, model: str) -> ModelShape | None:
    """The shape that a checkpoint's files declare; None where they are not understood."""
    config = _json(folder / "config.json")
    declared = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    declared = declared or _json(folder / "tokenizer_config.json").get("model_max_length") or _PLAIN_LENGTH
    try:
        vocabulary = int(config["vocab_size"])
        tokenizer = {_BERT_VOCABULARY: "bert-uncased", _XLM_VOCABULARY: "xlm-roberta"}.get(vocabulary, model)
        return ModelShape(
            layers=int(config["num_hidden_layers"]),
            width=int(config["hidden_size"]),
            inner_width=int(config["intermediate_size"]),
            vocabulary=vocabulary,
            max_length=min(int(declared), int(config["max_position_embeddings"])),
            tokenizer=tokenizer,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
