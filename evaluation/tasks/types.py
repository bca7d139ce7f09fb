"""Defines what each task type is: the one place for its mteb class, main score, data layout and instruction.

The names of the types are `evaluation.config.task_types.TaskType`, which the config may use and this table must cover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """What one task type is.

    Attributes:
        task_class: The class of `mteb.abstasks` that scores text tasks of the type; almost all of mteb's own text
            tasks derive from it as well.
        main_score: The main score of a local task that names none: what most of mteb 2.26's tasks of the type use.
        instruction: The sentence that instruction-tuned models receive where a task has none (mteb's
            `abstask_prompt` of the class).
        has_candidates: Whether each query orders its own candidates instead of searching the corpus.
        has_instructions: Whether each query carries an instruction.
    """

    task_class: str
    main_score: str
    instruction: str
    has_candidates: bool = False
    has_instructions: bool = False


RETRIEVAL_CLASS: Final = "AbsTaskRetrieval"
_SEARCH: Final = "Retrieve text based on user query."
_CLASSIFY: Final = "Classify user passages."

TASK_TYPES: Final[Mapping[str, TypeFacts]] = MappingProxyType(
    {
        "Retrieval": TypeFacts(RETRIEVAL_CLASS, "ndcg_at_10", _SEARCH),
        "Reranking": TypeFacts(RETRIEVAL_CLASS, "map_at_1000", _SEARCH, has_candidates=True),
        "STS": TypeFacts("AbsTaskSTS", "cosine_spearman", "Retrieve semantically similar text."),
        "Classification": TypeFacts("AbsTaskClassification", "accuracy", _CLASSIFY),
        "MultilabelClassification": TypeFacts("AbsTaskMultilabelClassification", "accuracy", _CLASSIFY),
        "Regression": TypeFacts("AbsTaskRegression", "kendalltau", "Predict the value of the user passage."),
        "Clustering": TypeFacts("AbsTaskClustering", "v_measure", "Identify categories in user passages."),
        "PairClassification": TypeFacts(
            "AbsTaskPairClassification",
            "max_ap",
            "Retrieve text that are semantically similar to the given text.",
        ),
        "Summarization": TypeFacts(
            "AbsTaskSummarization",
            "cosine_spearman",
            "Given a news summary, retrieve other semantically similar summaries.",
        ),
        "BitextMining": TypeFacts("AbsTaskBitextMining", "f1", "Retrieve parallel sentences."),
        "InstructionRetrieval": TypeFacts(RETRIEVAL_CLASS, "ndcg_at_20", _SEARCH, has_instructions=True),
        # mteb's own five use p-MRR, which only their overridden `task_specific_scores` computes, from judgements
        # changed by the instruction. A local task has none, so it is scored like any reranking.
        "InstructionReranking": TypeFacts(
            RETRIEVAL_CLASS, "map_at_1000", _SEARCH, has_candidates=True, has_instructions=True
        ),
    }
)

TASK_CLASS_BY_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {name: facts.task_class for name, facts in TASK_TYPES.items()}
)
RETRIEVAL_TYPES: Final = frozenset(name for name, facts in TASK_TYPES.items() if facts.task_class == RETRIEVAL_CLASS)
"""Types with queries, a corpus and judgements; their local data has BEIR's layout, all others' is tables."""

RERANKING_TYPES: Final = frozenset(name for name, facts in TASK_TYPES.items() if facts.has_candidates)
INSTRUCTION_TYPES: Final = frozenset(name for name, facts in TASK_TYPES.items() if facts.has_instructions)
TRAINED_TYPES: Final = frozenset(
    name
    for name, facts in TASK_TYPES.items()
    if facts.task_class in {"AbsTaskClassification", "AbsTaskMultilabelClassification", "AbsTaskRegression"}
)
"""Types that learn a classifier or a regression from a training split."""
