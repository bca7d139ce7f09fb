"""Code of other repositories that a checkpoint names: found, fetched, locked, hashed, run at the locked commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.checkpoint_variations import change_json, dense, pooling, routed, sentence_model
from support.hub_server import Hub
from support.resolved_models import resolve
from support.tiny_models import write_json, write_tiny_bert

from evaluation import load_config
from evaluation.errors import ModelError, UsageError
from evaluation.execution.downloads import locked_config
from evaluation.hub.cache import snapshot_folder
from evaluation.hub.lock import lock_file
from evaluation.jobs import build_jobs
from evaluation.models.checkpoint import locate
from evaluation.models.remote_code import check_code, code_repositories

OLD, NEW, WEIGHTS = "1" * 40, "2" * 40, "3" * 40
CODE = """
from transformers import BertConfig, BertModel
from .parts import SCALE
class OwnConfig(BertConfig):
    model_type = "own-bert"
class OwnModel(BertModel):
    config_class = OwnConfig
    def forward(self, **inputs):
        found = super().forward(**inputs)
        found.last_hidden_state = found.last_hidden_state * SCALE
        return found
"""
FETCH = """
import sys
from evaluation.commands.fetch_data.command import main
sys.argv = ["fetch-data", sys.argv[1]]
main()
"""
ENCODE = """
import sys
from pathlib import Path
from evaluation.encoding.encoder import Encoder
from evaluation.encoding.settings import EncoderSettings
from evaluation.models.checkpoint import locate
found = locate("some/own", None, Path("."), trust_remote_code=True)
settings = EncoderSettings("transformers", "mean", 16, "float32", "cpu", 64, trust_remote_code=True)
print(abs(Encoder(found, settings).encode(["a b"]).vectors).sum())
"""


def code_of(folder: Path, scale: int) -> Path:
    folder.mkdir()
    (folder / "modeling.py").write_text(CODE, encoding="utf-8")
    (folder / "parts.py").write_text(f"SCALE = {scale}\n", encoding="utf-8")
    return folder


def in_new_process(code: str, *arguments: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | variables
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Hub]]:
    """The config of a trusted model whose code lies in another repository, fetched and locked; the server lives on."""
    root = tmp_path_factory.mktemp("remote")
    model = write_tiny_bert(root / "model")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    names = {"AutoConfig": "other/code--modeling.OwnConfig", "AutoModel": "other/code--modeling.OwnModel"}
    write_json(model / "config.json", {**config, "model_type": "own-bert", "auto_map": names})
    (root / "pairs").mkdir()
    row = '{"sentence1": "a", "sentence2": "b", "score": 1}\n{"sentence1": "a", "sentence2": "c", "score": 2}\n'
    (root / "pairs" / "test.jsonl").write_text(row, encoding="utf-8")
    document = {
        "name": "own",
        "models": [{"label": "own", "model": "some/own", "protocol": "none", "trust_remote_code": True}],
        "tasks": [{"local": "Pairs", "type": "STS", "data": "pairs"}],
        "output": str(root / "results"),
    }
    (root / "own.yaml").write_text(json.dumps(document), encoding="utf-8")
    with Hub() as server:
        server.add("model", "some/own", model, WEIGHTS)
        server.add("model", "other/code", code_of(root / "old", 1), OLD)
        variables = {"HF_HOME": str(root), "HF_ENDPOINT": server.address, "HF_HUB_DISABLE_XET": "1"}
        in_new_process(FETCH, str(root / "own.yaml"), **variables)
        yield root / "own.yaml", server


@pytest.fixture
def offline(fetched: tuple[Path, Hub], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(fetched[0].parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return fetched[0]


def check_lock(file: Path) -> None:
    config = load_config(file)
    locked_config(config, build_jobs(config), lock_file(file))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", {"auto_map": {"AutoModel": "a/b--m.C", "AutoConfig": "own.C"}}, ("a/b",)),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a/b--m.S", None]}}, ("a/b",)),
        ("0_T/config.json", {"auto_map": {"AutoModel": "a/b--m.C"}}, ("a/b",)),
        ("modules.json", [{"type": "a/b--m.C"}, {"type": "sentence_transformers.models.Pooling"}], ("a/b",)),
        ("config.json", {"auto_map": {"AutoModel": "own.C"}, "note": "a/b--m.C"}, ()),
        ("config.json", ["a"], ()),
    ],
)
def test_repositories_are_found_wherever_the_libraries_look(
    tmp_path: Path, name: str, content: Any, expected: tuple[str, ...]
) -> None:
    write_json(tmp_path / name, content)
    assert code_repositories(tmp_path) == expected


def test_code_is_fetched_and_locked_with_the_model(offline: Path) -> None:
    entries = json.loads(lock_file(offline).read_text(encoding="utf-8"))["repositories"]
    (code,) = [entry for entry in entries if entry["kind"] == "code"]
    assert (code["repository"], code["revision"], sorted(code["files"])) == (
        "other/code", OLD, ["modeling.py", "parts.py"],
    )  # fmt: skip
    check_lock(offline)


def test_code_is_part_of_the_identity_only_where_it_is_trusted(offline: Path) -> None:
    trusted, plain = (locate("some/own", None, Path(), trust_remote_code=trust) for trust in (True, False))
    assert trusted.weights_hash != plain.weights_hash


def test_edited_code_is_another_identity_and_refused_by_the_lock(offline: Path) -> None:
    before = locate("some/own", None, Path(), trust_remote_code=True).weights_hash
    folder = snapshot_folder("model", "other/code", None)
    assert folder is not None
    file = (folder / "parts.py").resolve()
    content = file.read_bytes()
    try:
        file.write_bytes(b"SCALE = 2\n")
        assert locate("some/own", None, Path(), trust_remote_code=True).weights_hash != before
        with pytest.raises(UsageError, match=r"code other/code .*: parts\.py is not the file that was locked"):
            check_lock(offline)
    finally:
        file.write_bytes(content)


def test_code_that_is_not_in_the_lock_is_refused(offline: Path) -> None:
    file = lock_file(offline)
    text = file.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        content["repositories"] = [entry for entry in content["repositories"] if entry["kind"] != "code"]
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(UsageError, match="the code of other/code, which a model runs, is not in the lock"):
            check_lock(offline)
    finally:
        file.write_text(text, encoding="utf-8")


def test_code_that_is_nowhere_is_one_sentence(bert_copy: Path) -> None:
    write_json(bert_copy / "config.json", {"auto_map": {"AutoModel": "no/where--m.C"}})
    with pytest.raises(ModelError, match="runs code of no/where, which is not in the local Hub cache; run fetch-data"):
        locate(str(bert_copy), None, Path(), trust_remote_code=True)


def test_a_newer_commit_on_the_hub_does_not_run(fetched: tuple[Path, Hub], tmp_path: Path) -> None:
    """The library alone would take the newest commit, here one that triples every vector."""
    file, server = fetched
    variables = {"HF_HOME": str(file.parent), "HF_ENDPOINT": server.address, "HF_HUB_DISABLE_XET": "1"}
    variables["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    before = in_new_process(ENCODE, **variables)
    server.add("model", "other/code", code_of(tmp_path / "new", 3), NEW)
    assert float(before) > 0
    assert in_new_process(ENCODE, **variables) == before


def test_code_that_moved_while_the_model_was_loaded_is_refused(offline: Path) -> None:
    folder = snapshot_folder("model", "other/code", None)
    assert folder is not None
    check_code({"other/code": folder})
    with pytest.raises(ModelError, match=f"the code of other/code moved from commit {NEW} to {OLD}"):
        check_code({"other/code": folder.with_name(NEW)})


# ------------------------------------------------------------------------- classes that a checkpoint's files name


EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
class Module: ...
"""


def _module_type(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[1]["type"] = "evil.Module"
    write_json(folder / "modules.json", modules)


def _activation(folder: Path) -> None:
    change_json(next(folder.glob("*_Dense")) / "config.json", activation_function="evil.Module")


def _route(folder: Path) -> None:
    config = next(folder.rglob("router_config.json"))
    types = json.loads(config.read_text(encoding="utf-8"))["types"]
    change_json(config, types={**types, next(iter(types)): "evil.Module"})


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (sentence_model, _module_type),
        (partial(sentence_model, parts=[pooling, dense]), _activation),
        (routed, _route),
    ],
    ids=["module", "activation", "route"],
)
def test_class_beside_a_checkpoint_is_not_imported_without_trust(
    build: Callable[[Path], None],
    change: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sentence-transformers 5.2 to 5.7 imports them unasked."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    build(folder)
    change(folder)
    (folder / "evil.py").write_text(EVIL, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ModelError, match=r"Python code of its own \(evil.Module in .*trust_remote_code: true"):
        resolve(folder, tmp_path)
    assert not (folder / "ran").exists()
