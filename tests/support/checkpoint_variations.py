"""Tiny checkpoints of every kind that people have, each saved by the library that people save it with.

`VARIATIONS` holds one builder per kind, with what is to come of it: which forward pass runs it, or the sentence that
refuses it. Files are changed by hand only where a kind is defined by its files (older layouts, damage).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import LETTERS, POSITIONS, VOCABULARY, write_json

WIDTH = 16
CASED_VOCABULARY = [*VOCABULARY, *LETTERS.upper()[:26], *(f"##{letter}" for letter in LETTERS.upper()[:26]), "é", "##é"]
SIZES: dict[str, Any] = {
    "vocab_size": len(CASED_VOCABULARY) + 8,  # room for tokens that a tokenizer adds
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Variation:
    """A kind of checkpoint. `forward`: which pass runs it; `refused`: a pattern of the sentence, if it is refused."""

    build: Callable[[Path], None]
    forward: str = "ours"
    refused: str | None = None


# ------------------------------------------------------------------------------------------------------------ by hand


def change_json(file: Path, **values: Any) -> None:
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), **values})


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(part: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept = {name: tensor for name, tensor in weights.items() if part not in name}
    assert len(kept) < len(weights), part
    return kept


# ------------------------------------------------------------------------------------------------------ by transformers


def save_tokenizer(folder: Path, **options: Any) -> None:
    """A BertTokenizer with a token for each letter, saved by transformers."""
    from transformers import BertTokenizer

    vocabulary = {piece: row for row, piece in enumerate(CASED_VOCABULARY)}
    BertTokenizer(vocab=vocabulary, **{"do_lower_case": True, **options}).save_pretrained(folder)


def random_model(kind: str = "Bert", head: str = "Model", **changes: Any) -> Any:
    """A model class of transformers with random weights, all parts of which matter."""
    import transformers

    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    model = getattr(transformers, f"{kind}{head}")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name.lower() or name.endswith("bias"):
                weight.add_(0.2 * torch.randn(weight.shape))
    return model


def plain(
    folder: Path, kind: str = "Bert", head: str = "Model", *, tokens: Mapping[str, Any] | None = None, **changes: Any
) -> None:
    """A folder as transformers saves it."""
    random_model(kind, head, **changes).save_pretrained(folder)
    save_tokenizer(folder, **(tokens or {}))


# --------------------------------------------------------------------------------------------- by sentence-transformers


def transformer(folder: Path, max_seq_length: int | None = None, **options: Any) -> Any:
    """A Transformer module on a plain folder beside the one to be saved."""
    from sentence_transformers.sentence_transformer.modules import Transformer

    source = folder.with_name(f"{folder.name}-source")
    if not source.exists():
        plain(source, **options)
    return Transformer(str(source), max_seq_length=max_seq_length)


def pooling(mode: Any = "mean", **options: Any) -> Any:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(WIDTH, mode, **options)


def dense(width: int = 8) -> Any:
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(3)
    return Dense(WIDTH, width)


def normalize() -> Any:
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


def sentence_model(
    folder: Path,
    parts: Sequence[Callable[[], Any]] = (pooling, normalize),
    model: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """A folder as sentence-transformers saves it: a tiny transformer and more modules."""
    from sentence_transformers import SentenceTransformer

    modules = [transformer(folder, **options), *(part() for part in parts)]
    SentenceTransformer(modules=modules, device="cpu", **(model or {})).save(str(folder), create_model_card=False)


def older_layout(folder: Path, *, max_seq_length: int | None = 24, lower: bool = False, **flags: bool) -> None:
    """The files of sentence-transformers 2 to 5: the length apart, a flag for each pooling mode, old module names."""
    sentence_model(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": lower})
    change_json(folder / "tokenizer_config.json", model_max_length=512)
    names = {"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"}
    chosen = flags or {"mean_tokens": True}
    modes = {f"pooling_mode_{name}": chosen.get(name, False) for name in sorted(names)}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes})
    (folder / "2_Normalize" / "config.json").unlink()
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    write_json(
        folder / "modules.json",
        [
            {"idx": row, "name": str(row), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for row, (path, kind) in enumerate(kinds.items())
        ],
    )
    write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.2.2"}})


def in_subfolder(folder: Path) -> None:
    """The layout of the first versions: all of the transformer in 0_Transformer."""
    older_layout(folder)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in folder.iterdir():
        if file.is_file() and file.name not in {"modules.json", "config_sentence_transformers.json"}:
            shutil.move(file, inner / file.name)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    write_json(folder / "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])


def static(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    source = folder.with_name(f"{folder.name}-source")
    save_tokenizer(source)
    torch.manual_seed(5)
    module = StaticEmbedding(AutoTokenizer.from_pretrained(source), embedding_dim=WIDTH)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)


def routed(folder: Path) -> None:
    """Queries through static embeddings, documents through a transformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding
    from transformers import AutoTokenizer

    document = [transformer(folder), pooling()]
    torch.manual_seed(5)
    tokenizer = AutoTokenizer.from_pretrained(folder.with_name(f"{folder.name}-source"))
    router = Router.for_query_document([StaticEmbedding(tokenizer, embedding_dim=WIDTH)], document)
    SentenceTransformer(modules=[router, normalize()], device="cpu").save(str(folder), create_model_card=False)


def t5(folder: Path, **options: Any) -> None:
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": None}
    sentence_model(folder, [pooling], kind="T5", initializer_factor=1.0, **sizes, **options)


def sparse(folder: Path) -> None:
    from sentence_transformers import SparseEncoder

    source = folder.with_name(f"{folder.name}-source")
    plain(source, head="ForMaskedLM")
    SparseEncoder(str(source), device="cpu").save(str(folder))


def cross_encoder(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    source = folder.with_name(f"{folder.name}-source")
    plain(source, head="ForSequenceClassification", num_labels=1)
    CrossEncoder(str(source), device="cpu").save(str(folder))


def late_interaction(folder: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    source = folder.with_name(f"{folder.name}-source")
    plain(source)
    MultiVectorEncoder(str(source), device="cpu").save(str(folder))


# ------------------------------------------------------------------------------------------------ tokenizers and damage


def tokenizers_disagree(folder: Path, **config: Any) -> None:
    """tokenizer.json as one program left it, tokenizer_config.json as another; transformers goes by the latter."""
    sentence_model(folder)
    change_json(folder / "tokenizer_config.json", **config)


def lower_casing(folder: Path, *, already: bool) -> None:
    older_layout(folder, lower=True)
    source = folder.with_name(f"{folder.name}-tokenizer")
    save_tokenizer(source, do_lower_case=already)
    for file in source.iterdir():
        shutil.copy(file, folder / file.name)
    change_json(folder / "tokenizer_config.json", model_max_length=512)


def damaged(folder: Path, change: Callable[[Path], None], build: Callable[[Path], None] = sentence_model) -> None:
    build(folder)
    change(folder)


def as_lfs_pointer(file: str, folder: Path) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 438000000\n"
    (folder / file).write_text(text, encoding="utf-8")


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def in_bfloat16(folder: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)


def old_norm_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    found = {}
    for name, tensor in weights.items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        found[name] = tensor
    return found


def tied_norms(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = {kind: next(t for name, t in weights.items() if f"LayerNorm.{kind}" in name) for kind in ("weight", "bias")}
    return {
        name: first[name.rpartition(".")[2]].clone() if "LayerNorm" in name else tensor
        for name, tensor in weights.items()
    }


def with_adapter(folder: Path) -> None:
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": str(folder)})
    save_file({"base_model.model.query.lora_A.weight": torch.zeros(2, WIDTH)}, folder / "adapter_model.safetensors")


def stored_truncation(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(folder / "tokenizer.json"))


def as_colbert_of_stanford(folder: Path) -> None:
    (folder / "artifact.metadata").write_text("{}", encoding="utf-8")
    change_json(folder / "config.json", architectures=["HF_ColBERT"])


XLMR = {"kind": "XLMRoberta", "pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": POSITIONS + 2}
GPT2 = {"kind": "GPT2", "n_positions": POSITIONS, "n_embd": WIDTH, "n_layer": 2, "n_head": 2, "bos_token_id": 2}
GPT2 |= {"eos_token_id": 3}
NO_TOKEN_TYPES = {"model_input_names": ["input_ids", "attention_mask"]}

VARIATIONS: dict[str, Variation] = {
    # what sentence-transformers saves today
    "mean, normalised": Variation(sentence_model),
    "cls": Variation(partial(sentence_model, parts=[partial(pooling, "cls")])),
    "last token": Variation(partial(sentence_model, parts=[partial(pooling, "lasttoken")])),
    "max": Variation(partial(sentence_model, parts=[partial(pooling, "max"), normalize]), "library"),
    "weighted mean": Variation(partial(sentence_model, parts=[partial(pooling, "weightedmean")]), "library"),
    "mean by root of length": Variation(
        partial(sentence_model, parts=[partial(pooling, "mean_sqrt_len_tokens")]), "library"
    ),
    "mean and max joined": Variation(partial(sentence_model, parts=[partial(pooling, ("mean", "max"))]), "library"),
    "length 16": Variation(partial(sentence_model, max_seq_length=16)),
    "length beyond the positions": Variation(partial(sentence_model, max_seq_length=500), refused=None),
    "prompts": Variation(partial(sentence_model, model={"prompts": {"query": "query: ", "passage": "passage: "}})),
    "default prompt": Variation(
        partial(sentence_model, model={"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    ),
    "prompt not pooled": Variation(
        partial(
            sentence_model,
            parts=[partial(pooling, include_prompt=False), normalize],
            model={"prompts": {"query": "ab "}},
        ),
        "library",
    ),
    "truncated": Variation(partial(sentence_model, model={"truncate_dim": 6})),
    "truncated, not normalised": Variation(partial(sentence_model, parts=[pooling], model={"truncate_dim": 6})),
    "dense": Variation(partial(sentence_model, parts=[pooling, dense]), "library"),
    "normalised before dense": Variation(partial(sentence_model, parts=[pooling, normalize, dense]), "library"),
    "dense, normalised": Variation(partial(sentence_model, parts=[pooling, dense, normalize]), "library"),
    "static embeddings": Variation(static, "library"),
    "T5 encoder": Variation(t5, "library"),
    "router": Variation(routed, "library"),
    "dot product": Variation(partial(sentence_model, parts=[pooling], model={"similarity_fn_name": "dot"})),
    "tokenizer cuts on the left": Variation(
        partial(sentence_model, max_seq_length=16, tokens={"truncation_side": "left"})
    ),
    "decoder, last token": Variation(
        partial(sentence_model, parts=[partial(pooling, "lasttoken")], tokens=NO_TOKEN_TYPES, **GPT2)
    ),
    "decoder that is given token types": Variation(
        partial(sentence_model, parts=[partial(pooling, "lasttoken")], **GPT2), "library"
    ),
    # older layouts
    "older layout": Variation(older_layout),
    "older layout, cls": Variation(partial(older_layout, cls_token=True)),
    "older layout, two poolings": Variation(partial(older_layout, cls_token=True, mean_tokens=True), "library"),
    "older layout, no length": Variation(partial(older_layout, max_seq_length=None)),
    "transformer in a subfolder": Variation(in_subfolder, "library"),
    "do_lower_case, tokenizer lower-cases": Variation(partial(lower_casing, already=True)),
    "do_lower_case, tokenizer does not": Variation(partial(lower_casing, already=False), "library"),
    # families
    "XLM-R": Variation(partial(sentence_model, **XLMR)),
    "RoBERTa": Variation(partial(sentence_model, **{**XLMR, "kind": "Roberta"})),
    "MPNet": Variation(partial(sentence_model, **{**XLMR, "kind": "MPNet"})),
    "DistilBERT": Variation(
        partial(sentence_model, kind="DistilBert", dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=32)
    ),
    "ELECTRA": Variation(partial(sentence_model, kind="Electra", embedding_size=WIDTH)),
    "ALBERT": Variation(partial(sentence_model, kind="Albert", embedding_size=8)),
    "relu": Variation(partial(sentence_model, hidden_act="relu")),
    # transformers alone
    "plain BERT": Variation(plain),
    "plain BERT, length declared": Variation(partial(plain, tokens={"model_max_length": 20})),
    "plain BERT below a language-model head": Variation(partial(plain, head="ForMaskedLM")),
    "plain BERT in bfloat16": Variation(partial(damaged, change=in_bfloat16, build=plain)),
    "plain T5 encoder": Variation(
        partial(plain, kind="T5", head="EncoderModel", d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
        "library",
    ),
    # tokenizers
    "tokenizer files disagree on case": Variation(partial(tokenizers_disagree, do_lower_case=False)),
    "tokenizer files disagree on accents": Variation(
        partial(tokenizers_disagree, do_lower_case=False, strip_accents=True)
    ),
    "tokenizer files disagree on CJK": Variation(partial(tokenizers_disagree, tokenize_chinese_chars=False)),
    "tokenizer_config.json adds a token": Variation(
        partial(
            tokenizers_disagree,
            added_tokens_decoder={
                "7": {
                    "content": "ab",
                    "special": False,
                    "lstrip": False,
                    "rstrip": False,
                    "single_word": False,
                    "normalized": False,
                }
            },
        )
    ),
    "pad token odd": Variation(partial(sentence_model, tokens={"pad_token": "."})),
    "pad token missing": Variation(
        partial(damaged, change=lambda folder: change_json(folder / "tokenizer_config.json", pad_token=None)),
        refused="can't be run by sentence-transformers: .*does not have a padding token",
    ),
    "pad token elsewhere in config.json": Variation(
        partial(damaged, change=lambda folder: change_json(folder / "config.json", pad_token_id=5))
    ),
    "pad token beyond the vocabulary": Variation(
        partial(damaged, change=lambda folder: change_json(folder / "config.json", pad_token_id=SIZES["vocab_size"])),
        refused="can't be loaded from .* by sentence-transformers",
    ),
    "truncation and padding stored": Variation(partial(damaged, change=stored_truncation)),
    # weights
    "shards": Variation(partial(damaged, change=as_shards)),
    "old names of LayerNorm": Variation(partial(damaged, change=lambda folder: change_weights(folder, old_norm_names))),
    "tied LayerNorms": Variation(partial(damaged, change=lambda folder: change_weights(folder, tied_norms))),
    "LayerNorm missing": Variation(
        partial(damaged, change=lambda folder: change_weights(folder, partial(without, "embeddings.LayerNorm"))),
        refused="2 weights are missing from its files, embeddings.LayerNorm.bias among them",
    ),
    "a layer missing": Variation(
        partial(damaged, change=lambda folder: change_weights(folder, partial(without, "layer.1."))),
        refused="weights are missing from its files, encoder.layer.1",
    ),
    "weights are a git-lfs pointer": Variation(
        partial(damaged, change=partial(as_lfs_pointer, "model.safetensors")),
        refused="model.safetensors is a git-lfs pointer, not the file itself: run git lfs pull in",
    ),
    "tokenizer is a git-lfs pointer": Variation(
        partial(damaged, change=partial(as_lfs_pointer, "tokenizer.json")),
        refused="tokenizer.json is a git-lfs pointer, not the file itself: run git lfs pull in",
    ),
    "pickled weights": Variation(partial(damaged, change=as_pickle), refused=r"holds no \*.safetensors file .*pickled"),
    "torn weights": Variation(
        partial(damaged, change=lambda folder: (folder / "model.safetensors").write_bytes(b"torn")),
        refused="can't be loaded from .* by sentence-transformers",
    ),
    "no tokenizer": Variation(
        partial(damaged, change=lambda folder: [(folder / name).unlink() for name in ("tokenizer.json",)]),
        refused="holds no tokenizer",
    ),
    # other kinds of model
    "no pooling": Variation(partial(sentence_model, parts=[]), refused="has no pooling module"),
    "cross-encoder": Variation(cross_encoder, refused="is a CrossEncoder, which scores pairs of texts"),
    "classification head": Variation(
        partial(plain, head="ForSequenceClassification"),
        refused="has a sequence-classification head .*BertForSequenceClassification",
    ),
    "question-answering head": Variation(
        partial(plain, head="ForQuestionAnswering"), refused="has a question-answering head"
    ),
    "sparse": Variation(sparse, refused=r"is a SparseEncoder \(SPLADE\), whose vectors are sparse"),
    "late interaction": Variation(late_interaction, refused=r"is a late-interaction model \(ColBERT\)"),
    "late interaction, PyLate": Variation(
        partial(
            damaged,
            change=lambda folder: change_json(folder / "config_sentence_transformers.json", model_type="ColBERT"),
        ),
        refused=r"is a late-interaction model \(ColBERT\)",
    ),
    "late interaction, Stanford": Variation(
        partial(damaged, change=as_colbert_of_stanford, build=plain), refused=r"is a late-interaction model \(ColBERT\)"
    ),
    "decoder without pooling": Variation(
        partial(plain, head="Model", **GPT2), refused=r"is a generative model without a pooling module \(GPT2Model\)"
    ),
    "language model": Variation(
        partial(plain, head="LMHeadModel", **GPT2), refused=r"is a generative model without a pooling module"
    ),
    "adapter alone": Variation(
        partial(damaged, change=lambda folder: (with_adapter(folder), (folder / "model.safetensors").unlink())),
        refused=r"holds an adapter without its base model .*merge_and_unload",
    ),
    "adapter": Variation(
        partial(damaged, change=with_adapter), refused=r"needs the package peft; install it with: pip install"
    ),
    "euclidean": Variation(
        partial(sentence_model, model={"similarity_fn_name": "euclidean"}),
        refused="declares the similarity 'euclidean'",
    ),
}
