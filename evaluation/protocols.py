"""What text a model receives on a task, and how its vectors are treated: the one place that knows prefixes.

A protocol is data. `TaskRules` are its rules for one task: a prefix for each side, whether a document's title is
joined to its text, normalising, the split, and whether a document that has the query's id is dropped.

Sources of `e5`: the evaluation scripts in microsoft/unilm (folder e5), arXiv 2212.03533, and the FAQ of the model
cards ("query: " and "passage: " for asymmetric tasks, "query: " alone for symmetric ones and linear probing).
Source of `mteb`: the registry entry of the E5 models in mteb 2.26 (model_implementations/e5_models.py), whose two
prompts apply only where a task passes a prompt type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from evaluation.config.models import ProtocolChange, ProtocolConfig, RunConfig

Side = Literal["query", "passage", "text"]
"""Which text of a task: a query, a document, or a text of a task without sides."""

QUERY, PASSAGE = "query: ", "passage: "

SPLIT_TEST, SPLIT_TASK = "test", "task"
"""Where no split is asked for: `test` where the task has it (else the task's own), or the task's own splits."""

QUORA_TASKS = frozenset(
    {
        "QuoraRetrieval",
        "QuoraRetrievalHardNegatives",
        "QuoraRetrievalHardNegatives.v2",
        "QuoraRetrievalDecontaminated",
        "NanoQuoraRetrieval",
        "MultilingualNanoQuoraRetrieval",
        "Quora-PL",
        "Quora-PLHardNegatives",
        "Quora-NL",
        "Quora-VN",
        "QuoraRetrieval-Fa",
        "QuoraRetrieval-Fa.v2",
        "quora",
    }
)
"""Duplicate-question search: both sides are questions (unilm/e5 uses "query: " on both)."""

ARGUANA_TASKS = frozenset(
    {
        "ArguAna",
        "ArguAnaDecontaminated",
        "ArguAna-Fa",
        "ArguAna-Fa.v2",
        "ArguAna-NL",
        "ArguAna-NL.v2",
        "ArguAna-PL",
        "ArguAna-VN",
        "NanoArguAnaRetrieval",
        "MultilingualNanoArguAnaRetrieval",
        "BIRCO-ArguAna",
        "arguana",
    }
)
"""The query is itself a document of the corpus."""

DEV_TASKS = frozenset({"MSMARCO", "MSMARCOHardNegatives", "msmarco"})
"""Scored on `dev`: their test split is TREC-DL's."""

_SIDED_TYPES = frozenset({"Retrieval", "InstructionRetrieval", "InstructionReranking"})
_RAW_VECTOR_TYPES = frozenset({"Classification", "MultilabelClassification", "Regression"})


@dataclass(frozen=True, slots=True)
class TaskRules:
    """A protocol's rules for one task. `None` for ignore_identical_ids: as the task's class says."""

    protocol: str
    query_prefix: str = ""
    passage_prefix: str = ""
    text_prefix: str = ""
    join_title: bool = True
    normalize: Literal["always", "never", "checkpoint"] = "checkpoint"
    split: str = SPLIT_TEST
    ignore_identical_ids: bool | None = None
    allow_prefixed_text: bool = False

    def prefix(self, side: Side) -> str:
        """The text put before every text of a side."""
        return {"query": self.query_prefix, "passage": self.passage_prefix, "text": self.text_prefix}[side]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for records and fingerprints."""
        return asdict(self)


def document_text(title: str | None, text: str, *, join_title: bool) -> str:
    """A document as one text: title, space and text, stripped, as mteb and unilm/e5 join them."""
    return f"{title} {text}".strip() if join_title and title else text.strip()


def instructed_query(query: str, instruction: str | None) -> str:
    """A query followed by its instruction, as mteb joins them."""
    return query if instruction is None else f"{query} {instruction}"


def task_rules(
    config: RunConfig, protocol: str, *, task: str, task_type: str, aliases: Sequence[str] = ()
) -> TaskRules:
    """Resolve a protocol for a task.

    Args:
        config: Holds the protocols of the user's own.
        protocol: e5, mteb, none, or one of the config's (its existence was checked when the config was read).
        task: The task's name, which exceptions such as Quora's go by.
        task_type: mteb's type of the task.
        aliases: Other names of the same dataset: mteb's, where the task runs through beir.
    """
    own: ProtocolConfig | None = config.protocols.get(protocol)
    names = frozenset({task, *aliases})
    rules = replace(named_rules(own.base if own else protocol, task_type, names), protocol=protocol)
    if own is None:
        return rules
    changes: list[ProtocolChange | None] = [own, dict(own.types).get(task_type)]  # type: ignore[call-overload]
    changes += [own.tasks.get(name) for name in sorted(names)]
    for change in changes:
        if change is not None:
            rules = replace(rules, **_given(change))
    return replace(rules, allow_prefixed_text=own.allow_prefixed_text)


def named_rules(protocol: str, task_type: str, names: frozenset[str]) -> TaskRules:
    """The rules of e5, mteb or none for a task of a type with these names; KeyError for another protocol."""
    return _NAMED[protocol](task_type, names)


def _given(change: ProtocolChange) -> Mapping[str, Any]:
    values = {name: getattr(change, name) for name in ProtocolChange.model_fields}
    return {name: value for name, value in values.items() if value is not None}


def _e5(task_type: str, names: frozenset[str]) -> TaskRules:
    sided = task_type in _SIDED_TYPES and not names & QUORA_TASKS
    return TaskRules(
        protocol="e5",
        query_prefix=QUERY,
        passage_prefix=PASSAGE if sided else QUERY,
        text_prefix=QUERY,
        join_title=not names & QUORA_TASKS,
        normalize="never" if task_type in _RAW_VECTOR_TYPES else "always",
        split=_default_split(names),
        ignore_identical_ids=bool(names & (ARGUANA_TASKS | QUORA_TASKS)),
    )


def _mteb(task_type: str, names: frozenset[str]) -> TaskRules:
    del task_type, names  # mteb's registry entry has the same two prompts for all
    return TaskRules(protocol="mteb", query_prefix=QUERY, passage_prefix=PASSAGE, split=SPLIT_TASK)


def _none(task_type: str, names: frozenset[str]) -> TaskRules:
    del task_type
    return TaskRules(
        protocol="none",
        split=_default_split(names),
        ignore_identical_ids=bool(names & (ARGUANA_TASKS | QUORA_TASKS)),
    )


def _default_split(names: frozenset[str]) -> str:
    return "dev" if names & DEV_TASKS else SPLIT_TEST


_NAMED = {"e5": _e5, "mteb": _mteb, "none": _none}
