"""A tiny random BERT on disk, by transformers alone and with the files of sentence-transformers beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", ".", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
POSITIONS = 32


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def write_tiny_bert(folder: Path, seed: int = 0) -> Path:
    """A BertModel of 2 layers and 32 positions, and a tokenizer with a token a letter."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **roles).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=POSITIONS, initializer_range=0.5, pad_token_id=0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that change a checkpoint change a copy."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture
def bert_copy(bert_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-bert"
    shutil.copytree(bert_folder, folder)
    return folder


@pytest.fixture
def declare_modules() -> Callable[..., None]:
    """Write modules.json and what its modules need: kinds in order, pooling mode, max_seq_length."""

    def declare(folder: Path, *kinds: str, pooling: str = "mean", max_seq_length: int | None = None) -> None:
        from safetensors.torch import save_file

        modules = []
        for place, kind in enumerate(kinds):
            path = "" if kind == "Transformer" else f"{place}_{kind}"
            modules.append(
                {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            )
            if kind == "Pooling":
                names = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}
                flags = {f"pooling_mode_{name}": mode == pooling for mode, name in names.items()}
                write_json(folder / path / "config.json", {"word_embedding_dimension": 16, **flags})
            if kind == "Dense":
                import torch

                activation = "torch.nn.modules.linear.Identity"
                content = {"in_features": 16, "out_features": 4, "bias": False, "activation_function": activation}
                write_json(folder / path / "config.json", content)
                save_file({"linear.weight": torch.eye(4, 16)}, folder / path / "model.safetensors")
        write_json(folder / "modules.json", modules)
        if max_seq_length is not None:
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False})

    return declare
