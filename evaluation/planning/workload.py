"""A chosen task -> the texts that a model will be given for it: how many, how long, and which other tasks share them.

Local folders are counted; Hub datasets are taken from the descriptive statistics that mteb ships, its sampling of
training rows and of documents to cluster followed. Knows no model and no tokenizer; imports neither mteb nor torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.config.models import Limit
from evaluation.protocols import Side, TaskRules, document_text, instructed_query
from evaluation.tasks.index import TaskIndex, load_index
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.installed_mteb import load_statistics
from evaluation.tasks.local.folders import RetrievalSplit, TableSplit
from evaluation.tasks.selection import TaskChoice, read_choice
from evaluation.tasks.types import RETRIEVAL_TYPES, TRAINED_TYPES

Script = Literal["english", "code", "other"]
"""What a text is to a tokenizer made for English: its own language, a programming language, or anything else."""

_GRID = 256
_CODE = frozenset({"python", "javascript", "java", "go", "php", "ruby", "sql", "shell", "c++", "c", "rust", "r"})
_SAME_CORPUS: Mapping[str, str] = {"ClimateFEVER": "FEVER", "ClimateFEVER.v2": "FEVER"}
"""Tasks that search another task's corpus (mteb's statistics differ by 25 of 5.4 million documents)."""
_CUT = re.compile(r"HardNegatives(\.v\d)?$")
_CODE_MARKS = frozenset("_(){}[]=;<>")


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Texts that one side of a task encodes together.

    Attributes:
        side: Which prefix they get.
        pool: What the texts are: groups of one pool hold the same texts, or parts of them.
        texts: Texts handed to the encoder, repeated ones counted again.
        unique: Distinct ones, which are encoded; an expectation where mteb samples.
        characters: (M,) float32 lengths, each standing for unique / M of the distinct texts.
        script: What kind of text it is.
        is_cut: Only a part of its pool.
    """

    side: Side
    pool: str
    texts: int
    unique: float
    characters: NDArray[np.float32]
    script: Script = "english"
    is_cut: bool = False


def workload(choice: TaskChoice, rules: TaskRules, limit: Limit | None) -> list[TextGroup] | None:
    """The texts of a task, or None where mteb has no statistics of its dataset.

    Args:
        choice: The task.
        rules: Whether a document's title is joined to it.
        limit: Cuts of a smoke run; they keep judged documents, which is not followed here.

    Raises:
        DataError: Local data that changed since it was planned.
    """
    index = load_index()
    entry = index.task(choice.source) if choice.source else None
    groups = _counted(choice, entry, rules) if choice.data is not None else _from_statistics(choice, entry, index)
    return None if groups is None else [_limited(group, limit) for group in groups]


# --------------------------------------------------------------------------------------------------- from statistics


def _from_statistics(choice: TaskChoice, entry: TaskEntry | None, index: TaskIndex) -> list[TextGroup] | None:
    statistics = load_statistics(entry) if entry is not None else None
    if entry is None or statistics is None:
        return None
    entry = _with_options(entry, choice)
    groups: list[TextGroup] = []
    for split in choice.splits:
        parts = _parts(statistics, split, choice.subsets)
        trains = _parts(statistics, entry.train_split or "train", choice.subsets)
        if parts is None:
            return None
        for subset, numbers in parts.items():
            train = (trains or {}).get(subset)
            groups += _split_groups(choice, entry, index, f"{split}/{subset}", numbers, train)
        if entry.parallel_subsets and len(choice.subsets) > 1:
            groups = _each_language_once(groups, choice.subsets)
    return groups


def _with_options(entry: TaskEntry, choice: TaskChoice) -> TaskEntry:
    """Attributes of mteb's class that the config changed."""
    known = {name: value for name, value in choice.options.items() if name in TaskEntry.__dataclass_fields__}
    return replace(entry, **known) if known else entry


def _parts(statistics: Mapping[str, Any], split: str, subsets: Sequence[str]) -> dict[str, Mapping[str, Any]] | None:
    """Subset -> statistics of a split; None where one is missing."""
    whole = statistics.get(split)
    if whole is None:
        return None
    inner = whole.get("hf_subset_descriptive_stats")
    if not inner:
        return {"default": whole}
    return {name: inner[name] for name in subsets} if set(subsets) <= set(inner) else None


def _split_groups(
    choice: TaskChoice,
    entry: TaskEntry,
    index: TaskIndex,
    place: str,
    numbers: Mapping[str, Any],
    train: Mapping[str, Any] | None,
) -> Iterator[TextGroup]:
    """The groups of one split and subset."""
    script = _script_of(entry, place.partition("/")[2])
    if choice.type in RETRIEVAL_TYPES:
        family, is_cut = _family(entry.name, index)
        corpus = _SAME_CORPUS.get(family, family)
        queries, documents = numbers["queries_text_statistics"], numbers["documents_text_statistics"]
        yield _group("query", f"{family} queries", queries, script, is_cut=is_cut)
        yield _group("passage", f"{corpus} documents", documents, script, is_cut=is_cut)
        return
    match choice.type:
        case "Clustering":
            yield _clustering_group(entry, numbers, script)
        case "STS" | "PairClassification":
            first = _group("text", "", numbers["text1_statistics"], script)
            second = _group("text", "", numbers["text2_statistics"], script)
            yield from (first, second)
        case "BitextMining":
            yield _group("text", "", numbers["sentence1_statistics"], script)
            yield _group("text", "", numbers["sentence2_statistics"], script)
        case "Summarization":
            yield _group("text", "", numbers["human_summaries_statistics"], script)
            yield _group("text", "", numbers["machine_summaries_statistics"], script)
        case _:
            scored = _group("text", "", numbers["text_statistics"], script)
            most = entry.max_eval_samples
            yield _sampled(scored, most) if most is not None and most < scored.texts else scored
            if train is not None and not entry.is_cross_validation:
                yield _training_group(entry, place, train, script)


def _group(side: Side, pool: str, counted: Mapping[str, Any], script: Script, *, is_cut: bool = False) -> TextGroup:
    """A group from mteb's counts; without a pool of its own, equal counts make an equal pool."""
    total, unique = int(counted["total_text_length"]), int(counted["unique_texts"])
    mean = float(counted["average_text_length"])
    n_texts = max(unique, round(total / mean)) if mean else unique
    longest = float(counted["max_text_length"])
    return TextGroup(
        side=side,
        pool=pool or f"{total} characters in {unique} texts of {counted['min_text_length']} to {longest:.0f}",
        texts=n_texts,
        unique=unique,
        characters=spread_lengths(mean, longest, n_texts).clip(min=float(counted["min_text_length"])),
        script=script,
        is_cut=is_cut,
    )


def spread_lengths(mean: float, longest: float, n_texts: int) -> NDArray[np.float32]:
    """(256,) float32 lengths of a log-normal distribution with this mean, whose largest of n_texts is `longest`.

    The expected largest of n normal values is about the quantile 1 - 1/2n; with it, ln(longest / mean) = z s - s^2 / 2
    gives the spread s.
    """
    if n_texts < 2 or mean <= 0 or longest <= mean:
        return np.full(1, mean, np.float32)
    normal = NormalDist()
    z = normal.inv_cdf(1 - 0.5 / n_texts)
    spread = z - math.sqrt(max(0.0, z * z - 2 * math.log(longest / mean)))
    quantiles = np.array([normal.inv_cdf((number + 0.5) / _GRID) for number in range(_GRID)])
    lengths = np.exp(spread * quantiles)
    return np.asarray(lengths * (mean / lengths.mean()), np.float32)


def _sampled(group: TextGroup, n_texts: int) -> TextGroup:
    """A random draw without replacement: how many distinct texts it holds, where texts repeat evenly."""
    repeats = group.texts / max(group.unique, 1)
    missed = (1 - n_texts / max(group.texts, 1)) ** repeats
    return replace(group, texts=n_texts, unique=group.unique * (1 - missed), is_cut=True)


def _clustering_group(entry: TaskEntry, numbers: Mapping[str, Any], script: Script) -> TextGroup:
    """New generation: a sample of the documents. Legacy: sets that are encoded one by one, so that repeats count."""
    group = _group("text", "", numbers["text_statistics"], script)
    if entry.base_class == "AbsTaskClusteringLegacy":
        return replace(group, unique=float(group.texts))
    most = entry.max_document_to_embed
    if entry.max_fraction_of_documents_to_embed is not None:
        most = int(entry.max_fraction_of_documents_to_embed * group.texts)
    return group if most is None or most >= group.texts else _sampled(group, most)


def _training_group(entry: TaskEntry, place: str, train: Mapping[str, Any], script: Script) -> TextGroup:
    """The training rows that mteb's experiments draw, all experiments together.

    Each shuffles all rows anew and takes the first k of a label, so that of c rows of a label n experiments together
    take c (1 - (1 - k/c)^n) (`AbsTaskClassification._undersample_data`). Regression draws n_samples of all rows.
    """
    group = _group("text", "", train["text_statistics"], script)
    repeats = entry.n_experiments or 1
    if entry.base_class == "AbsTaskRegression":
        wanted, counts = entry.n_samples or group.texts, [group.texts]
    else:
        labels = (train.get("label_statistics") or {}).get("labels") or {}
        counts = [int(label["count"]) for label in labels.values()] or [group.texts]
        wanted = entry.samples_per_label or group.texts
    n_rows = drawn_rows(counts, wanted, repeats)
    return replace(_sampled(group, min(n_rows, group.texts)), pool=f"{entry.name} training {place}")


def drawn_rows(counts: Iterable[int], wanted: int, repeats: int) -> int:
    """Expected distinct rows when each of `repeats` draws takes `wanted` rows of each label.

    >>> drawn_rows([100, 4], 8, 1)
    12
    """
    return round(sum(count * (1 - (1 - min(wanted, count) / count) ** repeats) for count in counts if count))


def _each_language_once(groups: list[TextGroup], subsets: Sequence[str]) -> list[TextGroup]:
    """Parallel bitext: one table with a column a language, each encoded once whatever pairs it is in."""
    names = [name for subset in subsets for name in (subset.split("-") + [subset])[:2]]
    return list({name: group for name, group in zip(names, groups, strict=False)}.values())


def _family(name: str, index: TaskIndex) -> tuple[str, bool]:
    """The task whose texts these are, and whether they are only a part of them (HardNegatives and Nano forms)."""
    if _CUT.search(name):
        return _CUT.sub("", name), True
    if name.startswith("Nano") and name.endswith("Retrieval"):
        stem = name.removeprefix("Nano").removesuffix("Retrieval")
        base = next((known for known in (stem, f"{stem}Retrieval", stem.upper()) if known in index), None)
        if base is not None:
            return base, True
    return name, False


def _script_of(entry: TaskEntry, subset: str) -> Script:
    """By the languages that the index gives a subset, or the whole task."""
    languages = set(entry.languages)
    if languages & _CODE:
        return "code"
    if subset in entry.subsets:
        return "other" if subset in entry.subsets_in(languages - {"eng"}) else "english"
    return "english" if languages == {"eng"} else "other"


# ---------------------------------------------------------------------------------------------------- from local files


def _counted(choice: TaskChoice, entry: TaskEntry | None, rules: TaskRules) -> list[TextGroup]:
    train = str(choice.options.get("train_split", (entry.train_split if entry else None) or "train"))
    data = read_choice(choice, train_split=train if choice.type in TRAINED_TYPES else None)
    entry = _with_options(entry or TaskEntry(choice.name, choice.type), choice)
    groups: list[TextGroup] = []
    for subset, splits in data.subsets.items():
        for split in choice.splits:
            part = splits[split]
            pool = f"{choice.dataset_revision}/{subset}/{split}"
            if isinstance(part, RetrievalSplit):
                groups += _retrieval_groups(part, f"{choice.dataset_revision}/{subset}", rules)
            else:
                rows = splits.get(train)
                learned = rows if isinstance(rows, TableSplit) else None
                groups += _table_groups(choice, entry, pool, part, learned)
    return groups


def _of_texts(side: Side, pool: str, texts: Sequence[str]) -> TextGroup:
    distinct = list(dict.fromkeys(texts))
    lengths = np.fromiter(map(len, distinct), np.float32, len(distinct))
    return TextGroup(side, pool, len(texts), len(distinct), lengths, _script_in(distinct))


def _script_in(texts: Sequence[str]) -> Script:
    """What the first texts look like: letters beyond ASCII, or the marks of programming languages."""
    sample = "".join(texts[:200])[:20_000]
    if not sample:
        return "english"
    if sum(not character.isascii() and character.isalpha() for character in sample) > 0.01 * len(sample):
        return "other"
    return "code" if sum(character in _CODE_MARKS for character in sample) > 0.03 * len(sample) else "english"


def _retrieval_groups(part: RetrievalSplit, pool: str, rules: TaskRules) -> Iterator[TextGroup]:
    documents = zip(part.corpus_ids, part.titles, part.texts, strict=True)
    if part.top_ranked is not None:
        wanted = {document for ids in part.top_ranked.values() for document in ids}
        documents = (row for row in documents if row[0] in wanted)  # type: ignore[assignment]
    texts = [document_text(title, text, join_title=rules.join_title) for _, title, text in documents]
    instructions = part.instructions or {}
    queries = [
        instructed_query(text, instructions.get(query))
        for query, text in zip(part.query_ids, part.query_texts, strict=True)
    ]
    yield _of_texts("query", f"{pool} queries", queries)
    yield _of_texts("passage", f"{pool} documents", texts)


def _table_groups(
    choice: TaskChoice, entry: TaskEntry, pool: str, part: TableSplit, train: TableSplit | None
) -> Iterator[TextGroup]:
    columns = part.columns
    match choice.type:
        case "PairClassification":
            yield _of_texts("text", pool, [*columns["sentence1"], *columns["sentence2"]])
        case "STS" | "BitextMining":
            yield _of_texts("text", f"{pool} 1", columns["sentence1"])
            yield _of_texts("text", f"{pool} 2", columns["sentence2"])
        case "Summarization":
            for name in ("human_summaries", "machine_summaries"):
                yield _of_texts("text", f"{pool} {name}", [text for row in columns[name] for text in row])
        case "Clustering":
            yield from _local_clustering(choice, entry, pool, columns)
        case _:
            scored = _of_texts("text", pool, columns["text"])
            most = entry.max_eval_samples
            yield _sampled(scored, most) if most is not None and most < scored.texts else scored
            if train is not None and not entry.is_cross_validation:
                yield _drawn_from(entry, f"{pool} training", train)


def _local_clustering(
    choice: TaskChoice, entry: TaskEntry, pool: str, columns: Mapping[str, list[Any]]
) -> Iterator[TextGroup]:
    if "sentences" in columns and entry.base_class == "AbsTaskClusteringLegacy":
        for number, sentences in enumerate(columns["sentences"]):
            yield _of_texts("text", f"{pool} set {number}", sentences)
        return
    nested = columns.get("sentences")
    texts = [text for row in nested for text in row] if nested is not None else columns["text"]
    group = _of_texts("text", pool, texts)
    most = entry.max_document_to_embed
    fraction = None if choice.source is None else entry.max_fraction_of_documents_to_embed
    if fraction is not None:
        most = int(fraction * group.texts)
    yield group if most is None or most >= group.texts else _sampled(group, most)


def _drawn_from(entry: TaskEntry, pool: str, train: TableSplit) -> TextGroup:
    """The training rows that all experiments together draw of a local split."""
    group = _of_texts("text", pool, train.columns["text"])
    if "value" in train.columns:
        n_rows = drawn_rows([group.texts], entry.n_samples or 2_048, entry.n_experiments or 10)
    else:
        counts: dict[Any, int] = {}
        for label in train.columns["label"]:
            for name in label if isinstance(label, list) else [label]:
                counts[name] = counts.get(name, 0) + 1
        n_rows = drawn_rows(counts.values(), entry.samples_per_label or 8, entry.n_experiments or 10)
    return _sampled(group, min(n_rows, group.texts))


def _limited(group: TextGroup, limit: Limit | None) -> TextGroup:
    if limit is None:
        return group
    most = {"query": limit.queries, "passage": limit.documents, "text": limit.examples}[group.side]
    if most is None or most >= group.texts or "training" in group.pool:
        return group
    return replace(group, texts=most, unique=min(group.unique, float(most)), is_cut=True)
