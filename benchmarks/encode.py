"""Encoding: our Encoder against sentence-transformers at its defaults (float32, batches of 32), tokens/s.

    python benchmarks/encode.py [--model builtin:multilingual-e5-small] [--texts FILE.jsonl] [--limit N]
    python benchmarks/encode.py --architecture e5-large --random-weights        # no download

The ceiling printed beside the figures is what the forward pass would take if it consisted of matrix products alone and
ran at the rate of a large product measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import alternate, last_line, matrix_product_gflops, ratio

from evaluation.encoding.encoder import Encoder
from evaluation.encoding.pooling import l2_normalize
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.models.builtin import materialize
from evaluation.models.checkpoint import Checkpoint, locate, read_checkpoint

ARCHITECTURES = {  # layers, hidden, heads, feed-forward: model cards of intfloat/e5-*
    "e5-small": (12, 384, 12, 1536),
    "e5-base": (12, 768, 12, 3072),
    "e5-large": (24, 1024, 16, 4096),
    "two layers": (2, 128, 4, 512),  # of benchmarks/growth.py
    "tiny": (1, 32, 2, 64),  # to try the benchmarks themselves
}
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        if options.random_weights:
            checkpoint = random_checkpoint(options.architecture, Path(folder))
        else:
            checkpoint = locate(options.model, None, Path.cwd())
        _compare(checkpoint, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:multilingual-e5-small")
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="e5-large")
    parser.add_argument("--random-weights", action="store_true", help="a random model of --architecture")
    parser.add_argument("--texts", type=Path, help="jsonl with text (and title); default: the quickstart's texts")
    parser.add_argument("--limit", type=int, help="first N texts")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--rival-dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pairs", type=int, default=5)
    return parser.parse_args()


def random_checkpoint(architecture: str, folder: Path) -> Checkpoint:
    """A random BertModel of an E5 model's shape with a real vocabulary."""
    from transformers import BertConfig, BertModel

    layers, hidden, heads, feed_forward = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=feed_forward
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = materialize("all-MiniLM-L6-v2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return read_checkpoint(folder, name=f"random/{architecture}", revision=None)


def read_texts(file: Path | None, limit: int | None) -> list[str]:
    """Titles and texts of a jsonl file, or all sentences of the quickstart data."""
    texts = []
    for path in [file] if file else sorted(QUICKSTART.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            parts = [row.get("title"), row.get("text") or row.get("sentence1")]
            texts.append(" ".join(part for part in parts if part))
    return [text for text in texts if text][:limit]


def _compare(checkpoint: Checkpoint, options: argparse.Namespace) -> None:
    from sentence_transformers import SentenceTransformer

    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    max_tokens = options.max_tokens or resolve_max_tokens("auto", device, checkpoint.embedding_dim)
    settings = EncoderSettings("transformers", checkpoint.pooling, checkpoint.max_length, dtype, device, max_tokens)
    encoder = Encoder(checkpoint, settings)
    rival = SentenceTransformer(
        str(checkpoint.folder), device=device, model_kwargs={"dtype": getattr(torch, options.rival_dtype)}
    )
    texts = [f"query: {text}" for text in read_texts(options.texts, options.limit)]
    encoder.encode(texts)
    n_tokens = encoder.tokens_encoded
    theirs, ours = alternate(
        lambda: rival.encode(texts, show_progress_bar=False), lambda: encoder.encode(texts), options.pairs
    )
    vectors = l2_normalize(encoder.encode(texts).vectors)
    reference = l2_normalize(np.asarray(rival.encode(texts, show_progress_bar=False), np.float32))
    cosines = (vectors * reference).sum(axis=1)
    ceiling = matrix_product_gflops(getattr(torch, dtype), device)
    flops = 2 * matrix_parameters(checkpoint)
    rate = n_tokens / statistics.median(ours)
    figures = {
        "benchmark": "encode",
        "model": checkpoint.name,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "dtype": dtype,
        "texts": len(texts),
        "tokens": n_tokens,
        "tokens_per_s": round(rate),
        "rival_tokens_per_s": round(n_tokens / statistics.median(theirs)),
        "ratio": round(ratio(theirs, ours), 2),
        "ceiling_gflops": round(ceiling),
        "share_of_ceiling": round(rate * flops / 1e9 / ceiling, 3),
        "mean_cosine_to_rival": float(cosines.mean()),
        "least_cosine_to_rival": float(cosines.min()),
    }
    for name, value in figures.items():
        print(f"{name:24} {value}")
    last_line(figures)


def matrix_parameters(checkpoint: Checkpoint) -> int:
    """Parameters that a token is multiplied with: all two-dimensional weights of the layers."""
    from safetensors import safe_open

    total = 0
    for file in checkpoint.folder.glob("*.safetensors"):
        with safe_open(str(file), "pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        total += sum(shape[0] * shape[1] for name, shape in shapes.items() if ".layer." in name and len(shape) == 2)
    return total


if __name__ == "__main__":
    main()
