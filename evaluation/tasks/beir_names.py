"""BEIR's names of its datasets, and mteb's tasks on the same data."""

from __future__ import annotations

from collections.abc import Mapping

BEIR_PREFIX = "beir-"
"""Of the names of tasks that run through beir."""
BEIR_TASKS: Mapping[str, str] = {
    "msmarco": "MSMARCO",
    "trec-covid": "TRECCOVID",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "hotpotqa": "HotpotQA",
    "fiqa": "FiQA2018",
    "arguana": "ArguAna",
    "webis-touche2020": "Touche2020",
    "cqadupstack": "CQADupstackRetrieval",
    "quora": "QuoraRetrieval",
    "dbpedia-entity": "DBPedia",
    "scidocs": "SCIDOCS",
    "fever": "FEVER",
    "climate-fever": "ClimateFEVER",
    "scifact": "SciFact",
}
"""BEIR's names (README of beir-cellar/beir) and mteb's tasks on the same data."""


def mteb_name(task: str) -> str:
    """mteb's name of the task with the same data as a task that runs through beir; other names as they are."""
    own = task.removeprefix(BEIR_PREFIX)
    return BEIR_TASKS.get(own, own)
