"""Runs the jobs of a config: skips stored jobs, isolates failures, and keeps run.json true after every job."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from evaluation.config.models import RunConfig
from evaluation.errors import MissingExtraError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.local_executor import LocalExecutor
from evaluation.execution.outdated import warn_of_outdated
from evaluation.execution.protocol_choice import announce_protocols, fetch_undecided
from evaluation.execution.provenance import hardware, source_state, versions
from evaluation.execution.ray.address import prepare
from evaluation.execution.reporting import Reporter, RunOutcome
from evaluation.execution.run_lock import hold
from evaluation.execution.stopping import StopSignals
from evaluation.execution.stored_run import find_stored_run
from evaluation.hub.cache import is_offline
from evaluation.jobs import Job, build_jobs
from evaluation.planning.planned_costs import PlannedCosts
from evaluation.records.job_record import JobRecord
from evaluation.records.mteb_files import export_mteb_files
from evaluation.records.run_manifest import JobState, ListedJob, PlanAndTruth, RunManifest
from evaluation.records.store import RunStore


class Executor(Protocol):
    """Where jobs run."""

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint."""

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields each job with its outcome, as they end.

        Args:
            jobs: The jobs to run.
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
    """

    only: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    fresh: bool = False
    wait: bool = False
    chosen: frozenset[tuple[str, str]] | None = None

    @property
    def is_partial(self) -> bool:
        """Whether some of the config's jobs may be left out."""
        return bool(self.only or self.models) or self.chosen is not None


def run(config: RunConfig, options: RunOptions | None = None, reporter: Reporter | None = None) -> RunOutcome:
    """Runs all jobs of a config that are not stored yet.

    Ctrl-C and SIGTERM stop the current job at once; a write is finished first, and stored results stay.

    Args:
        config: The config, from `load_config`.
        options: Which part of the config to run.
        reporter: Where progress is shown; by default nowhere.

    Raises:
        ConfigError: The config has faults; nothing was run.
        FolderInUseError: Another process is writing to the run's folder.
        StoreError: The run's folder can't be written.
        KeyboardInterrupt: The run was stopped; run.json says how far it came.

    >>> outcome = run(load_config("configs/quickstart.yaml"))  # doctest: +SKIP
    >>> outcome.n_executed, len(outcome.failed)  # doctest: +SKIP
    (16, 0)
    """
    options, reporter = options or RunOptions(), reporter or Reporter()
    with StopSignals() as signals:
        with signals.allowed():
            fetch_undecided(config, options.models)
            jobs = build_jobs(config, only=options.only, models=options.models)
            jobs = [job for job in jobs if options.chosen is None or job.key in options.chosen]
            _check_options(jobs)
            _check_data(config, jobs)
        with ExitStack() as held:
            with signals.allowed():
                held.enter_context(hold(config.run_folder, wait=options.wait))
            store = RunStore(config.run_folder)
            store.remove_leftovers()
            before = store.read_run_or_set_aside()
            with signals.allowed():
                executor = _make_executor(config, jobs, None if options.fresh else before, reporter)
                held.enter_context(closing(executor))
                ledger = _Ledger(config, store, [(job, executor.fingerprint(job)) for job in jobs], before)
                if options.is_partial:
                    ledger.keep_others(build_jobs(config), executor.fingerprint)
            stored = {} if options.fresh else ledger.stored_records()
            if before is not None and not options.fresh:
                warn_of_outdated(store, before.jobs, {job.key for job in jobs} - stored.keys())
            announce_protocols(config, jobs, reporter)
            return _run_jobs(jobs, stored, executor, ledger, reporter, signals)


def _make_executor(config: RunConfig, jobs: Sequence[Job], before: RunManifest | None, reporter: Reporter) -> Executor:
    """Returns the executor of the config; for ray a stand-in if an earlier start, `before`, has stored all jobs."""
    if config.runtime.executor == "local":
        return LocalExecutor(config, reporter.advanced, on_start=reporter.job_started)
    if find_spec("ray") is None:
        raise MissingExtraError(
            "runtime.executor: ray needs the package ray; install it with: pip install 'e5-evaluation[ray]'"
        )
    stored = None if before is None else find_stored_run(config, jobs, before)
    if stored is not None:
        return stored
    prepare(config.runtime.ray.address)
    from evaluation.execution.ray.executor import RayExecutor

    return RayExecutor(config, reporter)


def _run_jobs(
    jobs: Sequence[Job],
    stored: dict[tuple[str, str], JobRecord],
    executor: Executor,
    ledger: _Ledger,
    reporter: Reporter,
    signals: StopSignals,
) -> RunOutcome:
    """Runs the jobs that are not stored, and stores each as it ends."""
    store, waiting = ledger.store, [job for job in jobs if job.key not in stored]
    export_mteb_files(store, stored.values(), ran_now=False)
    tokens = ledger.plan(waiting)
    ledger.write()
    reporter.run_started(jobs, len(stored), tokens)
    outcome = RunOutcome(store.folder)
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
        ledger.note(job, record)
        outcome.n_executed += 1
        reporter.job_ended(job, record)
    outcome.records = [stored[job.key] for job in jobs]
    ledger.finish(executor.facts() if waiting else None)
    reporter.run_ended(outcome)
    return outcome


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


class _Ledger:
    """Keeps run.json: the resolved config, versions, hardware, and the state and cost of every job.

    Args:
        config: The run's config.
        store: The run's folder.
        jobs: The jobs of this start with their fingerprints.
        before: run.json after the last start, if there was one.
    """

    def __init__(
        self,
        config: RunConfig,
        store: RunStore,
        jobs: Sequence[tuple[Job, str]],
        before: RunManifest | None,
    ) -> None:
        self.store, self._config, self._jobs = store, config, jobs
        self._listed_before = before.jobs if before is not None else ()
        self._others: list[ListedJob] = []
        self._order = [job.key for job, _ in jobs]
        self._planned: PlannedCosts | None = None
        self._states: dict[tuple[str, str], JobState] = dict.fromkeys(self._order, "waiting")
        self._costs: dict[tuple[str, str], PlanAndTruth | None] = {job.key: job.cost for job in self._listed_before}
        self._manifest = RunManifest(
            name=config.name,
            config=config.model_dump(mode="json"),
            config_file=config.source.as_posix() if config.source else None,
            versions=versions(),
            source=source_state(),
            hardware=hardware(),
            started=_now(),
            executor=before.executor if before is not None else None,
            jobs=(),
        )

    def stored_records(self) -> dict[tuple[str, str], JobRecord]:
        """Returns the records of jobs that are done; failed and damaged jobs run again."""
        found = {}
        for job, fingerprint in self._jobs:
            record = self.store.load_or_set_aside(*job.key, fingerprint)
            if record is not None and record.state == "done":
                found[job.key] = record
                self._states[job.key] = record.state
        return found

    def keep_others(self, all_jobs: Sequence[Job], identify: Callable[[Job], str]) -> None:
        """Keeps listing what earlier starts did of the config's jobs that this start leaves out.

        Jobs of a label that runs now are kept only under the same fingerprint: a label is one model under one protocol.
        """
        self._order = [job.key for job in all_jobs]
        chosen = {job.key for job, _ in self._jobs}
        labels = {label for label, _ in chosen}
        others = {job.key: job for job in all_jobs if job.key not in chosen}
        for listed in self._listed_before:
            other = others.get(listed.key)
            if other and (listed.label not in labels or listed.fingerprint == identify(other)):
                self._others.append(listed)

    def plan(self, waiting: Sequence[Job]) -> dict[tuple[str, str], int]:
        """Notes the expected costs of jobs that will run; returns their tokens, where they are known."""
        self._planned = PlannedCosts(self._config, waiting)
        for job in waiting:
            self._note_cost(job, None)
        return self._planned.new_tokens()

    def note(self, job: Job, record: JobRecord) -> None:
        """Notes the state and the actual cost of a job that has ended."""
        assert self._planned is not None, "the run was planned"
        self._states[job.key] = record.state
        self._note_cost(job, record)
        self._planned.calibrate(job, record)
        self.write()

    def finish(self, executor: Mapping[str, Any] | None) -> None:
        """Notes that all jobs have ended, and where they ran; None: no job ran."""
        facts = executor or self._manifest.executor or {"kind": self._config.runtime.executor}
        self._manifest = self._manifest.model_copy(update={"ended": _now(), "executor": dict(facts)})
        self.write()

    def write(self) -> None:
        """Stores run.json."""
        listed = [
            ListedJob(
                label=job.model.label,
                task=job.task.name,
                type=job.task.type,
                protocol=job.rules.protocol,
                fingerprint=fingerprint,
                state=self._states[job.key],
                cost=self._costs.get(job.key),
            )
            for job, fingerprint in self._jobs
        ]
        place = {key: number for number, key in enumerate(self._order)}
        in_order = sorted([*listed, *self._others], key=lambda job: place[job.key])
        self.store.write_run(self._manifest.model_copy(update={"jobs": tuple(in_order)}))

    def _note_cost(self, job: Job, record: JobRecord | None) -> None:
        cost = self._planned.compare(job, record) if self._planned is not None else None
        if cost is not None:
            self._costs[job.key] = cost


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
