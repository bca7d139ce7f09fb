"""The rival of end_to_end.py as a process of its own: mteb with its sentence-transformers wrapper at its defaults.

    python benchmarks/rival_mteb.py CONFIG OUTPUT.json

Runs the tasks of the config on its first model as mteb would, with the E5 prompts of its registry; writes main scores.
Our loader puts local folders into mteb's task objects, because mteb itself has none; that takes under a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mteb
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

from evaluation.config.loading import load_config
from evaluation.jobs import build_jobs
from evaluation.models.checkpoint import locate
from evaluation.tasks.loading import load_task, make_task


def main() -> None:
    config = load_config(sys.argv[1])
    jobs = [job for job in build_jobs(config) if job.model == config.models[0]]
    checkpoint = locate(config.models[0].model, None, config.base_dir)
    model = SentenceTransformerEncoderWrapper(
        str(checkpoint.folder), model_prompts={"query": "query: ", "document": "passage: "}
    )
    scores = {}
    for job in jobs:
        task = make_task(job.task, seed=job.seed)
        load_task(task, job.task, job.limit)
        result = mteb.evaluate(model, task, cache=None, co2_tracker=False)
        scores[job.task.name] = result.task_results[0].get_score()
    Path(sys.argv[2]).write_text(json.dumps(scores), encoding="utf-8")


if __name__ == "__main__":
    main()
