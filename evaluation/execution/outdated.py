"""Says which stored jobs run again because an earlier release left parts of their identity out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from evaluation.errors import StoreError
from evaluation.records.origin import missing_identity
from evaluation.records.run_manifest import ListedJob
from evaluation.records.store import RunStore

_LOG = logging.getLogger(__name__)


def warn_of_outdated(store: RunStore, listed: Sequence[ListedJob], waiting: Collection[tuple[str, str]]) -> None:
    """Warn once if scores that an earlier start stored are made again for want of a complete identity.

    Args:
        listed: The jobs of the earlier start's run.json.
        waiting: (label, task) of the jobs that will run now.
    """
    lacking = [
        what
        for job in listed
        if (job.label, job.task) in waiting and job.state == "done"
        if (what := _missing(store, job)) is not None
    ]
    if lacking:
        _LOG.warning(
            "%d stored jobs run again, because each was stored by an earlier release and %s; the old records are kept.",
            len(lacking),
            lacking[0],
        )


def _missing(store: RunStore, job: ListedJob) -> str | None:
    try:
        record = store.load(job.label, job.task, job.fingerprint, complete=False)
    except StoreError:
        return None
    return missing_identity(record.provenance.identity_version) if record is not None else None
