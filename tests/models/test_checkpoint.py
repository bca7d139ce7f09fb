"""What a model folder declares, what its identity is made of, and the faults that must be sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from evaluation.errors import ModelError
from evaluation.models.builtin import BUILTIN_MODELS
from evaluation.models.checkpoint import Checkpoint, locate, read_checkpoint

ST_FILES = "config_sentence_transformers.json"


def read(folder: Path) -> Checkpoint:
    return read_checkpoint(folder, name="local/x", revision=None)


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), **values})


# ----------------------------------------------------------------------------------------------------------- declared


def test_plain_folder_declares_what_e5_declares(bert_folder: Path) -> None:
    found = read(bert_folder)
    assert (found.pooling, found.max_length, found.max_positions) == ("mean", 32, 32)
    assert (found.normalize, found.similarity, found.other_modules) == (False, "cosine", ())
    assert found.embedding_dim == 16


def test_plain_folder_with_many_positions_declares_512(bert_copy: Path) -> None:
    change_config(bert_copy, max_position_embeddings=4_096)
    assert (read(bert_copy).max_length, read(bert_copy).max_positions) == (512, 4_096)


def test_sentence_transformers_files_are_read(bert_copy: Path, declare_modules: Callable[..., None]) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Normalize", pooling="cls", max_seq_length=24)
    write_json(bert_copy / ST_FILES, {"similarity_fn_name": "dot"})
    found = read(bert_copy)
    assert (found.pooling, found.max_length, found.normalize) == ("cls", 24, True)
    assert (found.similarity, found.other_modules) == ("dot", ())


@pytest.mark.parametrize(("mode", "expected"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")])
def test_pooling_mode_is_read_in_the_form_of_sentence_transformers_5(
    bert_copy: Path, declare_modules: Callable[..., None], mode: str, expected: str
) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling")
    write_json(bert_copy / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode": mode})
    assert read(bert_copy).pooling == expected


def test_declared_length_is_cut_to_the_positions(bert_copy: Path, declare_modules: Callable[..., None]) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", max_seq_length=512)
    assert read(bert_copy).max_length == 32


def test_null_length_is_that_of_the_positions(bert_copy: Path) -> None:
    write_json(bert_copy / "sentence_bert_config.json", {"max_seq_length": None})
    assert read(bert_copy).max_length == 32


def test_roberta_has_two_positions_less(bert_copy: Path) -> None:
    change_config(bert_copy, model_type="xlm-roberta", max_position_embeddings=514)
    assert read(bert_copy).max_positions == 512


def test_dense_module_is_named(bert_copy: Path, declare_modules: Callable[..., None]) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Dense", "Normalize")
    assert read(bert_copy).other_modules == ("Dense",)


# ----------------------------------------------------------------------------------------------------------- identity


def test_identity_does_not_depend_on_name_or_place(bert_folder: Path, bert_copy: Path) -> None:
    (bert_copy / "README.md").write_text("other words", encoding="utf-8")
    first, second = read(bert_folder), read(bert_copy)
    assert (first.weights_hash, first.tokenizer_hash) == (second.weights_hash, second.tokenizer_hash)
    assert first.revision == second.revision
    assert len(first.revision) == 40


def test_one_changed_byte_of_the_weights_is_another_identity(bert_folder: Path, bert_copy: Path) -> None:
    file = bert_copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    first, second = read(bert_folder), read(bert_copy)
    assert first.weights_hash != second.weights_hash
    assert first.revision != second.revision
    assert first.tokenizer_hash == second.tokenizer_hash


def test_changed_model_config_is_another_identity(bert_folder: Path, bert_copy: Path) -> None:
    change_config(bert_copy, layer_norm_eps=1e-3)
    assert read(bert_folder).weights_hash != read(bert_copy).weights_hash


def test_changed_tokenizer_is_another_identity(bert_folder: Path, bert_copy: Path) -> None:
    file = bert_copy / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"lowercase": true', '"lowercase": false'), "utf-8")
    first, second = read(bert_folder), read(bert_copy)
    assert first.tokenizer_hash != second.tokenizer_hash
    assert first.weights_hash == second.weights_hash


def test_weights_of_a_dense_module_are_part_of_the_identity(
    bert_copy: Path, declare_modules: Callable[..., None]
) -> None:
    declare_modules(bert_copy, "Transformer", "Pooling", "Dense")
    before = read(bert_copy)
    file = bert_copy / "2_Dense" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert read(bert_copy).weights_hash != before.weights_hash


def test_given_revision_is_kept(bert_folder: Path) -> None:
    assert read_checkpoint(bert_folder, name="org/model", revision="abc").revision == "abc"


# ------------------------------------------------------------------------------------------------------------- faults


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    return change


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


POOLED_BY_MAX = '{"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": false}'
TWO_MODULES = '[{"type": "m.Transformer", "path": ""}, {"type": "m.Pooling", "path": "1_Pooling"}]'


def pooling(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write("modules.json", TWO_MODULES)(folder)
        write("1_Pooling/config.json", text)(folder)

    return change


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (POOLED_BY_MAX, "max"),
        ("{}", "mean"),
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}', "cls+mean"),
        ('{"pooling_mode": "max"}', "max"),
        ('{"pooling_mode": ["mean", "lasttoken"]}', "mean+last"),
    ],
)
def test_every_pooling_of_sentence_transformers_is_read(bert_copy: Path, declared: str, expected: str) -> None:
    pooling(declared)(bert_copy)
    assert read(bert_copy).pooling == expected


@pytest.mark.parametrize(("length", "expected"), [(20, 20), (512, 32), (10**30, 32)])
def test_length_is_read_where_sentence_transformers_6_keeps_it(bert_copy: Path, length: int, expected: int) -> None:
    file = bert_copy / "tokenizer_config.json"
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), "model_max_length": length})
    assert read(bert_copy).max_length == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(remove("config.json"), r"config\.json is missing", id="no config.json"),
        pytest.param(write("config.json", "{"), r"config\.json can't be read as JSON", id="config.json cut short"),
        pytest.param(write("config.json", "[]"), r"config\.json", id="config.json is a list"),
        pytest.param(
            write("config.json", '{"max_position_embeddings": "many"}'), "max_position", id="positions in words"
        ),
        pytest.param(remove("model.safetensors"), r"no \*\.safetensors", id="no weights"),
        pytest.param(pickled_only, r"pickled \*\.bin weights are not read.*save_pretrained", id="pickled weights only"),
        pytest.param(remove("tokenizer.json"), "no tokenizer", id="no tokenizer"),
        pytest.param(write("modules.json", "["), r"modules\.json can't be read", id="modules.json cut short"),
        pytest.param(write("modules.json", '[{"idx": 0}]'), r"modules\.json", id="module without a type"),
        pytest.param(write("modules.json", TWO_MODULES), r"config\.json is missing", id="pooling without its config"),
        pytest.param(write(ST_FILES, '{"similarity_fn_name": "euclidean"}'), "'euclidean'", id="euclidean"),
        pytest.param(
            write("sentence_bert_config.json", '{"max_seq_length": "long"}'), "max_seq_length", id="length no number"
        ),
    ],
)
def test_broken_checkpoint_is_a_model_error(bert_copy: Path, change: Callable[[Path], None], message: str) -> None:
    change(bert_copy)
    with pytest.raises(ModelError, match=message):
        read(bert_copy)


# -------------------------------------------------------------------------------------------------------------- names


def test_folder_is_relative_to_the_config(bert_copy: Path) -> None:
    found = locate("./tiny-bert", None, bert_copy.parent)
    assert found.folder == bert_copy.resolve()
    assert found.name == "local/tiny-bert"


def test_folder_that_looks_like_a_hub_name_wins(bert_copy: Path) -> None:
    assert locate("tiny-bert", None, bert_copy.parent).folder == bert_copy.resolve()


def test_missing_folder_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        locate("./nowhere", None, tmp_path)


def test_builtin_has_a_public_name_that_does_not_lie() -> None:
    assert BUILTIN_MODELS["multilingual-e5-small"].public_name.endswith("-q4")


def test_fetched_model_has_its_commit_as_revision(bert_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = bert_copy.rename(bert_copy.with_name("0123abcd"))
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    found = locate("org/model", "main", bert_copy.parent)
    assert (found.name, found.revision) == ("org/model", "0123abcd")
    assert (asked["name"], asked["revision"]) == ("org/model", "main")
    assert not any(pattern.endswith((".bin", ".pkl", ".pt")) for pattern in asked["allow_patterns"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("no network"), "is not in the local Hub cache"),
        (HFValidationError("bad name\nmore"), "can't be fetched: bad name"),
        (OSError("disk full"), "can't be fetched: disk full"),
    ],
)
def test_failed_fetch_is_a_model_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=message):
        locate("org/model", None, tmp_path)


def test_lower_casing_and_code_are_part_of_the_identity(bert_copy: Path) -> None:
    """Without tokenizer.json, tokenizer_config.json decides how a vocabulary is read."""
    first = read_checkpoint(bert_copy, name="x", revision=None)
    (bert_copy / "modeling_own.py").write_text("raise SystemExit")
    coded = read_checkpoint(bert_copy, name="x", revision=None)
    assert coded.weights_hash != first.weights_hash
    (bert_copy / "tokenizer.json").rename(bert_copy / "vocab.txt")
    hashes = set()
    for lower in ("true", "false"):
        (bert_copy / "tokenizer_config.json").write_text(f'{{"do_lower_case": {lower}}}')
        hashes.add(read_checkpoint(bert_copy, name="x", revision=None).tokenizer_hash)
    assert len(hashes) == 2
