"""The heavy half of fetch-data: what there is to fetch, with sizes; the fetching; the lock."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.analysis.number_formats import counted
from evaluation.commands.console import writing_to
from evaluation.commands.run_benchmark.run import log_to, quieten_libraries
from evaluation.config.run_config import RunConfig
from evaluation.errors import ConfigError, EvaluationError
from evaluation.hub.cache import HubError, hub_cache, is_offline
from evaluation.hub.lock import LOCK_VERSION, lock_file
from evaluation.jobs import Job
from evaluation.system.atomic_files import write_json

if TYPE_CHECKING:
    from evaluation.execution.downloads import Fetched, Found


def fetch_and_lock(config: RunConfig, jobs: Sequence[Job], file: Path, *, is_whole: bool, sizes_only: bool) -> None:
    """Fetch all that jobs read and write the lock.

    Args:
        file: The config's file, beside which the lock lies.
        is_whole: Whether these are all jobs of the config; a part is not locked.
        sizes_only: Fetch nothing.

    Raises:
        HubError: Some repositories could not be had; the others are fetched.
    """
    if is_offline():
        raise ConfigError(["HF_HUB_OFFLINE is set, so nothing can be fetched; unset it for fetch-data."])
    log_to(config.run_folder / "fetch.log")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from evaluation.execution.downloads import (
        Found,
        code_needs,
        find,
        folder_entries,
        needs_of,
        side_by_side,
    )

    console = Console()
    needs = needs_of(config, jobs)
    if needs:
        quieten_libraries()
    results = side_by_side(find, needs)
    models = [item for item in results if isinstance(item, Found) and item.need.kind == "model"]
    commits = {(item.need.name, item.need.revision): item.repository.commit for item in models}
    results += side_by_side(find, code_needs(config, jobs, commits))
    found: list[Found] = [result for result in results if isinstance(result, Found)]
    faults = [str(result) for result in results if isinstance(result, EvaluationError)]
    if found:
        _print_sizes(console, found)
    elif not faults:
        console.print("Nothing of this config is on the Hub.", highlight=False)
    if sizes_only:
        _refuse(faults)
        return
    fetched = _fetch_shown(console, found)
    _refuse([*faults, *fetched.faults])
    if not is_whole:
        console.print("Only a part of the config was asked for, so no lock was written.", highlight=False)
        return
    entries = sorted(
        [*fetched.entries, *folder_entries(config, jobs)], key=lambda entry: (entry["kind"], entry["repository"])
    )
    with writing_to("the lock"):
        write_json(lock_file(file), {"lock_version": LOCK_VERSION, "config": config.name, "repositories": entries})
    where = f"All in {hub_cache()}. " if found else ""
    console.print(f"{where}Locked: {lock_file(file)}", highlight=False, soft_wrap=True)


def _fetch_shown(console: Console, found: Sequence[Found]) -> Fetched:
    from evaluation.execution.downloads import fetch_all

    with _progress(console) as progress:
        bar = progress.add_task("fetching", total=sum(item.missing_bytes for item in found))

        def on_done(item: Found) -> None:
            progress.update(bar, advance=item.missing_bytes)
            console.print(f"{item.need.name}: {counted(len(item.files), 'file')}", highlight=False, soft_wrap=True)

        return fetch_all(found, on_done)


def fetch_published(folder: Path) -> None:
    """Clone mteb's results repository, or bring a clone up to date.

    Args:
        folder: For `compare-results RUN --published FOLDER`.

    Raises:
        HubError: It could not be fetched.
    """
    if is_offline():
        raise ConfigError(["HF_HUB_OFFLINE is set, so nothing can be fetched; unset it for fetch-data."])
    from evaluation.adapters.mteb_results import fetch_results

    fetch_results(folder)
    Console().print(f"Published scores in {folder}.", highlight=False, soft_wrap=True)


def _refuse(faults: list[str]) -> None:
    """Raises all faults; those of a network that is not there are one sentence, with the names of what they concern."""
    by_reason: dict[str, list[str]] = {}
    for fault in faults:
        name, separator, reason = fault.partition(": ")
        by_reason.setdefault(reason if separator else "", []).append(name)
    told = [
        "\n".join(names) if not reason else f"{', '.join(dict.fromkeys(names))}: {reason}"
        for reason, names in by_reason.items()
    ]
    if told:
        raise HubError("\n".join(told))


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print_sizes(console: Console, found: Sequence[Found]) -> None:
    table = Table(show_edge=False, pad_edge=False, header_style="bold" if console.is_terminal else "")
    for position, name in enumerate(("Repository", "Kind", "Revision", "Licence", "Files", "Size", "To fetch")):
        table.add_column(name, justify="right" if position > 3 else "left", no_wrap=True)
    for item in found:
        repository = item.repository
        cells = repository.name, repository.kind, repository.commit[:12], repository.licence or "not stated"
        table.add_row(*cells, str(len(item.files)), _mib(item.total_bytes), _mib(item.missing_bytes))
    total, missing = sum(item.total_bytes for item in found), sum(item.missing_bytes for item in found)
    table.add_section()
    table.add_row(f"{len(found)} repositories", "", "", "", "", _mib(total), _mib(missing))
    console.width = max(console.width, 140) if not console.is_terminal else console.width
    console.print(table)


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
