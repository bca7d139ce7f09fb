"""Records of retrieval jobs whose scores are known, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from support.record_parts import (
    job_audit,
    model_provenance,
    provenance,
    side_audit,
    subset_scores,
    timing,
    vector_rules,
)

from evaluation.records.job_record import JobError, JobRecord

VERSIONS = {
    "mteb": "2.26.24",
    "scikit-learn": "1.9.1",
    "scipy": "1.17.1",
    "beir": "2.2.0",
    "pytrec-eval-terrier": "0.5.11",
}


def query_record(label: str, task: str, values: Sequence[float] | None, **changes: Any) -> JobRecord:
    """A retrieval job whose queries scored these nDCG@10; None: it failed."""
    side = {
        "prefix": changes.pop("prefix", "query: "),
        "token_lengths": {"edges": [0, 8], "counts": [0, 10]},
        "truncated": changes.pop("truncated", 0),
    }
    settings = changes.pop("settings", {})
    rules = vector_rules(normalize=changes.pop("normalize", True), **settings)
    audit = job_audit(vectors=rules, **{changes.pop("side", "query"): side_audit(**side)})
    model = model_provenance(
        settings,
        name=changes.pop("model", f"org/{label.replace(' ', '-')}"),
        revision="r1",
        weights_sha256="w",
    )
    origin = provenance(
        model,
        dataset=f"mteb/{task}",
        revision=changes.pop("dataset_revision", "d1"),
        versions={**VERSIONS, **changes.pop("versions", {})},
    )
    fields: dict[str, Any] = {
        "state": "done" if values is not None else "failed",
        "protocol": "e5",
        "type": "Retrieval",
        "via": "mteb",
        "splits": ("test",),
        "subsets": ("default",),
        "metric": "ndcg_at_10",
        "timing": timing(total_s=1800.0, encoding_s=10.0, tokens=20_000),
        "audit": audit,
        "provenance": origin,
        **changes,
    }
    if values is not None:
        score = sum(values) / len(values)
        entry = subset_scores(score, fields["subsets"][0], ndcg_at_10=score, map_at_10=score / 2)
        fields |= {"main_score": score, "scores": {fields["splits"][0]: (entry,)}}
    else:
        fields["error"] = JobError(kind="ModelError", message="the model broke")
    identity = hashlib.sha256(f"{label} {task} {sorted(changes.items())}".encode()).hexdigest()
    return JobRecord(label=label, task=task, fingerprint=identity, **fields)
