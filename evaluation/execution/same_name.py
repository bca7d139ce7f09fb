"""Refuses a config that would hide the results of another config with the same name in the same folder."""

from __future__ import annotations

from pathlib import Path

from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.jobs import build_jobs
from evaluation.records.run_manifest import RunManifest


def refuse_other_config(config: RunConfig, before: RunManifest | None) -> None:
    """Checks that a run folder's last start was by this config, or by one whose scores this config lists as well.

    Args:
        before: run.json after the last start, if there was one.

    Raises:
        UsageError: It was by another file, which still exists, and some of its scores would no longer be shown.
    """
    if before is None or before.config_file is None or config.source is None:
        return
    other = Path(before.config_file)
    if not other.is_file() or not config.source.is_file() or other.samefile(config.source):
        return
    listed = {job.key for job in build_jobs(config)}
    hidden = [job for job in before.jobs if job.state == "done" and job.key not in listed]
    if hidden:
        label, task = hidden[0].key
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        raise UsageError(
            f"{config.run_folder} holds the run of {other}, which has the same name: {config.name!r}. {config.source} "
            f"would hide its scores ({label} on {task}{more}); change its name, or give another --output."
        )
