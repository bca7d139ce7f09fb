"""The rules of a protocol, by hand. What arrives is compared in tests/adapters/test_arrival.py and test_prompts.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.protocols import ModelPrompts, ModelProtocol, TaskTraits, named_rules, task_rules

PROMPTS = ModelPrompts(
    {"query": "Q: ", "document": "", "SciFact-document": "D: ", "Retrieval-query": "R: ", "STS": "S: ", "deft": "T: "},
    "deft",
)


@pytest.mark.parametrize(
    ("name", "task_type", "expected"),
    [
        ("SciFact", "Retrieval", ("R: ", "D: ", "T: ")),
        ("NFCorpus", "Retrieval", ("R: ", "", "T: ")),
        ("AskUbuntuDupQuestions", "Reranking", ("Q: ", "", "T: ")),
        ("STS12", "STS", ("S: ", "S: ", "S: ")),
        ("Banking77Classification", "Classification", ("Q: ", "", "T: ")),
    ],
)
def test_declared_takes_the_most_specific_name(name: str, task_type: str, expected: tuple[str, str, str]) -> None:
    rules = named_rules("declared", TaskTraits(name, task_type), PROMPTS)
    assert (rules.query_prefix, rules.passage_prefix, rules.text_prefix) == expected
    assert (rules.normalize, rules.join_title, rules.split) == ("checkpoint", True, "test")


def test_instruct_leaves_documents_bare_and_needs_a_sentence() -> None:
    rules = named_rules("instruct", TaskTraits("X", "STS", instruction="Find it"))
    assert (rules.query_prefix, rules.passage_prefix) == ("Instruct: Find it\nQuery: ", "")
    assert rules.text_prefix == rules.query_prefix
    assert named_rules("instruct", TaskTraits("X", "STS")).text_prefix == ""


def test_exceptions_go_by_name_and_alias_under_every_default() -> None:
    for protocol in ("e5", "none", "declared", "instruct", "undecided"):
        quora = named_rules(protocol, TaskTraits("beir-quora", "Retrieval", ("QuoraRetrieval",)))
        assert quora.ignore_identical_ids, protocol
        assert named_rules(protocol, TaskTraits("MSMARCO", "Retrieval")).split == "dev", protocol
        assert not named_rules(protocol, TaskTraits("SciFact", "Retrieval")).ignore_identical_ids, protocol


def test_unknown_protocol_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        named_rules("e6", TaskTraits("SciFact", "Retrieval"))


def test_own_protocol_changes_the_declared_prompts(make_config: Callable[..., Any]) -> None:
    own = {"mine": {"base": "declared", "types": {"STS": {"text_prefix": "mine: "}}}}
    config = make_config([{"mteb": "STS12"}], "some/model", "mine", own=own)
    protocol = ModelProtocol("mine", prompts=PROMPTS)
    assert task_rules(config, protocol, TaskTraits("STS12", "STS")).text_prefix == "mine: "
    rules = task_rules(config, protocol, TaskTraits("SciFact", "Retrieval"))
    assert (rules.protocol, rules.query_prefix, rules.passage_prefix) == ("mine", "R: ", "D: ")
