"""BEIR's names of its datasets, and mteb's tasks on the same data."""

from __future__ import annotations

from collections.abc import Mapping

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
