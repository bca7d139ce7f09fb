"""Parts of job records with values that tests do not care about; each keyword replaces one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.protocols import TaskRules
from evaluation.records.job_audit import JobAudit, SideAudit, TokenLengths, VectorRules
from evaluation.records.job_record import SubsetScores, Timing
from evaluation.records.origin import Checkout, DatasetProvenance, Hardware, ModelProvenance, ModelSettings, Provenance
from evaluation.records.run_manifest import ListedJob, RunManifest

EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def side_audit(**changes: Any) -> SideAudit:
    """A side of 100 short texts."""
    fields: dict[str, Any] = {
        "prefix": "query: ",
        "examples": ("query: where is the harbour", "query: who mends bicycles"),
        "texts": 100,
        "unique_texts": 100,
        "truncated": 0,
        "truncated_share": 0.0,
        "characters": 4_000,
        "tokens": 1_500,
        "tokens_kept": 1_500,
        "longest": 40,
        "already_prefixed": 0,
        "token_lengths": TokenLengths(edges=EDGES, counts=(0, 20, 70, 10, 0, 0, 0, 0, 0, 0, 0, 0)),
    }
    return SideAudit.model_validate(fields | changes)


def vector_rules(**changes: Any) -> VectorRules:
    """Mean pooling, length one, 512 tokens, float32."""
    fields: dict[str, Any] = {"pooling": "mean", "normalize": True, "max_length": 512, "dtype": "float32"}
    return VectorRules.model_validate(fields | changes)


def job_audit(rules: TaskRules | None = None, vectors: VectorRules | None = None, **sides: SideAudit) -> JobAudit:
    """The audit of these sides, under protocol e5 without rules of its own."""
    audited = {"rules": rules or TaskRules("e5"), "vectors": vectors or vector_rules(), "sides": sides}
    return JobAudit.model_validate(audited)


def model_provenance(settings: dict[str, Any] | None = None, **changes: Any) -> ModelProvenance:
    """A checkpoint of one's own on a processor."""
    resolved = {
        "backend": "transformers",
        "pooling": "mean",
        "max_length": 512,
        "dtype": "float32",
        "device": "cpu",
        "max_tokens": 2_048,
        **(settings or {}),
    }
    fields: dict[str, Any] = {
        "declared": "./small",
        "name": "local/small",
        "revision": None,
        "weights_sha256": "aaaa",
        "tokenizer_sha256": "bbbb",
        "settings": ModelSettings.model_validate(resolved),
    }
    return ModelProvenance.model_validate(fields | changes)


def provenance(
    model: ModelProvenance | None = None,
    *,
    dataset: str = "local/data",
    revision: str | None = "local-1",
    versions: dict[str, str] | None = None,
    **changes: Any,
) -> Provenance:
    """A model on a data set with mteb's version."""
    fields: dict[str, Any] = {
        "model": model or model_provenance(),
        "dataset": DatasetProvenance(name=dataset, revision=revision),
        "seed": 42,
        "versions": {"mteb": "2.26.24"} if versions is None else versions,
        "source": Checkout(),
        "hardware": hardware(),
    }
    return Provenance.model_validate(fields | changes)


def hardware() -> Hardware:
    """A machine without a GPU."""
    return Hardware(system="Linux x86_64", cpu="A processor", cores=8, threads=8, memory_gib=32.0, cuda=())


def timing(**changes: Any) -> Timing:
    """A minute."""
    fields = {"total_s": 60.0, "loading_s": 2.0, "encoding_s": 50.0, "scoring_s": 8.0, "tokens": 400_000}
    return Timing.model_validate(fields | changes)


def subset_scores(main_score: float, subset: str = "default", **metrics: float) -> SubsetScores:
    """A subset's main score and other metrics."""
    return SubsetScores(subset=subset, languages=("eng-Latn",), main_score=main_score, metrics=metrics)


def manifest(name: str, jobs: Sequence[Any], **changes: Any) -> RunManifest:
    """run.json of records (or of anything that has their fields)."""
    fields = ("label", "task", "type", "protocol", "fingerprint", "state")
    listed = [job if isinstance(job, ListedJob) else ListedJob(**{f: getattr(job, f) for f in fields}) for job in jobs]
    return RunManifest.model_validate({"name": name, "config": {"name": name}, "jobs": tuple(listed), **changes})
