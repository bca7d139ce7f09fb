"""Settles the protocol of each model before its first job, and says which one it is and why."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from evaluation.config.run_config import UNDECIDED, RunConfig
from evaluation.errors import EvaluationError
from evaluation.execution.reporting import Reporter
from evaluation.jobs import Job
from evaluation.models.default_protocol import protocol_of
from evaluation.models.finding import find_checkpoint

_LOG = logging.getLogger(__name__)


def fetch_undecided(config: RunConfig, labels: Sequence[str]) -> bool:
    """Fetches the models whose own files decide their protocol; returns whether there were any.

    One that can't be fetched keeps its jobs, which fail with the reason.

    Args:
        labels: The models that will run; empty: all.
    """
    undecided = [
        model
        for model in config.models
        if (not labels or model.label in labels) and protocol_of(config, model).name == UNDECIDED
    ]
    for model in undecided:
        with contextlib.suppress(EvaluationError):  # running its jobs says it
            find_checkpoint(config, model)
    return bool(undecided)


def announce_protocols(config: RunConfig, jobs: Sequence[Job], reporter: Reporter) -> None:
    """Says each model's protocol in one line, and logs a warning for whatever the user should check."""
    running = {job.model.base_label for job in jobs}
    for model in config.models:
        if model.form is None and model.label in running:
            protocol = protocol_of(config, model)
            reporter.notice(protocol.sentence(model.label))
            for warning in protocol.warnings:
                _LOG.warning("%s: %s", model.label, warning)
