"""How many texts of which length a task gives to a model: by hand, from mteb's statistics, from local files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.config.limit import Limit
from evaluation.jobs import Job, build_jobs
from evaluation.planning.text_groups import TextGroup, drawn_rows
from evaluation.planning.workload import workload
from evaluation.planning.workload_statistics import spread_lengths


@pytest.fixture
def groups_of(make_config: Callable[..., Any], tmp_path: Path) -> Callable[..., list[TextGroup]]:
    """A function: a task of a config -> its groups, under protocol e5."""

    def groups(task: dict[str, Any], limit: Limit | None = None) -> list[TextGroup]:
        job: Job = build_jobs(make_config([task], "some/model", "e5"))[0]
        found = workload(job.task, job.rules, limit)
        assert found is not None
        return found

    return groups


def test_draws_of_training_rows_overlap_as_chance_has_it() -> None:
    assert drawn_rows([8, 3], 8, 10) == 11, "labels with few rows are taken whole"
    assert drawn_rows([100], 10, 1) == 10
    assert drawn_rows([100], 10, 2) == 19, "100 (1 - 0.9^2)"
    drawn = [set[int]() for _ in range(200)]
    generator = np.random.default_rng(0)
    for rows in drawn:
        for _ in range(10):
            rows |= set(generator.permutation(130)[:8].tolist())
    assert abs(drawn_rows([130], 8, 10) - np.mean([len(rows) for rows in drawn])) < 1.5


def test_lengths_keep_mean_and_are_spread_as_the_longest_says() -> None:
    lengths = spread_lengths(100, 1_000, 10_000)
    assert lengths.mean() == pytest.approx(100, rel=1e-4)
    truth = np.random.default_rng(1).lognormal(0, 0.7, 10_000)
    truth *= 100 / truth.mean()
    guessed = spread_lengths(100, float(truth.max()), 10_000)
    assert np.minimum(guessed, 150).mean() == pytest.approx(np.minimum(truth, 150).mean(), rel=0.05)
    assert spread_lengths(50, 50, 7).tolist() == [50]


def test_classification_counts_test_and_the_drawn_training_rows(groups_of: Callable[..., list[TextGroup]]) -> None:
    scored, learned = groups_of({"mteb": "Banking77Classification"})
    assert (scored.texts, scored.unique) == (3_080, 3_080)
    assert scored.characters.mean() * scored.texts == pytest.approx(167_036, rel=0.01), "mteb's total_text_length"
    assert 0.45 * 10_003 < learned.texts < 0.47 * 10_003, "ten draws of 8 of some 130 rows of each of 77 labels"


def test_retrieval_counts_queries_and_documents_with_their_sides(groups_of: Callable[..., list[TextGroup]]) -> None:
    queries, documents = groups_of({"mteb": "SciFact"})
    assert (queries.side, queries.texts, documents.side, documents.texts) == ("query", 300, "passage", 5_183)


def test_clustering_takes_the_sample_that_mteb_takes(groups_of: Callable[..., list[TextGroup]]) -> None:
    (sampled,) = groups_of({"mteb": "TwentyNewsgroupsClustering.v2"})
    assert sampled.texts == int(0.04 * 59_545)
    assert sampled.unique < sampled.texts, "5,242 distinct texts lie in 59,545 rows"
    (fewer,) = groups_of(
        {
            "mteb": "TwentyNewsgroupsClustering.v2",
            "options": {"max_document_to_embed": 100, "max_fraction_of_documents_to_embed": None},
        }
    )
    assert fewer.texts == 100


def test_tasks_on_one_corpus_name_one_pool(groups_of: Callable[..., list[TextGroup]]) -> None:
    fever, climate = groups_of({"mteb": "FEVER"}), groups_of({"mteb": "ClimateFEVER"})
    assert fever[1].pool == climate[1].pool
    assert fever[0].pool != climate[0].pool
    nano, hard = groups_of({"mteb": "NanoFEVERRetrieval"}), groups_of({"mteb": "FEVERHardNegatives"})
    assert nano[1].pool == hard[1].pool == fever[1].pool
    assert nano[1].is_cut
    assert hard[1].is_cut
    assert not fever[1].is_cut
    intent = groups_of({"mteb": "MassiveIntentClassification", "subsets": ["en"], "splits": ["test"]})
    scenario = groups_of({"mteb": "MassiveScenarioClassification", "subsets": ["en"], "splits": ["test"]})
    assert intent[0].pool == scenario[0].pool, "the same utterances under other labels"
    assert intent[1].pool != scenario[1].pool, "other training rows"


def test_subset_decides_what_the_text_is(groups_of: Callable[..., list[TextGroup]]) -> None:
    name = "AmazonCounterfactualClassification"
    assert groups_of({"mteb": name, "subsets": ["en"]})[0].script == "english"
    assert groups_of({"mteb": name, "subsets": ["ja"]})[0].script == "other"
    assert groups_of({"mteb": "MBPPRetrieval"})[1].script == "code"


def test_local_files_are_counted(groups_of: Callable[..., list[TextGroup]], write_data: Callable[..., Path]) -> None:
    rows = [
        {"sentence1": "one", "sentence2": "three four", "score": 1},
        {"sentence1": "one", "sentence2": "five", "score": 2},
    ]
    folder = write_data("pairs", {"test.jsonl": rows})
    first, second = groups_of({"local": "Pairs", "type": "STS", "data": folder})
    assert (first.texts, first.unique, first.characters.tolist()) == (2, 1, [3])
    assert (second.texts, second.unique, sorted(second.characters.tolist())) == (2, 2, [4, 10])
    limit = Limit(documents=None, queries=None, examples=1)
    limited, _ = groups_of({"local": "Pairs", "type": "STS", "data": folder}, limit)
    assert limited.texts == 1


def test_only_candidates_of_a_reranking_task_count(
    groups_of: Callable[..., list[TextGroup]], write_data: Callable[..., Path]
) -> None:
    files = {
        "corpus.jsonl": [{"_id": f"d{number}", "title": "T", "text": f"text {number}"} for number in range(5)],
        "queries.jsonl": [{"_id": "q", "text": "who"}],
        "qrels/test.tsv": [("q", "d1", 1)],
        "top_ranked/test.jsonl": [{"query-id": "q", "corpus-ids": ["d1", "d3"]}],
    }
    queries, documents = groups_of({"local": "Rank", "type": "Reranking", "data": write_data("rank", files)})
    assert (queries.texts, documents.texts) == (1, 2)
    assert documents.characters.tolist() == [len("T text 1")] * 2
