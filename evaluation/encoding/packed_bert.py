"""A forward pass of the BERT family without padding: all tokens of a batch lie one after another in one matrix.

Reads a checkpoint folder itself, without transformers, and refuses whatever it does not know for certain. The attention
kernel is a parameter. Knows nothing of texts, tokenizers or how batches are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from evaluation.config.grid import Pooling
from evaluation.encoding.attention import AttentionKernel, Segments, choose_attention
from evaluation.encoding.token_rows import TokenRows
from evaluation.errors import ModelError
from evaluation.system.limited_reading import parse_json

# What the keys of a checkpoint that also holds a head begin with, for each supported model_type.
_KEY_PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
# Entries of config.json that size a model.
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
)
# Beginnings of keys whose weights token vectors do not depend on.
_UNUSED_KEYS = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
_LEAST_STEP = 64
"""Blocked products are padded to a multiple of this many tokens. oneDNN compiles and keeps a kernel for every distinct
number of rows: 0.6 MB per matrix shape, half of it in a cache without a limit. Without padding, tiny texts cost 700
bytes each, and batches of 2,048 tokens could take gigabytes."""
# Parts of transformers' keys and what they are called here; earlier lines first.
_NEW_NAMES = {
    ".gamma": ".weight",  # TensorFlow's names of LayerNorm's weights, as in bert-base-uncased on the Hub
    ".beta": ".bias",
    "embeddings.word_embeddings.": "words.",
    "embeddings.position_embeddings.": "positions.",
    "embeddings.token_type_embeddings.": "token_types.",
    "embeddings.LayerNorm.": "norm.",
    "encoder.layer.": "layers.",
    "attention.output.dense.": "from_heads.",
    "attention.output.LayerNorm.": "attention_norm.",
    "intermediate.dense.": "widen.",
    "output.dense.": "narrow.",
    "output.LayerNorm.": "output_norm.",
}


class UnsupportedArchitecture(ModelError):
    """A checkpoint that this forward pass does not support; transformers may still run it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a supported config.json declares, under the names that it uses unless stated otherwise.

    Attributes:
        key_prefix: What precedes the keys of a checkpoint that also holds a head.
        pad_id: None where positions count from 0 (BERT). Else they count from pad_id + 1, and a token equal to pad_id
            gets the position pad_id (RoBERTa).
    """

    key_prefix: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    type_vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float
    pad_id: int | None


def read_architecture(folder: Path) -> Architecture:
    """Read config.json.

    Raises:
        UnsupportedArchitecture: It is missing, or declares something that `PackedBert` does not do.
    """
    try:
        config: dict[str, Any] = parse_json((folder / "config.json").read_bytes())
        kind = config["model_type"]
        if kind not in _KEY_PREFIXES:
            raise UnsupportedArchitecture(f"model_type {kind!r} is not one of {', '.join(_KEY_PREFIXES)}.")
        known = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
        strange = [key for key, value in known.items() if config.get(key, value) != value]
        strange += filter(config.get, ("is_decoder", "add_cross_attention", "quantization_config", "auto_map"))
        sizes = {key: _size(config, key) for key in _SIZES}
        if sizes["hidden_size"] % sizes["num_attention_heads"]:
            strange += ["hidden_size", "num_attention_heads"]
        if strange:
            declared = ", ".join(f"{key} {config[key]!r}" for key in strange)
            raise UnsupportedArchitecture(f"{folder} declares {declared}.")
        return Architecture(
            key_prefix=_KEY_PREFIXES[kind],
            layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
            pad_id=None if kind == "bert" else config.get("pad_token_id", 1),
            **sizes,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedArchitecture(f"{folder / 'config.json'} can't be understood: {error!r}.") from error


def _size(config: dict[str, Any], key: str) -> int:
    size = config[key]
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{key} is {size!r}")
    return size


class _Layer(nn.Module):
    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width, wide = arch.hidden_size, arch.intermediate_size
        self.n_heads = arch.num_attention_heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.from_heads = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, arch.layer_norm_eps)
        self.widen = nn.Linear(width, wide)
        self.narrow = nn.Linear(wide, width)
        self.output_norm = nn.LayerNorm(width, arch.layer_norm_eps)

    def forward(self, hidden: torch.Tensor, attention: AttentionKernel, segments: Segments) -> torch.Tensor:
        dtype = self.to_qkv.weight.dtype
        heads = self.to_qkv(hidden.to(dtype)).view(len(hidden), 3, self.n_heads, -1)
        query, key, value = heads.unbind(1)  # (N, H, d) each
        mixed = attention(query, key, value, segments).flatten(1)  # (N, D)
        hidden = self.attention_norm(_added(self.from_heads(mixed), hidden))
        wide = torch.ops.aten.gelu_(self.widen(hidden.to(dtype)))  # (N, intermediate_size)
        return cast(torch.Tensor, self.output_norm(_added(self.narrow(wide), hidden)))


def _added(update: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The residual stream after a block, in the stream's precision."""
    return update.add_(hidden) if update.dtype == hidden.dtype else hidden + update


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding without initial values, for which torch would import its compiler on the device meta."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class PackedBert(nn.Module):
    """A BERT-like encoder whose batches have no padding; made by `load`."""

    def __init__(self, architecture: Architecture, attention: AttentionKernel) -> None:
        super().__init__()
        self.architecture, self.attention, self._is_blocked = architecture, attention, False
        width = architecture.hidden_size
        self.words = _table(architecture.vocab_size, width)
        self.positions = _table(architecture.max_position_embeddings, width)
        self.token_types = _table(architecture.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, architecture.layer_norm_eps)
        self.layers = nn.ModuleList(_Layer(architecture) for _ in range(architecture.num_hidden_layers))

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        attention: AttentionKernel | None = None,
        blocked: bool | None = None,
    ) -> PackedBert:
        """Read a checkpoint folder: BERT, RoBERTa or XLM-RoBERTa as transformers defines them.

        Args:
            folder: Holds config.json and model.safetensors, or the shards of model.safetensors.index.json.
            dtype: Of weights and activations. bfloat16 on a processor keeps embeddings, the residual stream and
                LayerNorm in float32: only matrix products, and what goes into them, are rounded.
            device: Where it runs.
            attention: None takes that of `choose_attention`.
            blocked: Matrices in oneDNN's blocked layout, for processors. None does so where it is faster.

        Raises:
            UnsupportedArchitecture: The folder holds anything else.
        """
        arch = read_architecture(folder)
        kernel = attention or choose_attention(device, dtype, arch.hidden_size // arch.num_attention_heads)
        with torch.device("meta"):
            model = cls(arch, kernel)
        try:
            model.load_state_dict(_read_weights(folder, arch), assign=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise UnsupportedArchitecture(f"The weights in {folder} are not what config.json says: {error}.") from error
        wide_stream = device.type == "cpu" and dtype == torch.bfloat16
        model.requires_grad_(False).to(device, torch.float32 if wide_stream else dtype)
        if wide_stream:
            for layer in model.layers:
                for part in layer.children():
                    part.to(dtype if isinstance(part, nn.Linear) else torch.float32)
        if blocked or (blocked is None and _blocking_pays(device, dtype)):
            model._is_blocked = True
            for layer in model.layers:
                for name, part in layer.named_children():
                    if isinstance(part, nn.Linear):
                        setattr(layer, name, _BlockedLinear(part))
        return model

    @torch.inference_mode()
    def forward(self, rows: TokenRows, pooling: Pooling) -> torch.Tensor:
        """Encode B >= 1 sequences of token ids, special tokens included.

        Args:
            rows: Ids of each sequence, at least one, at most as many as the model has positions. Sequences of one
                length should be neighbours.
            pooling: How token vectors become one.

        Returns:
            (B, D) float32 raw pooled vectors on the model's device, which may still be computing them.
        """
        ids, positions, segments = self._pack(rows)
        hidden = self.norm(self.words(ids).add_(self.token_types.weight[0]).add_(self.positions(positions)))  # (N, D)
        for layer in self.layers:
            hidden = layer(hidden, self.attention, segments)
        return pool_segments(hidden, segments, pooling)[: len(rows)]

    def _pack(self, rows: TokenRows) -> tuple[torch.Tensor, torch.Tensor, Segments]:
        """Returns (N,) int64 ids, (N,) int64 positions, and where each sequence lies; on the model's device.

        With blocked matrices, a last sequence that means nothing may fill N up.
        """
        lengths, bounds, ids = rows.lengths, rows.bounds, rows.ids  # (B,), (B + 1,), (N,)
        assert lengths.min() >= 1, f"a sequence of {lengths.min()} tokens"
        pad_id = self.architecture.pad_id
        if pad_id is None:
            positions = np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)
        else:  # create_position_ids_from_input_ids in transformers' modeling_xlm_roberta.py
            counted = ids != pad_id
            totals = np.cumsum(counted)
            before = (totals - counted)[bounds[:-1]]  # (B,) counted tokens of earlier sequences
            positions = pad_id + (totals - np.repeat(before, lengths)) * counted
        limit = self.architecture.max_position_embeddings
        assert positions.max() < limit, f"position {positions.max()} of {limit}"
        device = self.words.weight.device
        packed = np.stack([ids, positions], dtype=np.int64)  # (2, N)
        n_padding = _padding(len(ids)) if self._is_blocked else 0
        if n_padding:
            packed = np.pad(packed, [(0, 0), (0, n_padding)])
            lengths, bounds = np.append(lengths, n_padding), np.append(bounds, len(ids) + n_padding)
        both = _upload(packed, device)
        return both[0], both[1], Segments(lengths.tolist(), _upload(bounds.astype(np.int32), device))


def _padding(n_tokens: int) -> int:
    """Returns how many tokens to add, so that at most 32 numbers of tokens occur between one power of 2 and the next.

    >>> _padding(2_041), _padding(2_048), _padding(100_000)
    (7, 0, 352)
    """
    return -n_tokens % max(_LEAST_STEP, (1 << n_tokens.bit_length()) // 64)


def pool_segments(hidden: torch.Tensor, segments: Segments, how: Pooling) -> torch.Tensor:
    """Pool packed token vectors in float32; (N, D) any float dtype -> (B, D) float32 on the same device."""
    match how:
        case "cls":
            return hidden[segments.bounds[:-1]].float()
        case "last":
            return hidden[segments.bounds[1:] - 1].float()
        case "mean" if hidden.device.type in {"cpu", "cuda"}:
            # unsafe: leaves out a check of the lengths that would wait for the device
            return torch.segment_reduce(hidden.float(), "mean", lengths=segments.bounds.diff(), axis=0, unsafe=True)
        case "mean":
            return torch.stack([part.float().mean(dim=0) for part in torch.split(hidden, segments.lengths)])


class _BlockedLinear(nn.Module):
    """nn.Linear by oneDNN, its weight in a layout of oneDNN's choice."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], ""))


def _read_weights(folder: Path, arch: Architecture) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by their names in `PackedBert`; keys that are not understood stay as they are."""
    names = {"model.safetensors"}
    if not (folder / "model.safetensors").is_file():
        index = parse_json((folder / "model.safetensors.index.json").read_bytes())
        names = set(index["weight_map"].values())
    tensors = dict(chain.from_iterable(load_file(folder / name).items() for name in sorted(names)))
    body = {key.removeprefix(arch.key_prefix): tensors[key] for key in tensors if key.startswith(arch.key_prefix)}
    weights = {}
    for key, tensor in (body or tensors).items():  # with the prefix, all other keys belong to a head
        if key.startswith(_UNUSED_KEYS):
            continue
        if not tensor.is_floating_point():
            raise ValueError(f"{key} holds {tensor.dtype}")
        for old, new in _NEW_NAMES.items():
            key = key.replace(old, new)
        weights[key] = tensor
    for layer, kind in product(range(arch.num_hidden_layers), ("weight", "bias")):
        parts = [weights.pop(f"layers.{layer}.attention.self.{part}.{kind}") for part in ("query", "key", "value")]
        weights[f"layers.{layer}.to_qkv.{kind}"] = torch.cat(parts)
    return weights


def _upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _blocking_pays(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN's product with blocked weights beats torch's usual one.

    Measured on AMD processors, GF/s in float32: 450 against MKL's 195 with AVX-512, 72 against 80 (one core) with AVX2.
    The operators are private (torch.compile's own on CPUs), so that they are asked for.
    """
    return (
        device.type == "cpu"
        and dtype in {torch.float32, torch.bfloat16}
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
