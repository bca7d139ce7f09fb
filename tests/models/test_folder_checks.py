"""What is wrong with a model folder is found from its files alone, before a run and in a plan."""

from __future__ import annotations

import json
import shutil

import pytest

from evaluation.errors import ConfigError, ModelError
from evaluation.models.folder_checks import check_model_folder

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.fixture
def copied(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "model")


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def index_of_two(file):
    (file.parent / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}),
        encoding="utf-8",
    )


FAULTS = {
    "a git-lfs pointer in place of weights": ("model.safetensors", lambda f: f.write_bytes(LFS), "run git lfs pull"),
    "a git-lfs pointer in place of the tokenizer": ("tokenizer.json", lambda f: f.write_bytes(LFS), "run git lfs pull"),
    "weights cut short": ("model.safetensors", cut, "is cut short"),
    "a web page in place of weights": ("model.safetensors", lambda f: f.write_text("<html>" * 99), "not a safetensors"),
    "no weights": ("model.safetensors", lambda f: f.unlink(), r"holds no \*.safetensors file"),
    "no tokenizer": ("tokenizer.json", lambda f: f.unlink(), "holds no tokenizer"),
    "broken JSON": ("config.json", lambda f: f.write_text("{"), "can't be read as JSON"),
    "JSON nested deeply": ("tokenizer_config.json", lambda f: f.write_text("[" * 100_000), "nested too deeply"),
    "half a character": ("config.json", lambda f: f.write_text('{"auto_map": "\\ud800"}'), "half a character"),
    "a shard that is missing": ("model.safetensors", index_of_two, "names model-00002-of-00002.safetensors, which"),
}


def test_a_sound_folder_passes(tiny_checkpoint, raw_checkpoint, bert_folder):
    for folder in (tiny_checkpoint, raw_checkpoint, bert_folder):
        check_model_folder(folder, "model")


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_a_remedy(fault, copied, make_config, write_data):
    name, damage, said = FAULTS[fault]
    damage(copied / name)
    with pytest.raises(ModelError, match=said):
        check_model_folder(copied, "model 'x'")
    from evaluation.jobs import build_jobs

    data = write_data("sts", {"test.jsonl": [{"sentence1": "a", "sentence2": "b", "score": n} for n in range(3)]})
    with pytest.raises(ConfigError, match=said) as caught:
        build_jobs(make_config([{"local": "S", "type": "STS", "data": data}], copied, "none"))
    assert "config.yaml, line 1: " in str(caught.value)
