"""A forward pass of the BERT family without padding: all tokens of a batch lie one after another in one matrix.

Reads a checkpoint folder itself (config.json and *.safetensors), without transformers. The attention kernel is a
parameter. Knows nothing of texts, tokenizers or how batches are chosen; refuses whatever it does not know for certain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from safetensors import SafetensorError
from safetensors.torch import load_file

from evaluation.encoding.pooling import PoolingName
from evaluation.errors import ModelError

_KEY_PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
"""Supported model types, and what precedes their keys in a checkpoint that also holds a head."""
_UNUSED_KEYS = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
"""Beginnings of keys that don't decide a token vector."""


class UnsupportedArchitecture(ModelError):
    """A checkpoint that this forward pass does not know for certain; transformers may still run it."""


class Segments(NamedTuple):
    """Where each of B sequences lies among N packed tokens.

    Attributes:
        lengths: B tokens of each sequence, at least 1, on the host.
        bounds: (B + 1,) int32 on the model's device: 0, then the end of each sequence.
    """

    lengths: list[int]
    bounds: torch.Tensor


AttentionKernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Segments], torch.Tensor]
"""(N, H, d) queries, keys and values, perhaps strided -> (N, H, d) contiguous: softmax(q k' / sqrt(d)) v a sequence."""


# ----------------------------------------------------------------------------------------------------- attention kernels


def attend_each(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """The formula itself, a sequence at a time: the reference for every other kernel."""
    mixed = query.new_empty(query.shape)  # (N, H, d)
    end = 0
    for length in segments.lengths:
        start, end = end, end + length
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))  # (H, T, d)
        scores = q @ k.transpose(1, 2) * q.shape[2] ** -0.5  # (H, T, T)
        mixed[start:end] = (scores.softmax(dim=2, dtype=torch.float32).to(v.dtype) @ v).transpose(0, 1)
    return mixed


def attend_by_length(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Torch's fused attention, once for each run of neighbours of one length: fast where batches are sorted by length."""
    mixed = []
    end = 0
    for length, run in groupby(segments.lengths):
        count = sum(1 for _ in run)
        start, end = end, end + count * length
        q, k, v = (tensor[start:end].unflatten(0, (count, length)).transpose(1, 2) for tensor in (query, key, value))
        part = F.scaled_dot_product_attention(q, k, v)  # (count, H, T, d)
        mixed.append(part.transpose(1, 2).flatten(0, 1))  # (count * T, H, d)
    return torch.cat(mixed)


def attend_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """The variable-length flash attention that ships with torch (CUDA, half precision): one launch a batch."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(segments.lengths)
    mixed = varlen_attn(query, key, value, segments.bounds, segments.bounds, longest, longest)
    return cast(torch.Tensor, mixed)  # a tuple only where more is asked for


def choose_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> AttentionKernel:
    """The fastest kernel that a device runs at a precision.

    Flash attention wants Ampere or later, half precision, and head widths that are multiples of 8 up to 256
    (https://github.com/Dao-AILab/flash-attention).
    """
    flash = (
        device.type == "cuda"
        and dtype in {torch.float16, torch.bfloat16}
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )
    return attend_varlen if flash else attend_by_length


# -------------------------------------------------------------------------------------------------------- the checkpoint


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a model, from its config.json.

    Attributes:
        pad_id: For RoBERTa's kind of positions, counted from pad_id + 1 and skipping tokens equal to pad_id; None
            where positions count from 0.
    """

    key_prefix: str
    hidden_size: int
    n_layers: int
    n_heads: int
    feed_forward_size: int
    max_positions: int
    norm_eps: float
    pad_id: int | None


def read_architecture(folder: Path) -> Architecture:
    """Read config.json.

    Raises:
        UnsupportedArchitecture: It is missing, or declares something that `PackedBert` does not do.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
        if kind not in _KEY_PREFIXES:
            raise UnsupportedArchitecture(f"model_type {kind!r} is not one of {', '.join(_KEY_PREFIXES)}.")
        known = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
        strange = [f"{key} {config[key]!r}" for key, value in known.items() if config.get(key, value) != value]
        foreign = ("is_decoder", "add_cross_attention", "quantization_config", "auto_map")
        strange += [f"{key} {config[key]!r}" for key in foreign if config.get(key)]
        if config["hidden_size"] % config["num_attention_heads"]:
            strange.append(f"{config['num_attention_heads']} heads for {config['hidden_size']} dimensions")
        if strange:
            raise UnsupportedArchitecture(f"{folder} declares {', '.join(strange)}.")
        return Architecture(
            key_prefix=_KEY_PREFIXES[kind],
            hidden_size=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            feed_forward_size=config["intermediate_size"],
            max_positions=config["max_position_embeddings"],
            norm_eps=config.get("layer_norm_eps", 1e-12),
            pad_id=None if kind == "bert" else config.get("pad_token_id", 1),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedArchitecture(f"{folder / 'config.json'} can't be understood: {error!r}.") from error


def supports(folder: Path) -> bool:
    """Whether config.json declares a supported model. `PackedBert.load` may still refuse the weights."""
    try:
        read_architecture(folder)
    except UnsupportedArchitecture:
        return False
    return True


class _Weights:
    """A checkpoint's tensors on the host, by their names in BertModel; each is taken once, its shape checked."""

    def __init__(self, folder: Path, key_prefix: str) -> None:
        self._folder = folder
        try:
            single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
            files = {single.name}
            if not single.is_file():
                files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            tensors = dict(chain.from_iterable(load_file(folder / file).items() for file in sorted(files)))
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            raise UnsupportedArchitecture(f"The weights in {folder} can't be read: {error!r}.") from error
        if any(key.startswith(key_prefix) for key in tensors):  # what lies outside the prefix is a head
            tensors = {key.removeprefix(key_prefix): t for key, t in tensors.items() if key.startswith(key_prefix)}
        # TensorFlow's names, as in bert-base-uncased on the Hub
        new_names = {key: key.replace(".gamma", ".weight").replace(".beta", ".bias") for key in tensors}
        self._tensors = {new_names[key]: tensor for key, tensor in tensors.items()}

    def take(self, key: str, *shape: int) -> torch.Tensor:
        """A tensor of the given shape in float32; -1 stands for any size."""
        tensor = self._tensors.pop(key, None)
        if tensor is None:
            raise UnsupportedArchitecture(f"The weights in {self._folder} lack {key}.")
        fits = tensor.ndim == len(shape) and all(want in {-1, has} for want, has in zip(shape, tensor.shape, strict=True))
        if not fits or not tensor.is_floating_point():
            raise UnsupportedArchitecture(
                f"{key} in {self._folder} is {tensor.dtype} of shape {tuple(tensor.shape)}, not floats of shape {shape}."
            )
        return tensor.float()

    def check_all_taken(self) -> None:
        """Refuse tensors that BertModel does not have."""
        left = sorted(key for key in self._tensors if not key.startswith(_UNUSED_KEYS))
        if left:
            raise UnsupportedArchitecture(f"{self._folder} holds {len(left)} unknown weights, such as {left[0]}.")


# ------------------------------------------------------------------------------------------------------------- the model

TensorMap = Callable[[torch.Tensor], torch.Tensor]


class _Layer(NamedTuple):
    """One transformer layer; every map takes and gives (N, some width)."""

    to_qkv: TensorMap
    from_heads: TensorMap
    attention_norm: TensorMap
    widen: TensorMap
    narrow: TensorMap
    output_norm: TensorMap


class PackedBert:
    """A BERT-like encoder whose batches have no padding."""

    def __init__(
        self,
        architecture: Architecture,
        tables: tuple[torch.Tensor, torch.Tensor],
        embedding_norm: TensorMap,
        layers: list[_Layer],
        attention: AttentionKernel,
    ) -> None:
        self.architecture, self.attention = architecture, attention
        self._word_table, self._position_table = tables  # (V, D), (P, D)
        self._embedding_norm = embedding_norm
        self._layers = layers

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype,
        device: torch.device,
        attention: AttentionKernel | None = None,
        block_weights: bool | None = None,
    ) -> PackedBert:
        """Read a checkpoint folder.

        Args:
            folder: Holds config.json and model.safetensors, or the shards of model.safetensors.index.json.
            dtype: Of weights and activations.
            device: Where it runs.
            attention: None: `choose_attention`.
            block_weights: Keep matrices in oneDNN's blocked layout (CPU). None: where it is faster, see `_blocks_weights`.

        Raises:
            UnsupportedArchitecture: Anything but BERT, RoBERTa or XLM-RoBERTa encoders as transformers defines them.
        """
        arch = read_architecture(folder)
        weights = _Weights(folder, arch.key_prefix)
        blocked = _blocks_weights(device, dtype) if block_weights is None else block_weights
        width = arch.hidden_size

        def place(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, dtype)

        def norm(key: str) -> TensorMap:
            scale, shift = (place(weights.take(f"{key}.{part}", width)) for part in ("weight", "bias"))
            return partial(F.layer_norm, normalized_shape=(width,), weight=scale, bias=shift, eps=arch.norm_eps)

        def linear(n_in: int, n_out: int, *keys: str) -> TensorMap:  # several keys: their outputs side by side
            weight = torch.cat([weights.take(f"{key}.weight", n_out, n_in) for key in keys])
            bias = torch.cat([weights.take(f"{key}.bias", n_out) for key in keys])
            return _linear(place(weight), place(bias), blocked=blocked)

        def layer(at: str) -> _Layer:
            return _Layer(
                to_qkv=linear(width, width, *(f"{at}.attention.self.{part}" for part in ("query", "key", "value"))),
                from_heads=linear(width, width, f"{at}.attention.output.dense"),
                attention_norm=norm(f"{at}.attention.output.LayerNorm"),
                widen=linear(width, arch.feed_forward_size, f"{at}.intermediate.dense"),
                narrow=linear(arch.feed_forward_size, width, f"{at}.output.dense"),
                output_norm=norm(f"{at}.output.LayerNorm"),
            )

        words = weights.take("embeddings.word_embeddings.weight", -1, width)
        positions = weights.take("embeddings.position_embeddings.weight", arch.max_positions, width)
        positions = positions + weights.take("embeddings.token_type_embeddings.weight", -1, width)[0]  # every type is 0
        embedding_norm = norm("embeddings.LayerNorm")
        layers = [layer(f"encoder.layer.{number}") for number in range(arch.n_layers)]
        weights.check_all_taken()
        kernel = attention or choose_attention(device, dtype, width // arch.n_heads)
        return cls(arch, (place(words), place(positions)), embedding_norm, layers, kernel)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Sequence[int]], pooling: PoolingName) -> torch.Tensor:
        """Encode B sequences of token ids, special tokens included.

        Args:
            rows: Ids of each sequence, 1 to the model's positions of them. Neighbours of equal length are fastest.
            pooling: How token vectors become one.

        Returns:
            (B, D) float32 raw pooled vectors on the model's device, perhaps still being computed there.
        """
        ids, positions, segments = self._pack(rows)
        hidden = F.embedding(ids, self._word_table).add_(F.embedding(positions, self._position_table))  # (N, D)
        hidden = self._embedding_norm(hidden)
        for layer in self._layers:
            hidden = self._run_layer(layer, hidden, segments)
        return pool_segments(hidden, segments, pooling)

    def _run_layer(self, layer: _Layer, hidden: torch.Tensor, segments: Segments) -> torch.Tensor:
        heads = self.architecture.n_heads
        query, key, value = layer.to_qkv(hidden).unflatten(1, (3, heads, -1)).unbind(1)  # (N, H, d) each
        mixed = self.attention(query, key, value, segments).flatten(1)  # (N, D)
        hidden = layer.attention_norm(layer.from_heads(mixed).add_(hidden))
        wide = torch.ops.aten.gelu_(layer.widen(hidden))  # (N, F)
        return layer.output_norm(layer.narrow(wide).add_(hidden))

    def _pack(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, Segments]:
        """(N,) int64 ids and positions, and where each sequence lies, on the model's device."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))  # (B,)
        bounds = np.concatenate([[0], np.cumsum(lengths)])  # (B + 1,)
        ids = np.fromiter(chain.from_iterable(rows), np.int64, bounds[-1])  # (N,)
        assert lengths.min(initial=1) >= 1, f"sequences of {lengths.min()} tokens"
        pad_id = self.architecture.pad_id
        if pad_id is None:
            positions = np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)
        else:  # create_position_ids_from_input_ids in transformers' modeling_xlm_roberta.py
            counted = ids != pad_id
            total = np.cumsum(counted)
            before = (total - counted)[bounds[:-1]]  # (B,)
            positions = pad_id + (total - np.repeat(before, lengths)) * counted
        limit = self.architecture.max_positions
        assert positions.max(initial=0) < limit, f"position {positions.max()} of {limit}"
        device = self._word_table.device
        on_device = _upload(np.stack([ids, positions]), device)  # (2, N)
        return on_device[0], on_device[1], Segments(lengths.tolist(), _upload(bounds.astype(np.int32), device))


def pool_segments(hidden: torch.Tensor, segments: Segments, how: PoolingName) -> torch.Tensor:
    """Pool packed token vectors in float32; (N, D) any float dtype -> (B, D) float32 on the same device."""
    match how:
        case "cls":
            return hidden[segments.bounds[:-1]].float()
        case "last":
            return hidden[segments.bounds[1:] - 1].float()
        case "mean":
            # unsafe: no check of the lengths, which would wait for the device
            return torch.segment_reduce(hidden.float(), "mean", lengths=segments.bounds.diff(), axis=0, unsafe=True)


def _upload(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _linear(weight: torch.Tensor, bias: torch.Tensor, *, blocked: bool) -> TensorMap:
    """x -> x W' + b."""
    if not blocked:
        return partial(F.linear, weight=weight, bias=bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def apply(x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""))

    return apply


def _blocks_weights(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN with blocked weights beats torch's own product.

    Measured with AVX-512 on AMD: 450 against MKL's 195 GF/s in float32, more in bfloat16. With AVX2 MKL is a few per cent
    faster. The operators are private, those of torch.compile's own CPU code, so their presence is asked for.
    """
    return (
        device.type == "cpu"
        and dtype in {torch.float32, torch.bfloat16}
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
