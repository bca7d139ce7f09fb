"""Runs the jobs of a config: skips stored jobs, isolates failures, and keeps run.json true after every job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from evaluation.config.run_config import RunConfig
from evaluation.errors import MissingExtraError, UsageError
from evaluation.execution.centring import running_order
from evaluation.execution.live_manifest import LiveManifest
from evaluation.execution.outdated import warn_of_outdated
from evaluation.execution.protocol_choice import announce_protocols, fetch_undecided
from evaluation.execution.ray.address import prepare
from evaluation.execution.reporting import Reporter, RunOutcome
from evaluation.execution.run_lock import hold
from evaluation.execution.same_name import refuse_other_config
from evaluation.execution.stopping import StopSignals
from evaluation.execution.stored_run import find_stored_run
from evaluation.hub.cache import is_offline
from evaluation.jobs import Job, build_jobs
from evaluation.planning.parts import Part, jobs_of_part
from evaluation.records.job_record import JobRecord
from evaluation.records.mteb_files import export_mteb_files
from evaluation.records.run_manifest import RunManifest
from evaluation.records.store import RunStore, remove_leftovers

if TYPE_CHECKING:
    from evaluation.execution.job_running import JobOutcome
    from evaluation.models.own_encoder import OwnEncoder


class Executor(Protocol):
    """Where jobs run."""

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint."""

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields each job with its outcome, as they end.

        Args:
            costs: (label, task) -> expected tokens, for jobs where that is known.
        """

    def facts(self) -> dict[str, Any]:
        """Returns what run.json says of the executor."""

    def close(self) -> None:
        """Releases models and workers."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Which jobs of a config to run, and how.

    Attributes:
        only: Globs of task names; empty: all tasks.
        models: Labels of models; empty: all models.
        fresh: Run stored jobs again.
        wait: Wait for another process that uses the run's folder.
        chosen: (label, task) of the jobs to run; None: all jobs.
        part: Run this part of the jobs; other processes may run the other parts at the same time.
    """

    only: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    fresh: bool = False
    wait: bool = False
    chosen: frozenset[tuple[str, str]] | None = None
    part: Part | None = None

    @property
    def is_partial(self) -> bool:
        """Whether some of the config's jobs may be left out."""
        return bool(self.only or self.models) or self.chosen is not None or self.part is not None


def run(
    config: RunConfig,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    *,
    models: Mapping[str, object] | None = None,
) -> RunOutcome:
    """Runs all jobs of a config that are not stored yet.

    Ctrl-C and SIGTERM stop the current job at once; a write is finished first, and stored results stay.

    Args:
        config: The config, from `load_config`.
        options: Which part of the config to run.
        reporter: Where progress is shown; by default nowhere.
        models: Label -> a model in memory: a SentenceTransformer, a pair of a transformers model and its tokenizer, or
            an object with mteb's `encode`, in a `NamedModel` where its state can't be identified. A label of the config
            keeps that row's options; others become new rows. `RunOptions(models=["mine"])` runs a row alone.

    Raises:
        UsageError: A model in memory is of another kind or can't be identified, or a label is not valid.
        ConfigError: The config has faults; nothing was run.
        FolderInUseError: Another process is writing to the run's folder.
        StoreError: The run's folder can't be written.
        KeyboardInterrupt: The run was stopped; run.json says how far it came.

    >>> outcome = run(load_config("configs/quickstart.yaml"))  # doctest: +SKIP
    >>> outcome.n_executed, len(outcome.failed)  # doctest: +SKIP
    (16, 0)
    """
    options, reporter = options or RunOptions(), reporter or Reporter()
    if not models:
        return _run(config, options, reporter, {})
    if config.runtime.executor != "local":
        raise UsageError("models in memory run in this process; set runtime.executor: local.")
    from evaluation.execution.models_in_memory import in_memory

    with in_memory(config, models) as given:
        return _run(given.config, options, reporter, given.own)


def _run(config: RunConfig, options: RunOptions, reporter: Reporter, own: Mapping[str, OwnEncoder]) -> RunOutcome:
    if options.part is not None and config.runtime.executor != "local":
        raise UsageError(
            f"--part can't be combined with runtime.executor: {config.runtime.executor}, which divides the jobs among "
            "its own workers; set runtime.executor: local, or leave --part out."
        )
    with StopSignals() as signals:
        with signals.allowed():
            jobs = build_jobs(config, only=options.only, models=options.models)  # says faults before any download
            if fetch_undecided(config, options.models):
                jobs = build_jobs(config, only=options.only, models=options.models)
            if options.part is not None:
                jobs = jobs_of_part(config, jobs, options.part)
            jobs = [job for job in jobs if options.chosen is None or job.key in options.chosen]
            known = None if options.fresh else find_stored_run(config, jobs)
            if known is None:
                _check(config, jobs, reporter)
        with ExitStack() as held:
            with signals.allowed():
                held.enter_context(hold(config.run_folder, part=options.part, wait=options.wait))
            store = RunStore(config.run_folder)
            if options.part is None:
                remove_leftovers(config.run_folder)
            before = store.read_run_or_set_aside()
            refuse_other_config(config, before)
            with signals.allowed():
                executor: Executor = known or held.enter_context(closing(_make_executor(config, reporter, own)))
                live = _live_manifest(config, options, jobs, before, executor)
            stored = {} if options.fresh else live.stored_records()
            if known is not None and len(stored) < len(jobs):  # a record is damaged or gone
                with signals.allowed():
                    _check(config, jobs, reporter)
                    executor = held.enter_context(closing(_make_executor(config, reporter, own)))
                    live = _live_manifest(config, options, jobs, before, executor)
                stored = live.stored_records()
            if before is not None and not options.fresh:
                warn_of_outdated(store, before.jobs, {job.key for job in jobs} - stored.keys())
            announce_protocols(config, jobs, reporter)
            return _run_jobs(jobs, stored, executor, live, reporter, signals)


def _make_executor(config: RunConfig, reporter: Reporter, own: Mapping[str, OwnEncoder]) -> Executor:
    """Returns the executor of the config."""
    if config.runtime.executor == "local":
        from evaluation.execution.local_executor import LocalExecutor

        return LocalExecutor(config, reporter.advanced, on_start=reporter.job_started, own=own)
    if find_spec("ray") is None:
        raise MissingExtraError(
            "runtime.executor: ray needs the package ray; install it with: pip install 'e5-evaluation[ray]'"
        )
    prepare(config.runtime.ray.address)
    from evaluation.execution.ray.executor import RayExecutor

    return RayExecutor(config, reporter)


def _live_manifest(
    config: RunConfig, options: RunOptions, jobs: Sequence[Job], before: RunManifest | None, executor: Executor
) -> LiveManifest:
    """Returns what keeps run.json, the jobs identified by the executor."""
    identified = [(job, executor.fingerprint(job)) for job in jobs]
    live = LiveManifest(config, RunStore(config.run_folder), identified, before, is_shared=options.part is not None)
    if options.is_partial:
        live.keep_others(build_jobs(config), executor.fingerprint)
    return live


def _run_jobs(
    jobs: Sequence[Job],
    stored: dict[tuple[str, str], JobRecord],
    executor: Executor,
    live: LiveManifest,
    reporter: Reporter,
    signals: StopSignals,
) -> RunOutcome:
    """Runs the jobs that are not stored, and stores each as it ends."""
    store, waiting = live.store, running_order([job for job in jobs if job.key not in stored])
    export_mteb_files(store, stored.values(), ran_now=False)
    tokens = live.plan(waiting)
    live.write()
    reporter.run_started(jobs, len(stored), tokens)
    outcome = RunOutcome(store.folder, is_part=live.is_shared)
    outcomes = executor.run(waiting, tokens)
    while True:
        with signals.allowed():
            ended = next(outcomes, None)
        if ended is None:
            break
        job, done = ended
        if signals.came and done.record.state == "failed":  # a library turned the interruption into its own error
            raise KeyboardInterrupt
        record = stored[job.key] = store.save(done.record, done.tables, done.mteb_files)
        export_mteb_files(store, [record], ran_now=True)
        live.note(job, record)
        outcome.n_executed += 1
        reporter.job_ended(job, record)
    outcome.records = [stored[job.key] for job in jobs]
    with live.turn():
        live.finish(executor.facts(), ran=bool(waiting))
        outcome.jobs_changed = live.jobs_changed
        reporter.run_ended(outcome)
    return outcome


def _check(config: RunConfig, jobs: Sequence[Job], reporter: Reporter) -> None:
    """Checks before the first job what takes libraries to check."""
    reporter.loading()
    _check_options(jobs)
    _check_data(config, jobs)


def _check_data(config: RunConfig, jobs: Sequence[Job]) -> None:
    """Without a network, reports all datasets that are not in the Hub's cache before the first job."""
    if is_offline() and any(job.task.data is None for job in jobs):
        from evaluation.execution.downloads import check_offline

        check_offline(config, jobs)


def _check_options(jobs: Sequence[Job]) -> None:
    """Checks options of tasks against the attributes of mteb's task classes before the first job."""
    tasks = {job.task.name: job for job in jobs if job.task.options}
    if tasks:
        from evaluation.tasks.loading import make_task

        for job in tasks.values():
            make_task(job.task, seed=job.seed)
