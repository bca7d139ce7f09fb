"""Lists the task types that a config may name; `evaluation.tasks.types` says what each of them is."""

from __future__ import annotations

from typing import Literal

TaskType = Literal[
    "Retrieval",
    "Reranking",
    "STS",
    "Classification",
    "MultilabelClassification",
    "Regression",
    "Clustering",
    "PairClassification",
    "Summarization",
    "BitextMining",
    "InstructionRetrieval",
    "InstructionReranking",
]
