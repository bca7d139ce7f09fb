"""Runs a config from Python: the public `run`, which shows progress in notebooks and terminals."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from evaluation.commands.run_benchmark.progress import ConsoleReporter
from evaluation.config.run_config import RunConfig
from evaluation.execution.reporting import Reporter, RunOutcome
from evaluation.execution.runner import RunOptions
from evaluation.execution.runner import run as run_jobs


def run(
    config: RunConfig,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    *,
    models: Mapping[str, object] | None = None,
) -> RunOutcome:
    """Runs all jobs of a config that are not stored yet; see `evaluation.execution.runner.run`.

    Args:
        config: The config, from `load_config`.
        options: Which part of the config to run.
        reporter: Where progress is shown; by default in a notebook or a terminal, and nowhere else.
        models: Label -> a model in memory, as a row of its own or for the config's row of this label.

    >>> outcome = run(load_config("configs/quickstart.yaml"))  # doctest: +SKIP
    >>> outcome.n_executed, len(outcome.failed)  # doctest: +SKIP
    (16, 0)
    """
    console = Console(stderr=True)
    if reporter is not None or not (console.is_terminal or console.is_jupyter):
        return run_jobs(config, options, reporter, models=models)
    with ConsoleReporter(console) as shown:
        return run_jobs(config, options, shown, models=models)
