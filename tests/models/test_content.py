"""The identity of a checkpoint folder: what counts, what a loading library opens, and what changed since."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import write_json

from evaluation.errors import ModelError
from evaluation.models import content as module
from evaluation.models.content import FolderContent, counted_files
from evaluation.system import content_hashes
from evaluation.system.file_systems import is_on_local_disk


def identity(folder: Path) -> str:
    return FolderContent.read(folder).digest(lambda name: True)


def write(folder: Path, name: str, text: str = "{}") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "name",
    [
        "0_T/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "generation_config.json",
        "modules.json",
        "sentence_bert_config.json",
        "model.safetensors.index.json",
        "shards/model-00001-of-00002.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "modeling_own.py",
        "logs/code.py",
        "chat_template.jinja",
        "anything.else",
    ],
)
def test_a_file_that_may_be_opened_is_in_the_identity(bert_copy: Path, name: str) -> None:
    without = identity(bert_copy)
    write(bert_copy, name, "{} ")
    first = identity(bert_copy)
    write(bert_copy, name, "{}")
    assert len({without, first, identity(bert_copy)}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        ".gitattributes",
        ".cache/huggingface/x.metadata",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "trainer_state.json",
        "training_args.bin",
        "checkpoint-500/model.safetensors",
        "runs/events.out.tfevents.1",
        "onnx/model.onnx",
        "openvino/openvino_model.xml",
        "eval/similarity_evaluation_sts.csv",
        "loss.png",
        "pytorch_model.bin",
        "tf_model.h5",
        "__pycache__/modeling_own.cpython-311.pyc",
    ],
)
def test_an_inert_file_is_not_in_the_identity(bert_copy: Path, name: str) -> None:
    before = identity(bert_copy)
    write(bert_copy, name)
    assert identity(bert_copy) == before


def test_a_file_counts_where_another_names_it_though_its_name_is_inert(bert_copy: Path) -> None:
    write(bert_copy, "modules.json", json.dumps([{"type": "Transformer", "path": ""}, {"type": "D", "path": "runs"}]))
    write(bert_copy, "model.safetensors.index.json", json.dumps({"weight_map": {"a": "logs/optimizer.safetensors"}}))
    write(bert_copy, "runs/2/model.safetensors")
    write(bert_copy, "logs/optimizer.safetensors")
    write(bert_copy, "logs/other.safetensors")
    found = counted_files(bert_copy)
    assert {"runs/2/model.safetensors", "logs/optimizer.safetensors"} <= set(found)
    assert "logs/other.safetensors" not in found


def test_pickled_weights_count_where_no_safetensors_lie_beside_them(bert_copy: Path) -> None:
    write(bert_copy, "pytorch_model.bin")
    write(bert_copy, "2_Dense/pytorch_model.bin")
    found = counted_files(bert_copy)
    assert "2_Dense/pytorch_model.bin" in found
    assert "pytorch_model.bin" not in found


def test_the_identity_does_not_hang_on_names_that_look_like_two_files(bert_copy: Path) -> None:
    other = bert_copy.with_name("other")
    shutil.copytree(bert_copy, other)
    write(bert_copy, "a.json"), write(bert_copy, "b.json")
    digest = FolderContent.read(bert_copy).hashes["a.json"]
    write(other, f"a.json {digest}\nb.json")
    assert identity(bert_copy) != identity(other)


# -------------------------------------------------------------------------------------------------- paths that lead out


@pytest.mark.parametrize(
    "path", ["/elsewhere/x.safetensors", "../other/x.safetensors", "a/../../x.safetensors", "..\\x"]
)
def test_a_shard_outside_the_folder_is_refused(bert_copy: Path, path: str) -> None:
    write(bert_copy, "model.safetensors.index.json", json.dumps({"weight_map": {"w": path}}))
    with pytest.raises(ModelError, match=re.escape(repr(path)) + ", which leaves the checkpoint's folder"):
        FolderContent.read(bert_copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "../2_Dense"}]),
        ("router_config.json", {"types": {"../query": "sentence_transformers.models.StaticEmbedding"}}),
        ("tokenizer_config.json", {"vocab_file": "/elsewhere/vocab.txt"}),
    ],
)
def test_a_module_or_vocabulary_outside_the_folder_is_refused(bert_copy: Path, name: str, content: object) -> None:
    write(bert_copy, name, json.dumps(content))
    with pytest.raises(ModelError, match="leaves the checkpoint's folder"):
        FolderContent.read(bert_copy)


def test_links_are_followed_as_a_library_follows_them(bert_copy: Path, tmp_path: Path) -> None:
    """Files of a snapshot in the Hub's cache are links into ../../blobs; a folder may be a link too, or a circle."""
    blob = write(tmp_path, "blobs/abc", "weights")
    (bert_copy / "extra.safetensors").symlink_to(os.path.relpath(blob, bert_copy))
    write(tmp_path, "elsewhere/model.safetensors", "weights")
    (bert_copy / "0_T").symlink_to(tmp_path / "elsewhere")
    (bert_copy / "circle").symlink_to(bert_copy)
    before = identity(bert_copy)
    assert {"extra.safetensors", "0_T/model.safetensors"} <= set(counted_files(bert_copy))
    write(tmp_path, "elsewhere/model.safetensors", "weighty")
    assert identity(bert_copy) != before


@pytest.mark.parametrize("kind", ["broken link", "pipe"])
def test_what_is_not_a_file_is_refused(bert_copy: Path, kind: str) -> None:
    file = bert_copy / "vocab.json"
    file.symlink_to("nowhere") if kind == "broken link" else os.mkfifo(file)
    with pytest.raises(ModelError, match=r"vocab\.json is not a readable file"):
        FolderContent.read(bert_copy)


def test_a_folder_of_very_many_files_is_refused(bert_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 3)
    with pytest.raises(ModelError, match="more than 3 files, so it is not one checkpoint"):
        FolderContent.read(bert_copy)


# --------------------------------------------------------------------------------------------- what the libraries open

LOAD = """
import sys
from pathlib import Path
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer
for folder in sys.argv[1:]:
    if folder.endswith("sentence-transformers"):
        SentenceTransformer(folder, device="cpu", model_kwargs={"use_safetensors": True}).encode(["a b"])
    else:
        AutoTokenizer.from_pretrained(folder)("a b")
        AutoModel.from_pretrained(folder, use_safetensors=True)
"""


def opened_files(folders: list[Path], trace: Path) -> set[Path]:
    """Files below some folders that the libraries open while they load these checkpoints, as the kernel sees it."""
    command = ["strace", "-f", "--seccomp-bpf", "-e", "trace=open,openat,openat2", "-o", str(trace)]
    code = [sys.executable, "-c", LOAD, *map(str, folders)]
    done = subprocess.run([*command, *code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    calls = [re.search(r'open\w*\(.*?"([^"]+)".*\) = \d+', line) for line in lines]
    paths = {Path(call[1]) for call in calls if call}
    return {path for path in paths if path.is_file() and any(path.is_relative_to(folder) for folder in folders)}


def saved_by_the_library(folder: Path, bert: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    transformer = Transformer(str(bert))
    SentenceTransformer(modules=[transformer, Pooling(16), Dense(16, 4), Normalize()], device="cpu").save(str(folder))


def in_shards(folder: Path, bert: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(bert).save_pretrained(folder, max_shard_size="5KB")
    AutoTokenizer.from_pretrained(bert).save_pretrained(folder)


def in_a_subfolder(folder: Path, bert: Path) -> None:
    saved_by_the_library(folder, bert)
    (folder / "0_T").mkdir()
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for file in [file for file in folder.iterdir() if file.is_file() and "modules" not in file.name]:
        if not file.name.startswith(("config_sentence", "README")):
            file.rename(folder / "0_T" / file.name)
    modules[0]["path"] = "0_T"
    write_json(folder / "modules.json", modules)


def of_two_vocabulary_files(folder: Path, bert: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abĠ", "Ġb"]
    folder.mkdir()
    write_json(folder / "vocab.json", {piece: row for row, piece in enumerate(pieces)})
    (folder / "merges.txt").write_text("#version: 0.2\nĠ b\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    RobertaModel(RobertaConfig(vocab_size=len(pieces), **sizes)).save_pretrained(folder)


def with_everything_else(folder: Path, bert: Path) -> None:
    saved_by_the_library(folder, bert)
    for name in ("optimizer.pt", "trainer_state.json", "training_args.bin", "pytorch_model.bin", "tf_model.h5"):
        write(folder, name, "{}")
    for name in ("onnx/model.onnx", "checkpoint-5/model.safetensors", "runs/log", "eval/config.json", ".git/config"):
        write(folder, name, "{}")


SAVED = {
    "by-the-library": saved_by_the_library,
    "in-shards": in_shards,
    "in-a-subfolder": in_a_subfolder,
    "of-two-vocabulary-files": of_two_vocabulary_files,
    "with-everything-else": with_everything_else,
}


@pytest.mark.full
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_loading_opens_nothing_that_is_not_hashed(bert_folder: Path, tmp_path: Path) -> None:
    folders = []
    for name, save in SAVED.items():
        for backend in ("sentence-transformers", "transformers"):
            if (name, backend) != ("in-a-subfolder", "transformers"):  # which knows no subfolders
                folders.append(tmp_path / f"{name}-{backend}")
                save(folders[-1], bert_folder)
    opened = opened_files(folders, tmp_path / "trace.txt")
    for folder in folders:
        names = {path.relative_to(folder).as_posix() for path in opened if path.is_relative_to(folder)}
        assert any(name.endswith(".safetensors") for name in names), folder  # the trace sees what is read
        uncounted = names - set(counted_files(folder))
        assert uncounted <= {"README.md"}, folder  # sentence-transformers keeps its text for a model card


# ------------------------------------------------------------------------------------------------------ changed since


@pytest.fixture
def settled(bert_copy: Path, monkeypatch: pytest.MonkeyPatch) -> FolderContent:
    monkeypatch.setattr(content_hashes, "_JUST_WRITTEN_NS", 0)
    time.sleep(0.05)
    return FolderContent.read(bert_copy)


def test_an_untouched_folder_is_not_read_again(settled: FolderContent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_hashes, "sha256_of", lambda path: pytest.fail(f"{path} was read again"))
    settled.verify_unchanged()
    settled.verify_not_overwritten()


def replaced(file: Path) -> None:
    new = file.with_name("new")
    new.write_bytes(file.read_bytes()[:-1] + b"x")
    new.replace(file)


def overwritten(file: Path) -> None:
    """With the old size and times."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, overwritten, Path.unlink, lambda file: write(file.parent, "vocab.json")])
def test_a_change_is_refused_by_name_again_and_again(settled: FolderContent, change: Callable[[Path], object]) -> None:
    change(settled.folder / "model.safetensors")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"(model.safetensors|vocab.json) in .* changed after"):
            settled.verify_unchanged()


def test_touched_files_with_the_same_content_are_not_refused(settled: FolderContent) -> None:
    file = settled.folder / "model.safetensors"
    os.utime(file)
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    settled.verify_unchanged()
    settled.verify_not_overwritten()


def test_loaded_weights_may_be_replaced_but_not_overwritten(settled: FolderContent) -> None:
    file = settled.folder / "model.safetensors"
    replaced(file)
    settled.verify_not_overwritten()
    overwritten(settled.folder / "config.json")
    with pytest.raises(ModelError, match=r"config\.json .* changed"):
        settled.verify_not_overwritten()


def test_a_file_written_just_before_it_was_read_is_read_again(bert_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tick of the file system's clock a change leaves no trace in its times."""
    write(bert_copy, "vocab.json", "old")
    content = FolderContent.read(bert_copy)
    write(bert_copy, "vocab.json", "new")
    now = content_hashes.state_of(bert_copy / "vocab.json")
    assert now is not None
    content._seen["vocab.json"] = content._seen["vocab.json"]._replace(state=now)  # as in one tick
    with pytest.raises(ModelError, match="vocab.json"):
        content.verify_unchanged()


def test_on_a_network_every_file_is_read_again(settled: FolderContent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may report the old facts of a file that another machine changed."""
    name = "model.safetensors"
    overwritten(settled.folder / name)
    seen, state = settled._seen[name], content_hashes.state_of(settled.folder / name)
    assert state is not None
    settled._seen[name] = seen._replace(state=state, read_at_ns=max(state.mtime_ns, state.ctime_ns))
    settled.verify_unchanged()  # what a local disk says is believed
    monkeypatch.setattr(module, "is_on_local_disk", lambda path: False)
    with pytest.raises(ModelError, match=name):
        settled.verify_unchanged()


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    mounts = write(
        tmp_path,
        "mounts",
        "/dev/a / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/b /home/local\\040disk xfs rw 0 0\n"
        "s3 /data fuse.s3fs rw 0 0\n",
    )
    local = {path: is_on_local_disk(Path(path), mounts) for path in ("/x", "/home/x", "/home/local disk/x", "/data/x")}
    assert local == {"/x": True, "/home/x": False, "/home/local disk/x": True, "/data/x": False}
    assert not is_on_local_disk(Path("/x"), tmp_path / "none")
    assert is_on_local_disk(Path("/homework"), mounts)
