"""Tiny random checkpoints on disk, by transformers alone or with the files of sentence-transformers beside them."""

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
    """`write_modules`, for tests that change a checkpoint."""
    return write_modules


def write_modules(
    folder: Path, *kinds: str, pooling: str = "mean", max_seq_length: int | None = None, dimensions: int = 16
) -> None:
    """Write modules.json and what its modules need: kinds in order, pooling mode, max_seq_length."""
    modules = []
    for place, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{place}_{kind}"
        (folder / path).mkdir(exist_ok=True)
        modules.append({"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"})
        if kind == "Pooling":
            names = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}
            flags = {f"pooling_mode_{name}": mode == pooling for mode, name in names.items()}
            write_json(folder / path / "config.json", {"word_embedding_dimension": dimensions, **flags})
        if kind == "Dense":
            import torch
            from safetensors.torch import save_file

            activation = "torch.nn.modules.linear.Identity"
            content = {"in_features": 16, "out_features": 4, "bias": False, "activation_function": activation}
            write_json(folder / path / "config.json", content)
            save_file({"linear.weight": torch.eye(4, 16)}, folder / path / "model.safetensors")
    write_json(folder / "modules.json", modules)
    if max_seq_length is not None:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False})


# ------------------------------------------------------------------------------------------ with a tokenizer of words


@pytest.fixture(scope="session")
def wordpiece_tokenizer() -> Path:
    """The uncased WordPiece tokenizer.json that comes with the built-in MiniLM."""
    from evaluation.errors import EvaluationError
    from evaluation.models.builtin import materialize

    try:
        return materialize("all-MiniLM-L6-v2") / "tokenizer.json"
    except EvaluationError as error:
        pytest.skip(f"no tokenizer for a tiny model: {error}")


@pytest.fixture(scope="session")
def save_bert(wordpiece_tokenizer: Path) -> Callable[..., Path]:
    """A function that writes a random BERT checkpoint which transformers and sentence-transformers both load."""

    def save(
        folder: Path, *, normalize: bool = True, similarity: str = "cosine", max_length: int = 64, **sizes: int
    ) -> Path:
        import torch
        from transformers import BertConfig, BertModel

        torch.manual_seed(20_260_101)
        BertModel(BertConfig(vocab_size=30_522, **sizes)).save_pretrained(folder)
        shutil.copy(wordpiece_tokenizer, folder / "tokenizer.json")
        kinds = ("Transformer", "Pooling", *(["Normalize"] if normalize else []))
        write_modules(folder, *kinds, max_seq_length=max_length, dimensions=sizes["hidden_size"])
        write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": similarity})
        tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length}
        write_json(folder / "tokenizer_config.json", tokenizer)
        return folder

    return save


TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="session")
def tiny_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, mean pooling, a Normalize module, 64 tokens, cosine."""
    return save_bert(tmp_path_factory.mktemp("models") / "tiny", **TINY)


def save_declaring(checkpoint: Path, folder: Path, *, base_model: str | None = None, **declared: Any) -> Path:
    """A checkpoint saved again by sentence-transformers, with what it declares: prompts, a base model on its card."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu", **declared)
    if base_model is not None:
        model.model_card_data.base_model = base_model
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def raw_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without a Normalize module."""
    return save_bert(tmp_path_factory.mktemp("models") / "raw", normalize=False, **TINY)


@pytest.fixture(scope="session")
def dot_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without a Normalize module, compared by dot product."""
    return save_bert(tmp_path_factory.mktemp("models") / "dot", normalize=False, similarity="dot", **TINY)
