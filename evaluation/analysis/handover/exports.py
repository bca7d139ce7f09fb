"""Writes stored records as files for other tools: TREC run files, and the model-index of a model card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.errors import UsageError
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import write_text

_SPACE = re.compile(r"\s")
_PROGRAM = "https://github.com/embeddings-benchmark/mteb"


def write_trec(run: Path, output: Path) -> list[Path]:
    """Writes a TREC run file per retrieval or reranking job, split and subset: query Q0 document rank score tag.

    Args:
        run: The run's folder.
        output: Folder for <label>/<task>.<split>[.<subset>].run; spaces in the tag become underscores.

    Raises:
        UsageError: No job has a ranking, the run is limited, or an id holds a space, which the format can't express.
    """
    import pyarrow.parquet as pq

    store, written = RunStore(run), []
    for record in store.current_records():
        _refuse_limited(record, run)
        file = store.job_folder(record.label, record.task, record.fingerprint) / "run.parquet"
        if record.state != "done" or not file.is_file():
            continue
        table = pq.read_table(file)
        tag = _SPACE.sub("_", record.label)
        for split in record.splits:
            for subset in dict.fromkeys(table["subset"].to_pylist()):
                name = f"{record.task}.{split}" + ("" if subset == "default" else f".{subset}")
                rows = [row for row in table.to_pylist() if (row["split"], row["subset"]) == (split, subset)]
                for row in rows:
                    if _SPACE.search(row["query_id"]) or _SPACE.search(row["corpus_id"]):
                        wrong = f"{row['query_id']!r}, {row['corpus_id']!r}"
                        raise UsageError(f"{record.task}: TREC run files can't hold ids with spaces ({wrong}).")
                lines = [
                    f"{row['query_id']} Q0 {row['corpus_id']} {row['rank']} {row['score']:.9g} {tag}" for row in rows
                ]
                target = output / record.label / f"{name.replace('/', '__')}.run"
                write_text(target, "\n".join(lines) + "\n")
                written.append(target)
    if not written:
        raise UsageError(f"{run} holds no ranking: none of its jobs is retrieval or reranking.")
    return written


def _file_name(name: str) -> str:
    """The name if it can't lead out of a folder.

    Raises:
        UsageError: It can, as only names in a run that was tampered with do.
    """
    if name.startswith(".") or set(name) & set("/\\\0"):
        raise UsageError(f"{name!r} can't be the name of a file, so nothing is written for it: the run is damaged.")
    return name


def _refuse_limited(record: JobRecord, run: Path) -> None:
    if record.limit is not None:
        raise UsageError(f"{run} is a limited run; its results are not exported.")


def write_model_cards(run: Path, output: Path) -> list[Path]:
    """Writes a model-index block per label, the header of a model card: scores in points, each with its protocol.

    Args:
        run: The run's folder.
        output: Folder for <label>.md.

    Raises:
        UsageError: No job has a score, the run is limited, or a label would lead out of `output`.
    """
    by_label: dict[str, list[JobRecord]] = {}
    for record in RunStore(run).current_records():
        _refuse_limited(record, run)
        if record.state == "done":
            by_label.setdefault(record.label, []).append(record)
    if not by_label:
        raise UsageError(f"{run} holds no score.")
    written = []
    for label, records in by_label.items():
        target = output / _file_name(f"{label}.md")
        write_text(target, model_card(records))
        written.append(target)
    return written


def model_card(records: Sequence[JobRecord]) -> str:
    """Returns the header of a model card for the records of one label."""
    from huggingface_hub import EvalResult, ModelCardData

    models = {record.provenance.model.name: record.provenance.model for record in records if record.provenance.model}
    assert len(models) == 1, list(models)
    model = next(iter(models.values()))
    results = [
        EvalResult(
            task_type=record.type,
            dataset_type=record.provenance.dataset.name,
            dataset_name=f"MTEB {record.task}" if record.via == "mteb" else f"{record.task} ({record.via})",
            dataset_config=entry.subset,
            dataset_split=split,
            dataset_revision=record.provenance.dataset.revision,
            metric_type=record.metric,
            metric_name=f"{record.metric} (protocol {record.protocol})",
            metric_args={"protocol": record.protocol, "model_revision": model.revision},
            metric_value=round(100 * entry.main_score, 4),
            source_name="e5-evaluation",
            source_url=_PROGRAM,
        )
        for record in records
        if record.provenance.dataset is not None
        for split, entries in record.scores.items()
        for entry in entries
        if entry.main_score is not None
    ]
    card = ModelCardData(model_name=model.name, eval_results=results)
    return f"---\n{card.to_yaml()}\n---\n"
