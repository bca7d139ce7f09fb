"""Decides what text a model receives on a task and how its vectors are treated: the only place that knows prefixes.

A protocol is data. `TaskRules` are its rules for one task: a prefix for each side, whether a document's title is
joined to its text, normalising, the split, and whether a document that has the query's id is dropped.

Sources of `e5`: the evaluation scripts in microsoft/unilm (folder e5), arXiv 2212.03533, and the FAQ of the model
cards ("query: " and "passage: " for asymmetric tasks, "query: " alone for symmetric ones and linear probing).
Source of `mteb`: the registry entry of the E5 models in mteb 2.26 (model_implementations/e5_models.py), whose two
prompts apply only where a task passes a prompt type. Source of `declared`: `get_prompt_name` of mteb 2.26
(models/abs_encoder.py) and the prompt handling of sentence-transformers 6 (base/model.py). Source of `instruct`:
`InstructSentenceTransformerModel` of mteb 2.26 as e5_instruct.py configures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from evaluation.config.run_config import ProtocolChange, ProtocolConfig, RunConfig

Side = Literal["query", "passage", "text"]
"""Which text of a task: a query, a document, or a text of a task without sides."""

QUERY, PASSAGE = "query: ", "passage: "
INSTRUCTION = "Instruct: {instruction}\nQuery: "

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
_PROMPT_OF_SIDE: Mapping[Side, str] = {"query": "query", "passage": "document"}


@dataclass(frozen=True, slots=True)
class ModelPrompts:
    """The prompts that a checkpoint declares for sentence-transformers.

    Attributes:
        texts: Prompt by name; names are query, document, a task, a task type, or one of the last two with -query or
            -document appended.
        default_name: The prompt of texts without a side, where no prompt of the task applies.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default_name: str | None = None

    @property
    def filled(self) -> dict[str, str]:
        """The prompts that are not empty; the library stores empty ones for query and document."""
        return {name: text for name, text in self.texts.items() if text}

    @property
    def are_e5s(self) -> bool:
        """Whether they are exactly those of the E5 models."""
        documents = {"document", "passage", "corpus"}
        filled = self.filled
        of_documents = {filled.pop(name) for name in documents & filled.keys()}
        return filled == {"query": QUERY} and of_documents == {PASSAGE}


@dataclass(frozen=True, slots=True)
class ModelProtocol:
    """The protocol that a model runs under.

    Attributes:
        name: A named protocol, one of the config's, own or undecided.
        reason: Why it is this one, as the end of a sentence.
        prompts: The checkpoint's, which protocol declared sends.
        warnings: What the user should check, each a sentence.
    """

    name: str
    reason: str = ""
    prompts: ModelPrompts = ModelPrompts()
    warnings: tuple[str, ...] = ()

    def sentence(self, label: str) -> str:
        """Returns the line that a user reads before the run."""
        return f"{label}: protocol {self.name}, {self.reason}."


@dataclass(frozen=True, slots=True)
class TaskTraits:
    """What a protocol looks at in a task.

    Attributes:
        name: mteb's name, or that of a local task.
        type: mteb's type.
        aliases: Other names of the same dataset, which exceptions such as Quora's go by as well.
        instruction: The sentence that instruction-tuned models receive.
    """

    name: str
    type: str
    aliases: tuple[str, ...] = ()
    instruction: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All its names."""
        return frozenset({self.name, *self.aliases})


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
        """Returns the text that is put before every text of a side."""
        return {"query": self.query_prefix, "passage": self.passage_prefix, "text": self.text_prefix}[side]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for records and fingerprints."""
        return {name: getattr(self, name) for name in self.__slots__}


def document_text(title: str | None, text: str, *, join_title: bool) -> str:
    """Returns a document as one text: title, space and text, stripped, as mteb and unilm/e5 join them."""
    return f"{title} {text}".strip() if join_title and title else text.strip()


def instructed_query(query: str, instruction: str | None) -> str:
    """Returns a query followed by its instruction, as mteb joins them."""
    return query if instruction is None else f"{query} {instruction}"


def task_rules(config: RunConfig, protocol: ModelProtocol, task: TaskTraits) -> TaskRules:
    """Resolves a model's protocol for a task.

    Args:
        config: Holds the user's own protocols.
        protocol: The model's; its name is known to exist, which reading the config checked.

    Example:
        >>> task_rules(config, ModelProtocol("e5"), TaskTraits("SciFact", "Retrieval")).passage_prefix
        'passage: '
    """
    own: ProtocolConfig | None = config.protocols.get(protocol.name)
    if own is None:
        return replace(named_rules(protocol.name, task, protocol.prompts), protocol=protocol.name)
    changes: list[ProtocolChange | None] = [own, dict(own.types).get(task.type)]  # type: ignore[call-overload]
    changes += [own.tasks.get(name) for name in sorted(task.names)]
    given: dict[str, Any] = {}
    for change in changes:
        given |= {} if change is None else _given(change)
    task = replace(task, instruction=given.pop("instruction", task.instruction))
    rules = named_rules(own.base, task, protocol.prompts)
    return replace(rules, **given, protocol=protocol.name, allow_prefixed_text=own.allow_prefixed_text)


def named_rules(protocol: str, task: TaskTraits, prompts: ModelPrompts | None = None) -> TaskRules:
    """Returns the rules of a named protocol for a task; KeyError for another name."""
    match protocol:
        case "e5":
            return _e5(task)
        case "mteb":  # its registry entry has the same two prompts for all tasks
            return TaskRules("mteb", query_prefix=QUERY, passage_prefix=PASSAGE, split=SPLIT_TASK)
        case "declared":
            return _declared(task, prompts or ModelPrompts())
        case "instruct":
            prefix = INSTRUCTION.format(instruction=task.instruction) if task.instruction else ""
            return replace(_bare("instruct", task), query_prefix=prefix, text_prefix=prefix)
        case "own-encode":  # as mteb itself runs a model; texts that look prefixed are the model's affair
            return TaskRules("own-encode", split=SPLIT_TASK, allow_prefixed_text=True)
        case "none" | "undecided":
            return _bare(protocol, task)
    raise KeyError(protocol)


def _given(change: ProtocolChange) -> dict[str, Any]:
    return change.model_dump(exclude={"base", "types", "tasks", "allow_prefixed_text"}, exclude_none=True)


def _e5(task: TaskTraits) -> TaskRules:
    is_quora = bool(task.names & QUORA_TASKS)
    return replace(
        _bare("e5", task),
        query_prefix=QUERY,
        passage_prefix=PASSAGE if task.type in _SIDED_TYPES and not is_quora else QUERY,
        text_prefix=QUERY,
        join_title=not is_quora,
        normalize="never" if task.type in _RAW_VECTOR_TYPES else "always",
    )


def _declared(task: TaskTraits, prompts: ModelPrompts) -> TaskRules:
    return replace(
        _bare("declared", task),
        query_prefix=_declared_prompt(task, prompts, "query"),
        passage_prefix=_declared_prompt(task, prompts, "passage"),
        text_prefix=_declared_prompt(task, prompts, "text"),
    )


def _declared_prompt(task: TaskTraits, prompts: ModelPrompts, side: Side) -> str:
    """Returns the prompt of the first name that the checkpoint declares, the most specific name first."""
    suffix = _PROMPT_OF_SIDE.get(side)
    for name in (task.name, task.type):
        for key in [f"{name}-{suffix}", name] if suffix else [name]:
            if key in prompts.texts:
                return prompts.texts[key]
    return prompts.texts.get(suffix or prompts.default_name or "", "")


def _bare(protocol: str, task: TaskTraits) -> TaskRules:
    """Returns rules without any prefix."""
    return TaskRules(
        protocol,
        split="dev" if task.names & DEV_TASKS else SPLIT_TEST,
        ignore_identical_ids=bool(task.names & (ARGUANA_TASKS | QUORA_TASKS)),
    )
