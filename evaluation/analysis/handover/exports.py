"""Writes stored results for other tools: TREC run files, and the model-index of a model card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.config.stored_forms import PLAIN
from evaluation.errors import UsageError
from evaluation.records.job_record import JobRecord
from evaluation.records.parquet_tables import stored_file
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import write_text

_SPACE = re.compile(r"\s")
_PROGRAM = "https://github.com/embeddings-benchmark/mteb"


def write_trec(run: Path, output: Path) -> list[Path]:
    """Writes a TREC run file per retrieval or reranking job, split and subset: query Q0 document rank score tag.

    Args:
        output: Folder of the files <label>/<task>.<split>[.<subset>].run; spaces in the tag become underscores.

    Returns:
        The files.

    Raises:
        UsageError: No job has a ranking, the run is limited, or an id holds a space, which the format can't express;
            then nothing is written.
        DamagedFileError: A stored file is missing or is not what was written.

    Example:
        >>> write_trec(Path("results/quickstart"), Path("trec"))
    """
    store, texts, faults = RunStore(run), dict[Path, str](), list[str]()
    for record in store.current_records():
        _refuse_limited(record, run)
        folder = store.job_folder(record.label, record.task, record.fingerprint)
        file = stored_file(folder, record, "run.parquet")
        if record.state == "done" and file is not None:
            try:
                texts |= _rankings(record, file, output)
            except UsageError as error:
                faults.append(str(error))
    if faults:
        raise UsageError("\n".join(dict.fromkeys(faults)))
    if not texts:
        raise UsageError(f"{run} holds no ranking: none of its jobs is retrieval or reranking.")
    for target, text in texts.items():
        write_text(target, text)
    return list(texts)


def _rankings(record: JobRecord, file: Path, output: Path) -> dict[Path, str]:
    """Returns the text of each file of a job."""
    import pyarrow.parquet as pq

    texts, tag = dict[Path, str](), _SPACE.sub("_", record.label)
    rankings: dict[tuple[str, str], list[str]] = {}
    for row in pq.read_table(file).to_pylist():
        query, document = row["query_id"], row["corpus_id"]
        if _SPACE.search(query) or _SPACE.search(document):
            raise UsageError(f"{record.task}: TREC run files can't hold ids with spaces ({query!r}, {document!r}).")
        line = f"{query} Q0 {document} {row['rank']} {row['score']:.9g} {tag}\n"
        rankings.setdefault((row["split"], row["subset"]), []).append(line)
    for (split, subset), lines in rankings.items():
        name = f"{record.task}.{split}" + ("" if subset == "default" else f".{subset}")
        texts[output / _file_name(record.label) / _file_name(f"{name.replace('/', '__')}.run")] = "".join(lines)
    return texts


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
        raise UsageError(f"{run} is a limited run, whose results are not exported.")


def write_model_cards(run: Path, output: Path) -> tuple[list[Path], list[str]]:
    """Writes the header of a model card per label: a model-index in points, every score with its protocol.

    Scores of vectors in a smaller stored form are not the model's own and are left out.

    Args:
        output: Folder of the files <label>.md.

    Returns:
        The files, and a sentence on the rows that were left out, if any.

    Raises:
        UsageError: No job has a score, the run is limited, or a label would lead out of `output`.
        DamagedFileError: A stored file is missing or is not what was written.
    """
    by_label: dict[str, list[JobRecord]] = {}
    left_out: dict[str, None] = {}
    for record in RunStore(run).current_records():
        _refuse_limited(record, run)
        if record.state == "done" and record.stored == PLAIN:
            by_label.setdefault(record.label, []).append(record)
        elif record.state == "done":
            left_out[record.label] = None
    if not by_label:
        raise UsageError(f"{run} holds no score.")
    written = []
    for label, records in by_label.items():
        if label.startswith(".") or set(label) & set("/\\\0"):
            raise UsageError(f"{run}: {label!r} can't be the name of a file: a record is not what run-benchmark wrote.")
        target = output / f"{label}.md"
        write_text(target, model_card(records))
        written.append(target)
    forms = f"Left out, because a model card states the scores of a model's own vectors: {', '.join(left_out)}."
    return written, [forms] if left_out else []


def model_card(records: Sequence[JobRecord]) -> str:
    """The header of the model card for the records of one label."""
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
