"""Runs one job through mteb's own task class: mteb loads, splits and scores; we encode and search."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.text.bitext_mining import AbsTaskBitextMining
from mteb.abstasks.text.summarization import AbsTaskSummarization
from mteb.results import TaskResult
from mteb.types import EncodeKwargs

from evaluation.adapters.bm25 import Bm25Ranker
from evaluation.adapters.data_checks import check_fitness
from evaluation.adapters.embedding import TaskEmbedder
from evaluation.adapters.example_tables import example_table
from evaluation.adapters.job_result import JobResult
from evaluation.adapters.model_meta import model_meta
from evaluation.adapters.mteb_adapter import MtebModel
from evaluation.adapters.mteb_tables import documents_of
from evaluation.adapters.own_encoder import OwnEncoderModel
from evaluation.adapters.ranking_tables import (
    per_query_table,
    qrels_table,
    run_table,
    shown_documents,
    texts_table,
    watching_p_mrr,
    with_p_mrr,
)
from evaluation.adapters.stored_vectors import within_candidates
from evaluation.encoding.encoder import TextEncoder
from evaluation.jobs import Job
from evaluation.records.job_record import SubsetScores, Timing
from evaluation.system.limited_reading import parse_json
from evaluation.tasks.columns import subset_parts
from evaluation.tasks.last_task import LastTask

WholeModel = Bm25Ranker | OwnEncoderModel
"""What an mteb task calls as it is: it embeds or ranks by itself."""
_ENCODE_KWARGS: Final = EncodeKwargs(batch_size=32, show_progress_bar=False)
"""What mteb.evaluate passes to a model's encode; ours has batches of its own."""


def run_mteb_job(
    job: Job, encoder: TextEncoder | WholeModel, *, store_texts: bool, data: LastTask | None = None
) -> JobResult:
    """Loads a job's task, evaluates the model on all its splits and subsets, and keeps what the scores come from.

    Args:
        encoder: What turns texts into vectors, or BM25 or a model with its own encode, made for this job.
        store_texts: Keeps the texts of judged queries and their best documents.
        data: Keeps the task's data for the next job.

    Raises:
        EvaluationError: Data, vectors or an audit that must not become a score.
    """
    started = time.perf_counter()
    task, counts, content = (data or LastTask()).load(job.task, job.limit, job.seed)
    loaded = time.perf_counter()
    if isinstance(task, AbsTaskRetrieval) and job.rules.ignore_identical_ids is not None:
        task.ignore_identical_ids = job.rules.ignore_identical_ids
    noticed = Counter(counts) + check_fitness(task, job)
    embedder, model = _model(job, encoder)
    encoding_before, tokens_before = encoder.encoding_time_s, encoder.tokens_encoded
    evaluation = _Evaluation(task, model, store_texts=store_texts)
    for split in job.task.splits:
        for subsets in (
            [task.hf_subsets] if isinstance(task, AbsTaskBitextMining) else [[name] for name in task.hf_subsets]
        ):
            evaluation.run(split, list(subsets))
    ended = time.perf_counter()
    result = TaskResult.from_task_results(task, evaluation.scores, evaluation_time=ended - started)
    return JobResult(
        scores={split: tuple(map(SubsetScores.from_mteb, entries)) for split, entries in result.scores.items()},
        audit=embedder.audit.finish(),
        warnings=embedder.warnings,
        counts=dict(noticed + evaluation.counts + embedder.counts),
        timing=Timing(
            total_s=ended - started,
            loading_s=loaded - started,
            encoding_s=encoder.encoding_time_s - encoding_before,
            scoring_s=ended - loaded - (encoder.encoding_time_s - encoding_before),
            tokens=encoder.tokens_encoded - tokens_before,
        ),
        tables={
            name: pa.concat_tables(parts, promote_options="permissive") for name, parts in evaluation.tables.items()
        },
        mteb_files={} if job.limit else _mteb_files(result, model, job),
        dataset_content=content,
        words=encoder.settings if isinstance(encoder, Bm25Ranker) else None,
        vectors=embedder.stored,
    )


def _model(job: Job, encoder: TextEncoder | WholeModel) -> tuple[TaskEmbedder | WholeModel, MtebModel | WholeModel]:
    """Returns what collects the job's evidence, and what mteb's task calls."""
    if isinstance(encoder, WholeModel):
        return encoder, encoder
    embedder = TaskEmbedder(encoder, job.rules, job.model.form)
    meta = model_meta(encoder.checkpoint, job.model, job.rules.protocol)
    return embedder, MtebModel(embedder, meta, job.task.type)


class _Evaluation:
    """One pass over a task's splits and subsets, collecting scores and tables."""

    def __init__(self, task: AbsTask, model: MtebModel | WholeModel, *, store_texts: bool) -> None:
        self._task, self._model, self._store_texts = task, model, store_texts
        self.scores: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        self.tables: dict[str, list[pa.Table]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    def run(self, split: str, subsets: Sequence[str]) -> None:
        """Evaluates some subsets of a split, in mteb's order, because its samplers keep state."""
        task = self._task
        if isinstance(task, AbsTaskRetrieval):
            self._run_retrieval(task, split, subsets)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.scores[split].update(self._evaluate(split, subsets, Path(folder)))
            predictions = _read_predictions(Path(folder) / task.prediction_file_name)
        for subset in subsets:
            found = self._predictions_of(predictions, split, subset)
            if isinstance(task, AbsTaskSummarization):
                n_left_out = len(subset_parts(task, subset)[split]) - len(found["human_scores"])
                self.counts["texts whose summaries are all alike, which mteb leaves out"] += n_left_out
            self.tables["samples"].append(example_table(task, split, subset, found, self.scores[split][subset]))

    def _evaluate(
        self, split: str, subsets: Sequence[str], folder: Path | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        def evaluate() -> Mapping[str, Mapping[str, Any]]:
            return self._task.evaluate(
                self._model, split, list(subsets), encode_kwargs=_ENCODE_KWARGS, prediction_folder=folder
            )

        if self._model.stored is not None:
            self._model.stored.start()
            if self._model.stored.evaluates_twice:
                evaluate()
                self._model.stored.replay()
        return evaluate()

    def _predictions_of(self, predictions: Mapping[str, Any], split: str, subset: str) -> Any:
        """Returns a subset's predictions; mteb files parallel bitext subsets under one name, keyed by language pair."""
        if subset in predictions:
            return predictions[subset].get(split)
        parallel = predictions.get("parallel", {}).get(split)
        return parallel.get(subset) if parallel else None

    def _run_retrieval(self, task: AbsTaskRetrieval, split: str, subsets: Sequence[str]) -> None:
        per_query: dict[str, Mapping[str, Mapping[str, float]]] = {}
        original = task.task_specific_scores

        def keep(scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str) -> dict[str, float]:
            with watching_p_mrr() as of_pairs:
                found = original(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset)
            per_query[hf_subset] = with_p_mrr(scores, of_pairs)
            return found

        task.task_specific_scores = keep  # type: ignore[method-assign]
        try:
            self.scores[split].update(self._evaluate(split, subsets))
        finally:
            task.task_specific_scores = original  # type: ignore[method-assign]
        for subset in subsets:
            self.scores[split][subset] = within_candidates(self.scores[split][subset], self._model.form)
            self.tables["samples"].append(per_query_table(split, subset, per_query[subset]))
            self.tables["run"].append(run_table(split, subset, self._model.runs[split, subset]))
            qrels = task.dataset[subset][split]["relevant_docs"]
            judged = [query for query in self._model.query_texts[split, subset] if query in qrels]
            self.tables["qrels"].append(qrels_table(split, subset, qrels, judged))
            if self._store_texts:
                self.tables["texts"].append(self._texts(task, split, subset))

    def _texts(self, task: AbsTaskRetrieval, split: str, subset: str) -> pa.Table:
        run, queries = self._model.runs[split, subset], self._model.query_texts[split, subset]
        qrels = task.dataset[subset][split]["relevant_docs"]
        judged = {query: text for query, text in queries.items() if query in qrels}
        shown = shown_documents(run, qrels, judged)
        documents = documents_of(self._model.corpora[split, subset], shown, join_title=True)
        return texts_table(split, subset, judged, dict(zip(documents.ids, documents.texts, strict=True)))


def _read_predictions(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = parse_json(file.read_bytes()) if file.is_file() else {}
    return content


def _mteb_files(result: TaskResult, model: MtebModel | WholeModel, job: Job) -> dict[str, Mapping[str, Any]]:
    """Returns the job in mteb's own file layout, so that ResultCache reads it."""
    meta = model.mteb_model_meta
    folder = f"{meta.model_name_as_path()}/{meta.revision}"
    if meta.experiment_name:
        folder += f"/experiments/{meta.experiment_name}"
    content = result.to_dict() | {"dataset_revision": job.task.dataset_revision}
    return {f"{folder}/{job.task.name}.json": content, f"{folder}/model_meta.json": meta.to_dict()}
