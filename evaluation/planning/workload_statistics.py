"""Derives the texts of a task from the descriptive statistics that mteb ships, without reading its dataset.

Follows mteb's sampling of training rows and of documents to cluster. Imports neither mteb nor torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.planning.text_groups import (
    Script,
    TextGroup,
    apply_options,
    drawn_rows,
    sample_group,
    training_sample,
)
from evaluation.protocols import Side
from evaluation.tasks.index import TaskIndex
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.installed_mteb import load_statistics
from evaluation.tasks.selection import TaskChoice
from evaluation.tasks.types import RETRIEVAL_TYPES, TRAINED_TYPES

_GRID = 256
_CODE = frozenset({"python", "javascript", "java", "go", "php", "ruby", "sql", "shell", "c++", "c", "rust", "r"})
_SAME_CORPUS: Mapping[str, str] = {"ClimateFEVER": "FEVER", "ClimateFEVER.v2": "FEVER"}
"""Tasks that search another task's corpus (mteb's statistics differ by 25 of 5.4 million documents)."""
_CUT = re.compile(r"HardNegatives(\.v\d)?$")
_TEXT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "STS": ("text1", "text2"),
    "PairClassification": ("text1", "text2"),
    "BitextMining": ("sentence1", "sentence2"),
    "Summarization": ("human_summaries", "machine_summaries"),
}


def statistics_groups(choice: TaskChoice, index: TaskIndex) -> list[TextGroup] | None:
    """Returns the text groups of a task; None where mteb has no statistics of its dataset."""
    entry = index.task(choice.source) if choice.source else None
    statistics = load_statistics(entry) if entry is not None else None
    if entry is None or statistics is None:
        return None
    entry = apply_options(entry, choice)
    train_subsets = _subset_statistics(statistics, entry.train_split or "train", choice.subsets) or {}
    script_of = _scripts(entry)
    groups: list[TextGroup] = []
    for split in choice.splits:
        subsets = _subset_statistics(statistics, split, choice.subsets)
        if subsets is None:
            return None
        if entry.parallel_subsets and len(choice.subsets) > 1:
            groups += _each_language_once(entry, subsets, script_of)
            continue
        for subset, counts in subsets.items():
            script = script_of(subset)
            if choice.type in RETRIEVAL_TYPES:
                groups += _retrieval_groups(entry.name, index, counts, script)
            else:
                groups += _text_groups(choice.type, entry, counts, script)
            is_trained = choice.type in TRAINED_TYPES and not entry.is_cross_validation
            if is_trained and (train := train_subsets.get(subset)) is not None:
                groups.append(_training_group(entry, f"{split}/{subset}", train, script))
    return groups


def _subset_statistics(
    statistics: Mapping[str, Any], split: str, subsets: Sequence[str]
) -> dict[str, Mapping[str, Any]] | None:
    """Returns the statistics of each subset of a split; None where one is missing."""
    whole = statistics.get(split)
    if whole is None:
        return None
    by_subset = whole.get("hf_subset_descriptive_stats")
    if not by_subset:
        return {"default": whole}
    return {name: by_subset[name] for name in subsets} if set(subsets) <= set(by_subset) else None


def _retrieval_groups(name: str, index: TaskIndex, counts: Mapping[str, Any], script: Script) -> Iterator[TextGroup]:
    family, is_cut = _family(name, index)
    corpus = _SAME_CORPUS.get(family, family)
    yield _group("query", f"{family} queries", counts["queries_text_statistics"], script, is_cut=is_cut)
    yield _group("passage", f"{corpus} documents", counts["documents_text_statistics"], script, is_cut=is_cut)


def _text_groups(task_type: str, entry: TaskEntry, counts: Mapping[str, Any], script: Script) -> Iterator[TextGroup]:
    if task_type in _TEXT_COLUMNS:
        for column in _TEXT_COLUMNS[task_type]:
            yield _group("text", "", counts[f"{column}_statistics"], script)
        return
    group = _group("text", "", counts["text_statistics"], script)
    if task_type == "Clustering":
        yield _clustering_group(entry, group)
    else:
        yield sample_group(group, entry.max_eval_samples)


def _group(side: Side, pool: str, counts: Mapping[str, Any], script: Script, *, is_cut: bool = False) -> TextGroup:
    """Builds a group from mteb's counts; without a name, groups of equal counts share a pool."""
    total, unique = int(counts["total_text_length"]), int(counts["unique_texts"])
    mean = float(counts["average_text_length"])
    n_texts = max(unique, round(total / mean)) if mean else unique
    longest = float(counts["max_text_length"])
    return TextGroup(
        side=side,
        pool=pool or f"{total} characters in {unique} texts of {counts['min_text_length']} to {longest:.0f}",
        texts=n_texts,
        unique=unique,
        characters=spread_lengths(mean, longest, n_texts).clip(min=float(counts["min_text_length"])),
        script=script,
        is_cut=is_cut,
    )


def spread_lengths(mean: float, longest: float, n_texts: int) -> NDArray[np.float32]:
    """Returns (256,) float32 lengths of a log-normal distribution with this mean and expected maximum.

    The expected largest of n normal values is about the quantile 1 - 1/2n; with it, ln(longest / mean) = z s - s^2 / 2
    gives the spread s.
    """
    if n_texts < 2 or mean <= 0 or longest <= mean:
        return np.full(1, mean, np.float32)
    z = NormalDist().inv_cdf(1 - 0.5 / n_texts)
    spread = z - math.sqrt(max(0.0, z * z - 2 * math.log(longest / mean)))
    lengths = np.exp(spread * _normal_quantiles())
    return np.asarray(lengths * (mean / lengths.mean()), np.float32)


@cache
def _normal_quantiles() -> NDArray[np.float64]:
    """(256,) at even steps."""
    return np.array([NormalDist().inv_cdf((number + 0.5) / _GRID) for number in range(_GRID)])


def _clustering_group(entry: TaskEntry, group: TextGroup) -> TextGroup:
    """Current tasks cluster a sample of the documents; legacy tasks encode each set separately, so repeats count."""
    if entry.base_class == "AbsTaskClusteringLegacy":
        return replace(group, unique=float(group.texts))
    if entry.max_fraction_of_documents_to_embed is not None:
        return sample_group(group, int(entry.max_fraction_of_documents_to_embed * group.texts))
    return sample_group(group, entry.max_document_to_embed)


def _training_group(entry: TaskEntry, place: str, train: Mapping[str, Any], script: Script) -> TextGroup:
    """Returns the training rows that mteb's experiments draw. Regression draws `n_samples` of all rows."""
    group = _group("text", "", train["text_statistics"], script)
    if entry.base_class == "AbsTaskRegression":
        per_label, counts = entry.n_samples or group.texts, [group.texts]
    else:
        labels = (train.get("label_statistics") or {}).get("labels") or {}
        counts = [int(label["count"]) for label in labels.values()] or [group.texts]
        per_label = entry.samples_per_label or group.texts
    n_rows = drawn_rows(counts, per_label, entry.n_experiments or 1)
    return training_sample(group, f"{entry.name} training {place}", n_rows)


def _each_language_once(
    entry: TaskEntry, subsets: Mapping[str, Mapping[str, Any]], script_of: Callable[[str], Script]
) -> list[TextGroup]:
    """Parallel bitext is one table with a column per language; each language is encoded once for all pairs."""
    columns = {
        language: (subset, column)
        for subset in subsets
        for language, column in zip((subset.split("-") + [subset])[:2], _TEXT_COLUMNS[entry.type], strict=True)
    }
    return [
        _group("text", "", subsets[subset][f"{column}_statistics"], script_of(subset))
        for subset, column in columns.values()
    ]


def _family(name: str, index: TaskIndex) -> tuple[str, bool]:
    """Returns the task whose texts these are, and whether they are only a part (HardNegatives and Nano variants)."""
    if _CUT.search(name):
        return _CUT.sub("", name), True
    if name.startswith("Nano") and name.endswith("Retrieval"):
        stem = name.removeprefix("Nano").removesuffix("Retrieval")
        base = next((known for known in (stem, f"{stem}Retrieval", stem.upper()) if known in index), None)
        if base is not None:
            return base, True
    return name, False


def _scripts(entry: TaskEntry) -> Callable[[str], Script]:
    """Returns a function of a subset, which decides by the languages that the index lists for it, or for the task."""
    languages = set(entry.languages)
    whole: Script = "code" if languages & _CODE else "english" if languages == {"eng"} else "other"
    known = frozenset() if whole == "code" else frozenset(entry.subsets)
    foreign = frozenset(entry.subsets_in(languages - {"eng"})) if known else known

    def script_of(subset: str) -> Script:
        if subset not in known:
            return whole
        return "other" if subset in foreign else "english"

    return script_of
