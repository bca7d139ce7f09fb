"""Plan -> stored records: skips what is stored, isolates failures, keeps run.json true after every job."""

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
from evaluation.execution.protocol_choice import announce_protocols, fetch_undecided
from evaluation.execution.provenance import hardware, source_state, versions
from evaluation.execution.ray.address import prepare
from evaluation.execution.reporting import Reporter, RunOutcome
from evaluation.execution.run_lock import hold
from evaluation.execution.stopping import StopSignals
from evaluation.hub.cache import is_offline
from evaluation.jobs import Job, build_plan
from evaluation.planning.actuals import Estimates
from evaluation.records.job_record import JobRecord
from evaluation.records.mteb_files import export_mteb_files
from evaluation.records.run_manifest import JobState, ListedJob, PlanAndTruth, RunManifest
from evaluation.records.store import RunStore


class Executor(Protocol):
    """Where jobs run."""

    def fingerprint(self, job: Job) -> str:
        """The job's fingerprint."""

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Each job with its outcome, as they end.

        Args:
            jobs: All that shall run.
            costs: Tokens that are expected of (label, task), where that is known.
        """

    def facts(self) -> dict[str, Any]:
        """What run.json says of it."""

    def close(self) -> None:
        """Let models and workers go."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run of a config, and how.

    Attributes:
        only, models: Task globs and labels; empty: all.
        fresh: Stored jobs run again.
        wait: Wait for another process that is using the run's folder.
        chosen: (label, task) of the jobs to run; None: all.
    """

    only: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    fresh: bool = False
    wait: bool = False
    chosen: frozenset[tuple[str, str]] | None = None


def run(config: RunConfig, options: RunOptions | None = None, reporter: Reporter | None = None) -> RunOutcome:
    """Run all jobs of a config that are not stored yet.

    Ctrl-C and SIGTERM stop the job in hand at once; a write in hand is finished, and what was stored stays.

    Args:
        config: From `load_config`.
        options: Part of the config to run.
        reporter: Where progress is shown; silent by default.

    Raises:
        ConfigError: The plan has faults; nothing was run.
        FolderInUseError: Another process is writing to the run folder.
        StoreError: The run folder can't be written.
        KeyboardInterrupt: The run was stopped; run.json says how far it came.
    """
    options, reporter = options or RunOptions(), reporter or Reporter()
    with StopSignals() as signals:
        with signals.allowed():
            fetch_undecided(config, options.models)
            jobs = build_plan(config, only=options.only, models=options.models)
            jobs = [job for job in jobs if options.chosen is None or _key(job) in options.chosen]
            _check_options(jobs)
            _check_data(config, jobs)
        with ExitStack() as held:
            with signals.allowed():
                held.enter_context(hold(config.run_folder, wait=options.wait))
                executor = held.enter_context(closing(_make_executor(config, reporter)))
            return _run_jobs(config, options, jobs, executor, reporter, signals)


def _make_executor(config: RunConfig, reporter: Reporter) -> Executor:
    if config.runtime.executor == "local":
        return LocalExecutor(config, reporter.advanced, on_start=reporter.job_started)
    if find_spec("ray") is None:
        raise MissingExtraError(
            "runtime.executor: ray needs the package ray; install it with: pip install 'e5-evaluation[ray]'"
        )
    prepare(config.runtime.ray.address)
    from evaluation.execution.ray.executor import RayExecutor

    return RayExecutor(config, reporter)


def _run_jobs(
    config: RunConfig,
    options: RunOptions,
    jobs: Sequence[Job],
    executor: Executor,
    reporter: Reporter,
    signals: StopSignals,
) -> RunOutcome:
    store = RunStore(config.run_folder)
    store.remove_leftovers()
    before = store.read_run_or_set_aside()
    with signals.allowed():
        ledger = _Ledger(config, store, [(job, executor.fingerprint(job)) for job in jobs])
        ledger.note_costs({job.key: job.cost for job in (before.jobs if before else ())})
        if before is not None and (options.only or options.models or options.chosen is not None):
            ledger.keep_others(before.jobs, build_plan(config), executor.fingerprint)
    stored = {} if options.fresh else ledger.stored_records()
    export_mteb_files(store, stored.values(), ran_now=False)
    announce_protocols(config, jobs, reporter)
    reporter.run_started(jobs, len(stored))
    estimates = Estimates(config, [job for job in jobs if _key(job) not in stored])
    ledger.note_costs({_key(job): estimates.beside(job, None) for job in jobs})
    ledger.write()
    outcome = RunOutcome(store.folder)
    waiting = [job for job in jobs if _key(job) not in stored]
    costs = {_key(job): tokens for job in waiting if (tokens := estimates.new_tokens(job)) is not None}
    done_now = executor.run(waiting, costs)
    while True:
        with signals.allowed():
            ended = next(done_now, None)
        if ended is None:
            break
        job, done = ended
        if signals.came and done.record.state == "failed":  # a library made its own error of the interruption
            raise KeyboardInterrupt
        record = stored[_key(job)] = store.save(done.record, done.tables, done.mteb_files)
        export_mteb_files(store, [record], ran_now=True)
        ledger.note_costs({_key(job): estimates.beside(job, record)})
        ledger.note(job, record)
        outcome.n_executed += 1
        estimates.learn(job, record)
        reporter.job_ended(job, record)
    outcome.records = [stored[_key(job)] for job in jobs]
    unchanged = before.executor if before else None
    ledger.finish(executor.facts() if waiting or unchanged is None else unchanged)
    reporter.run_ended(outcome)
    return outcome


def _check_data(config: RunConfig, jobs: Sequence[Job]) -> None:
    """Without a network, datasets that are not in the Hub's cache are named before the first job."""
    if is_offline() and any(job.task.data is None for job in jobs):
        from evaluation.execution.downloads import check_offline

        check_offline(config, jobs)


def _check_options(jobs: Sequence[Job]) -> None:
    """Named attributes of mteb's task classes are checked against them before the first job."""
    tasks = {job.task.name: job for job in jobs if job.task.options}
    if tasks:
        from evaluation.tasks.loading import make_task

        for job in tasks.values():
            make_task(job.task, seed=job.seed)


class _Ledger:
    """run.json: the resolved config, versions, hardware and the state of every job."""

    def __init__(self, config: RunConfig, store: RunStore, jobs: list[tuple[Job, str]]) -> None:
        self.jobs, self._store = jobs, store
        self._others: list[ListedJob] = []
        self._order = [_key(job) for job, _ in jobs]
        self._costs: dict[tuple[str, str], PlanAndTruth] = {}
        self._states: dict[tuple[str, str], JobState] = {_key(job): "waiting" for job, _ in jobs}
        self._manifest = RunManifest(
            name=config.name,
            config=config.model_dump(mode="json"),
            config_file=config.source.as_posix() if config.source else None,
            versions=versions(),
            source=source_state(),
            hardware=hardware(),
            started=_now(),
            jobs=(),
        )

    def stored_records(self) -> dict[tuple[str, str], JobRecord]:
        """Done records of these jobs; failed and damaged ones run again."""
        found = {}
        for job, identity in self.jobs:
            record = self._store.load_or_set_aside(job.model.label, job.task.name, identity)
            if record is not None and record.state == "done":
                found[_key(job)] = record
                self._states[_key(job)] = record.state
        return found

    def note_costs(self, costs: Mapping[tuple[str, str], PlanAndTruth | None]) -> None:
        """Keeps plan and truth of jobs that have any; stored jobs keep those of the start that ran them."""
        self._costs |= {key: cost for key, cost in costs.items() if cost is not None}

    def keep_others(self, listed: Sequence[ListedJob], all_jobs: Sequence[Job], identify: Callable[[Job], str]) -> None:
        """Go on listing what earlier starts did of the config's jobs that this start does not choose.

        Of a label that runs now only what has the same identity still: one label is one model under one protocol.
        """
        self._order = [_key(job) for job in all_jobs]
        chosen = {_key(job) for job, _ in self.jobs}
        labels = {label for label, _ in chosen}
        others = {_key(job): job for job in all_jobs if _key(job) not in chosen}
        for job in listed:
            other = others.get(job.key)
            if other and (job.label not in labels or job.fingerprint == identify(other)):
                self._others.append(job)

    def note(self, job: Job, record: JobRecord) -> None:
        """A job's state changed."""
        self._states[_key(job)] = record.state
        self.write()

    def finish(self, executor: Mapping[str, Any]) -> None:
        """All jobs are through; `executor`: where they ran."""
        self._manifest = self._manifest.model_copy(update={"ended": _now(), "executor": dict(executor)})
        self.write()

    def write(self) -> None:
        """Store run.json."""
        listed = [
            ListedJob(
                label=job.model.label,
                task=job.task.name,
                type=job.task.type,
                protocol=job.rules.protocol,
                fingerprint=identity,
                state=self._states[_key(job)],
                cost=self._costs.get(_key(job)),
            )
            for job, identity in self.jobs
        ]
        place = {key: number for number, key in enumerate(self._order)}
        in_order = sorted([*listed, *self._others], key=lambda job: place[job.key])
        self._store.write_run(self._manifest.model_copy(update={"jobs": tuple(in_order)}))


def _key(job: Job) -> tuple[str, str]:
    """What tells the jobs of a run apart; two rows of one model share their fingerprints."""
    return job.model.label, job.task.name


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
