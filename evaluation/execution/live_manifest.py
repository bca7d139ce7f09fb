"""Keeps run.json up to date during a run; several parts of a run keep one run.json together."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from evaluation.config.run_config import RunConfig
from evaluation.execution.provenance import hardware, source_state, versions
from evaluation.execution.run_lock import PARTS_FOLDER
from evaluation.jobs import Job
from evaluation.models.names import lasting_name
from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import JobState, ListedJob, PlanAndTruth, RunManifest
from evaluation.records.store import RunStore

if TYPE_CHECKING:
    from evaluation.planning.planned_costs import PlannedCosts

TURN_FILE = f"{PARTS_FOLDER}/turn.lock"
"""Held by the part that reads and writes what all parts share."""


class LiveManifest:
    """Keeps run.json: the resolved config, versions, hardware, and the state and cost of every job.

    Args:
        jobs: The jobs of this start with their fingerprints.
        before: run.json after the last start, if there was one.
        is_shared: Other parts of the run may write at the same time: what they have noted is read anew each time.
    """

    def __init__(
        self,
        config: RunConfig,
        store: RunStore,
        jobs: Sequence[tuple[Job, str]],
        before: RunManifest | None,
        *,
        is_shared: bool = False,
    ) -> None:
        self.store, self._config, self._jobs = store, config, jobs
        self._before, self.is_shared = before, is_shared
        self._turn = FileLock(store.folder / TURN_FILE)
        self._others: dict[tuple[str, str], tuple[Job, str]] = {}
        self._order = [job.key for job, _ in jobs]
        self._planned: PlannedCosts | None = None
        self._states: dict[tuple[str, str], JobState] = dict.fromkeys(self._order, "waiting")
        listed = before.jobs if before is not None else ()
        self._costs: dict[tuple[str, str], PlanAndTruth | None] = {job.key: job.cost for job in listed}
        self._manifest = RunManifest(
            name=config.name,
            config=_lasting(config).model_dump(mode="json"),
            config_file=config.source.as_posix() if config.source else None,
            versions=versions(),
            source=source_state(),
            hardware=before.hardware if before is not None else None,
            started=_now(),
            executor=before.executor if before is not None else None,
            jobs=(),
        )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keeps other parts from writing what all parts share: run.json and the summaries."""
        if not self.is_shared:
            yield
            return
        with self._turn:
            yield

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
        """Keeps listing the config's jobs that this start leaves out, as earlier starts or other parts noted them.

        Jobs of a label that runs now are kept only under the same fingerprint: a label is one model under one protocol.
        Parts list jobs that nobody has noted yet as waiting.
        """
        self._order = [job.key for job in all_jobs]
        chosen = {job.key for job, _ in self._jobs}
        labels = {label for label, _ in chosen}
        self._others = {
            job.key: (job, identify(job) if job.model.label in labels else "")
            for job in all_jobs
            if job.key not in chosen
        }

    def plan(self, waiting: Sequence[Job]) -> dict[tuple[str, str], int]:
        """Notes the machine and the expected costs of jobs that will run; returns their tokens, where known."""
        if waiting or self._manifest.hardware is None:
            self._manifest = self._manifest.model_copy(update={"hardware": hardware()})
        if not waiting:
            return {}
        from evaluation.planning.planned_costs import PlannedCosts

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

    def finish(self, executor: Mapping[str, Any], *, ran: bool) -> None:
        """Notes that all jobs have ended, and what the executor says; of a cluster where no job ran now, it stays."""
        is_news = ran or self._config.runtime.executor == "local"
        facts = (executor if is_news else None) or self._manifest.executor or {"kind": self._config.runtime.executor}
        self._manifest = self._manifest.model_copy(update={"ended": _now(), "executor": dict(facts)})
        self.write()

    @property
    def jobs_changed(self) -> bool:
        """Whether run.json lists other jobs, or in another order, than after the last start."""
        before = self._before.jobs if self._before is not None else ()
        now = self.store.read_run().jobs
        return [(job.key, job.fingerprint) for job in before] != [(job.key, job.fingerprint) for job in now]

    def write(self) -> None:
        """Stores run.json."""
        with self.turn():
            before = self.store.read_run_or_set_aside() if self.is_shared else self._before
            listed = [*(_listed(job, *self._state(job, fingerprint)) for job, fingerprint in self._jobs)]
            listed += self._kept(before)
            place = {key: number for number, key in enumerate(self._order)}
            in_order = tuple(sorted(listed, key=lambda job: place[job.key]))
            update: dict[str, Any] = {"jobs": in_order}
            if self.is_shared and any(job.state == "waiting" for job in in_order):
                update["ended"] = None
            self.store.write_run(self._manifest.model_copy(update=update))

    def _state(self, job: Job, fingerprint: str) -> tuple[str, JobState, PlanAndTruth | None]:
        return fingerprint, self._states[job.key], self._costs.get(job.key)

    def _kept(self, before: RunManifest | None) -> list[ListedJob]:
        """Returns the entries of jobs that this start leaves out."""
        noted = {job.key: job for job in before.jobs} if before is not None else {}
        kept = []
        for key, (job, fingerprint) in self._others.items():
            entry = noted.get(key)
            if entry is not None and (not fingerprint or entry.fingerprint == fingerprint):
                kept.append(entry)
            elif self.is_shared:
                kept.append(_listed(job, fingerprint, "waiting", None))
        return kept

    def _note_cost(self, job: Job, record: JobRecord | None) -> None:
        cost = self._planned.compare(job, record) if self._planned is not None else None
        if cost is not None:
            self._costs[job.key] = cost


def _listed(job: Job, fingerprint: str, state: JobState, cost: PlanAndTruth | None) -> ListedJob:
    return ListedJob(
        label=job.model.label,
        task=job.task.name,
        type=job.task.type,
        protocol=job.rules.protocol,
        fingerprint=fingerprint,
        state=state,
        cost=cost,
    )


def _lasting(config: RunConfig) -> RunConfig:
    rows = (model.model_copy(update={"model": lasting_name(model.model)}) for model in config.models)
    return config.with_models(tuple(rows))


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
