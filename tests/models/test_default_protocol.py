"""Which protocol a model gets: from what it is, never from the name of its folder, and with a reason that is said.

The folders are made by the libraries that users make them with: transformers, sentence-transformers, PEFT's files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import checkpoint_variations
from support.tiny_models import save_declaring

from evaluation import run
from evaluation.errors import ConfigError
from evaluation.execution.reporting import Reporter
from evaluation.jobs import build_jobs
from evaluation.models.declarations import read_declarations
from evaluation.models.default_protocol import protocol_of

STS_ROWS = [{"sentence1": f"tree {row}", "sentence2": f"wood {row}", "score": float(row % 5)} for row in range(12)]
ST_FILE = "config_sentence_transformers.json"
E5_PROMPTS = {"query": "query: ", "passage": "passage: "}


@pytest.fixture
def config_with(config_of: Callable[..., Any], write_data: Callable[..., Path]) -> Callable[..., Any]:
    """A function: model and other keys of its entry -> a config of one STS task."""

    def make(model: str | Path, protocols: dict[str, Any] | None = None, **entry: Any) -> Any:
        task = {"local": "Own", "type": "STS", "data": write_data("data", {"test.jsonl": STS_ROWS})}
        return config_of([{"label": "mine", "model": model, **entry}], [task], protocols)

    return make


@pytest.fixture
def decide(config_with: Callable[..., Any]) -> Callable[..., Any]:
    """A function: model and other keys of its entry -> its protocol."""

    def decided(model: str | Path, protocols: dict[str, Any] | None = None, **entry: Any) -> Any:
        config = config_with(model, protocols, **entry)
        return protocol_of(config, config.models[0])

    return decided


@pytest.fixture
def save(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function: folder's name, prompts, base model on the card -> the tiny checkpoint, saved again."""

    def write(name: str, prompts: dict[str, str], base_model: str | None = None) -> Path:
        return save_declaring(tiny_checkpoint, tmp_path / name, base_model=base_model, prompts=prompts)

    return write


@pytest.mark.parametrize(
    ("model", "protocol"),
    [
        ("intfloat/e5-large-unsupervised", "e5"),
        ("intfloat/e5-base-v2", "e5"),
        ("intfloat/multilingual-e5-small", "e5"),
        ("builtin:multilingual-e5-small", "e5"),
        ("intfloat/multilingual-e5-large-instruct", "instruct"),
        ("intfloat/e5-mistral-7b-instruct", "instruct"),
        ("builtin:all-MiniLM-L6-v2", "none"),
        ("someone/e5-base-v2", "undecided"),
        ("sentence-transformers/all-MiniLM-L6-v2", "undecided"),
    ],
)
def test_hub_name_decides_for_e5_alone(decide, model, protocol, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    assert decide(model).name == protocol


def test_folder_named_like_e5_is_not_e5(decide, save):
    found = decide(save("e5-base-v2", {}))
    assert found.name == "none"
    (warning,) = found.warnings
    assert "protocol: e5" in warning
    assert found.sentence("mine") == "mine: protocol none, because it declares no prompts."


def test_prompts_of_e5_decide_in_a_folder_of_any_name(decide, save):
    found = decide(save("my-finetune", E5_PROMPTS))
    assert found.sentence("my-finetune") == "my-finetune: protocol e5, because its prompts are E5's."
    assert found.warnings == ()
    assert decide(save("other", {"query": "query: ", "document": "passage: "})).name == "e5"


@pytest.mark.parametrize(
    "prompts",
    [{"query": "query: "}, {"query": "query:", "passage": "passage:"}, {**E5_PROMPTS, "STS": "similar: "}],
    ids=["no passage", "no blanks", "one more"],
)
def test_other_prompts_are_declared(decide, save, prompts):
    found = decide(save("model", prompts))
    assert found.name == "declared"
    assert "because it declares prompts of its own (query 'query:" in found.sentence("mine")


def test_base_model_of_the_card_decides(decide, save):
    found = decide(save("model", {}, "intfloat/multilingual-e5-base"))
    assert found.name == "e5"
    assert "it was made from intfloat/multilingual-e5-base, an E5 model" in found.reason
    assert decide(save("instructed", {}, "intfloat/multilingual-e5-large-instruct")).name == "instruct"
    assert decide(save("unrelated", {}, "someone/e5-base")).name == "none"


def test_prompts_outweigh_the_base_model(decide, save):
    prompts = {"query": "Find: ", "document": ""}
    assert decide(save("model", prompts, "intfloat/e5-base")).name == "declared"
    assert (
        decide(save("unsent", {"web_search_query": "Instruct: x"}, "intfloat/e5-mistral-7b-instruct")).name
        == "instruct"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "intfloat/e5-small-v2",
        "/data/models/intfloat/e5-small-v2",
        "/hub/models--intfloat--e5-small-v2/snapshots/0123abc",
    ],
)
@pytest.mark.parametrize(
    ("file", "key"), [("config.json", "_name_or_path"), ("adapter_config.json", "base_model_name_or_path")]
)
def test_origin_in_a_config_decides(decide, bert_copy, file, key, origin):
    path = bert_copy / file
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**content, key: origin}), encoding="utf-8")
    assert decide(bert_copy).name == "e5"


def test_hub_model_in_the_cache_is_read(decide, save, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tuned"
    saved = save("saved", {"query": "Q: ", "document": "D: "})
    (repository / "snapshots").mkdir(parents=True)
    saved.rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert decide("someone/tuned").name == "declared"


def test_choice_against_declared_prompts_is_a_warning(decide, save):
    own = save("own", {"query": "Q: ", "document": "D: "})
    for protocol in ("e5", "mteb", "none", "instruct", "changed"):
        protocols = {"changed": {"base": "none"}}
        found = decide(own, protocols, protocol=protocol)
        assert found.name == protocol
        assert found.warnings == (
            f"protocol {protocol} ignores the prompts that the model declares (query 'Q: ', document 'D: ').",
        )
    assert decide(own, protocol="declared").warnings == ()
    assert decide(own, {"changed": {"base": "declared"}}, protocol="changed").warnings == ()
    e5 = save("e5", E5_PROMPTS)
    assert decide(e5, protocol="none").warnings != ()
    assert decide(e5, protocol="mteb").warnings == decide(e5, protocol="e5").warnings == ()


def test_prompt_that_the_library_never_sends_is_a_warning(decide, save):
    (warning,) = decide(save("model", {"query": "Q: ", "passage": "P: "})).warnings
    assert "'passage' is never sent" in warning


def test_declared_of_a_model_that_is_not_here_is_undecided(decide, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    assert decide("someone/model", protocol="declared").name == "undecided"
    assert decide("someone/model", protocol="e5").name == "e5"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read as JSON"),
        ('{"prompts": ["query: "]}', "it must map names to texts"),
        ('{"prompts": {"query": 3}}', "it must map names to texts"),
        (
            '{"prompts": {}, "default_prompt_name": "s"}',
            "default_prompt_name is 's', but prompts has only query",
        ),
    ],
)
def test_prompts_that_can_not_be_understood_are_a_config_error(config_with, save, content, message):
    folder = save("model", {})
    (folder / ST_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="config.yaml, line 1: ") as caught:
        build_jobs(config_with(folder))
    assert message in str(caught.value)


@pytest.mark.parametrize("card", [b"---\nbase_model: [\n---\n", b"\xff\xfe---", b"---\n- a\n---\n", b"no front matter"])
def test_card_that_can_not_be_understood_says_nothing(save, card):
    folder = save("model", {})
    (folder / "README.md").write_bytes(card)
    assert read_declarations(folder).origins == ()


class Listener(Reporter):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, sentence: str) -> None:
        self.notices.append(sentence)


def test_run_says_the_protocol_sends_it_and_stores_it(config_with, save, caplog):
    listener = Listener()
    (record,) = run(config_with(save("model", {"STS": "sts: "})), reporter=listener).records
    assert listener.notices == ["mine: protocol declared, because it declares prompts of its own (STS 'sts: ')."]
    assert (record.state, record.protocol) == ("done", "declared")
    assert record.audit.sides["text"].examples[0] == "sts: tree 0"
    assert record.audit.rules.text_prefix == "sts: "


def test_run_warns_where_no_prompts_are_declared(config_with, save, caplog):
    (record,) = run(config_with(save("e5-small", {}))).records
    assert record.protocol == "none"
    assert any("set protocol: e5" in line.getMessage() for line in caplog.records if line.levelname == "WARNING")


def test_model_that_can_not_be_fetched_fails_its_jobs_only(config_with, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    (record,) = run(config_with("someone/model")).records
    assert (record.state, record.protocol) == ("failed", "undecided")
    assert "someone/model" in record.error.message


def test_masked_language_model_without_pooling_is_warned_of(decide: Callable[..., Any], tmp_path: Path) -> None:
    """What older SPLADE checkpoints hold cannot be told from such a model by its files."""
    checkpoint_variations.plain(tmp_path / "filler", head="ForMaskedLM")
    checkpoint_variations.plain(tmp_path / "bare")
    for protocol in (None, "none", "e5"):
        entry = {} if protocol is None else {"protocol": protocol}
        assert any("SPLADE" in warning for warning in decide(tmp_path / "filler", **entry).warnings)
        assert not any("SPLADE" in warning for warning in decide(tmp_path / "bare", **entry).warnings)
