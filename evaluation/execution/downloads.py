"""What a config needs from the Hub: found, fetched side by side, and locked; and whether a lock still holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import DataError, EvaluationError, UsageError
from evaluation.hub import cache, client, lock
from evaluation.hub.cache import HubError, Kind, matches, snapshot_folder
from evaluation.hub.client import RemoteFile, Repository, exactly
from evaluation.jobs import Job
from evaluation.models.checkpoint import HUB_FILES, HUB_IGNORED, locate
from evaluation.models.names import has_no_checkpoint, is_builtin, is_folder_name
from evaluation.models.remote_code import CODE_FILES, code_repositories
from evaluation.tasks.selection import TaskChoice

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Need:
    """A repository that some jobs read.

    Attributes:
        tasks: The tasks on a dataset; empty for a model.
        use: Of a model: its files, its files with the code they name, or only its code, which another model runs.
    """

    kind: Kind
    name: str
    revision: str | None
    tasks: tuple[TaskChoice, ...] = ()
    use: Literal["files", "files and code", "code"] = "files"


@dataclass(frozen=True, slots=True)
class Found:
    """A need as the Hub describes it: the files that will be read, and the bytes of those that are not here yet."""

    need: Need
    repository: Repository
    files: tuple[RemoteFile, ...]
    missing_bytes: int

    @property
    def total_bytes(self) -> int:
        """Size of all files that will be read."""
        return sum(file.size for file in self.files)


@dataclass(slots=True)
class Fetched:
    """What came of it: entries for a lock, and a sentence for each repository that could not be had."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def needs_of(config: RunConfig, jobs: Iterable[Job]) -> list[Need]:
    """The repositories that jobs read, models first; builtin models and folders are none."""
    models: dict[tuple[str, str | None], Need] = {}
    datasets: dict[tuple[str, str], list[TaskChoice]] = {}
    for job in jobs:
        if _from_hub(config, job.model):
            key = (job.model.model, job.model.revision)
            use: Literal["files", "files and code"] = "files and code" if job.model.trust_remote_code else "files"
            if key not in models or use == "files and code":
                models[key] = Need("model", *key, use=use)
        if job.task.data is None:
            tasks = datasets.setdefault((job.task.dataset, job.task.dataset_revision), [])
            if not any(_reads_alike(task, job.task) for task in tasks):
                tasks.append(job.task)
    return [*models.values(), *(Need("dataset", *key, tuple(tasks)) for key, tasks in datasets.items())]


def _from_hub(config: RunConfig, declared: ModelConfig) -> bool:
    model = declared.model
    elsewhere = declared.backend == "openai" or is_builtin(model) or has_no_checkpoint(model) or is_folder_name(model)
    return not (elsewhere or config.resolve_path(model).is_dir())


def code_needs(config: RunConfig, jobs: Iterable[Job], commits: Mapping[tuple[str, str | None], str]) -> list[Need]:
    """The repositories whose code the trusted models run, once the models' own JSON files are here.

    Args:
        commits: Of models from the Hub, by name and declared revision.
    """
    repositories: dict[str, None] = {}
    for model in {job.model.label: job.model for job in jobs if job.model.trust_remote_code}.values():
        if not _from_hub(config, model):
            folder = None if is_builtin(model.model) else config.resolve_path(model.model)
        else:
            folder = snapshot_folder("model", model.model, commits.get((model.model, model.revision), model.revision))
        repositories |= dict.fromkeys(code_repositories(folder) if folder is not None else ())
    return [Need("model", name, None, use="code") for name in repositories]


def _reads_alike(task: TaskChoice, other: TaskChoice) -> bool:
    return (task.source, task.splits, task.subsets) == (other.source, other.splits, other.subsets)


def find(need: Need) -> Found:
    """Ask the Hub for a repository and choose the files that will be read; of a dataset, its card is fetched.

    Raises:
        HubError: It can't be had.
        DataError: It lacks a table that a task needs.
    """
    repository = client.describe(need.kind, need.name, need.revision)
    if need.use == "files and code":
        client.fetch("model", need.name, repository.commit, ["*.json"], ignored=HUB_IGNORED)  # which name the code
    files = repository.matching(_patterns(need, repository.commit))
    if need.kind == "model":
        files = [file for file in files if not matches(file.name, HUB_IGNORED)]
    folder = snapshot_folder(need.kind, need.name, repository.commit)
    missing = sum(file.size for file in files if folder is None or not (folder / file.name).is_file())
    return Found(need, repository, tuple(files), missing)


def _patterns(need: Need, commit: str) -> list[str]:
    if need.kind == "model":
        return list(CODE_FILES) if need.use == "code" else HUB_FILES
    return dataset_patterns(need, client.fetch("dataset", need.name, commit, cache.CARD_FILES))


def dataset_patterns(need: Need, folder: Path) -> list[str]:
    """Patterns of the files that the tasks on a dataset read, from the card in its snapshot."""
    from evaluation.tasks.hub_files import file_patterns, read_card, wanted_configs
    from evaluation.tasks.loading import make_task

    card = read_card(folder)
    found = [
        pattern
        for task in need.tasks
        for pattern in file_patterns(card, wanted_configs(make_task(task, seed=0), task), task)
    ]
    return list(dict.fromkeys(found))


def side_by_side(act: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call for all items, some at once; an error of ours stands in the place of its result."""

    def guarded(item: Any) -> Any:
        try:
            return act(item)
        except EvaluationError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(guarded, items))


def fetch_all(found: Sequence[Found], on_done: Callable[[Found], None]) -> Fetched:
    """Fetch what was found.

    Args:
        on_done: Called after each repository, from several threads.
    """

    def one(item: Found) -> dict[str, Any]:
        names, need = [file.name for file in item.files], item.need
        # By the revision as declared: the cache then knows the branch or tag without a network too.
        folder = client.fetch(need.kind, need.name, need.revision, [exactly(name) for name in names])
        if folder.name != item.repository.commit:
            raise HubError(f"{need.kind} {need.name!r} changed on the Hub meanwhile; run fetch-data again.")
        entry = lock.locked_repository(item.repository, need.revision, folder, names)
        if need.use == "code":
            entry["kind"] = "code"
        for file in item.files:
            if file.sha256 is not None and file.sha256 != entry["files"][file.name]["sha256"]:
                broken = (folder / file.name).resolve()
                raise HubError(f"{need.name}: {file.name} is not what the Hub states; delete {broken}, fetch again.")
        on_done(item)
        return entry

    fetched = Fetched()
    for result in side_by_side(one, found):
        if isinstance(result, EvaluationError):
            fetched.faults.append(str(result))
        else:
            fetched.entries.append(result)
    return fetched


def check_offline(config: RunConfig, jobs: Iterable[Job]) -> None:
    """Without a network, find out before the first job which datasets, or tables of them, are not here.

    Raises:
        DataError: Some are not: one sentence for all absent datasets, and one for each that lacks a table.
    """
    absent, faults = [], []
    for need in needs_of(config, jobs) if cache.is_offline() else ():
        if need.tasks and snapshot_folder("dataset", need.name, need.revision) is None:
            absent.append(f"{need.name} (revision {need.revision})")
            continue
        for task in need.tasks:
            from evaluation.tasks.hub_files import dataset_folder
            from evaluation.tasks.loading import make_task

            try:
                dataset_folder(make_task(task, seed=0), task)
            except EvaluationError as error:
                faults.append(str(error))
    if absent:
        here = f"not in the local Hub cache ({cache.hub_cache()})"
        faults.insert(0, f"datasets {here}: {', '.join(absent)}; fetch them with fetch-data where there is a network.")
    if faults:
        raise DataError(faults)


# ------------------------------------------------------------------------------------------------------------ the lock


def folder_entries(config: RunConfig, jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """A lock's entries of local data and of models in folders, by the hash of their content."""
    found: dict[tuple[str, str], None] = {}
    for job in jobs:
        if job.task.data is not None:
            found[f"data {job.task.name}", job.task.dataset_revision] = None
        is_installed = is_builtin(job.model.model) or has_no_checkpoint(job.model.model)
        if not _from_hub(config, job.model) and not is_installed and job.model.endpoint is None:
            found[f"model {job.model.model}", locate(job.model.model, None, config.base_dir).revision] = None
    return [
        {"kind": "folder", "repository": name, "asked": content, "revision": content, "licence": None, "files": {}}
        for name, content in found
    ]


def locked_config(config: RunConfig, jobs: Sequence[Job], lock_file: Path) -> RunConfig:
    """The config with the locked revision of every model, once all that it reads is exactly what was locked.

    Raises:
        UsageError: Something is not locked, is missing or has changed; all faults at once.
    """
    locked = lock.read_lock(lock_file)
    served = {job.model.label: job.model.endpoint.url for job in jobs if job.model.endpoint is not None}
    faults = [
        f"{label} is served by {url}, so its weights can't be locked; leave it out (--model), or run without --locked."
        for label, url in served.items()
    ]
    revisions: dict[tuple[str, str | None], str] = {}
    for need in needs_of(config, jobs):
        entry = _entry_of(need, locked)
        if entry is None:
            what = f"{need.kind} {need.name}" + (f" (revision {need.revision})" if need.revision else "")
            faults.append(f"{what} is not in the lock {lock_file}; run fetch-data.")
            continue
        revisions[need.name, need.revision] = entry["revision"]
        faults += _faults_of(need, entry)
    for need in code_needs(config, jobs, revisions):
        faults += _code_faults(need, locked, lock_file)
    for entry in folder_entries(config, jobs):
        if ("folder", entry["repository"], entry["revision"]) not in locked:
            faults.append(f"{entry['repository']} is not what the lock {lock_file} holds (now {entry['revision']}).")
    if faults:
        raise UsageError("\n".join(faults))
    models = tuple(
        model.model_copy(update={"revision": revisions.get((model.model, model.revision), model.revision)})
        for model in config.models
    )
    return config.with_models(models)


def _entry_of(need: Need, locked: Mapping[tuple[str, str, str], dict[str, Any]]) -> dict[str, Any] | None:
    """What was locked for the same revision, or of a commit for a branch or tag that was this commit."""
    named = locked.get((need.kind, need.name, need.revision or cache.MAIN))
    of_repository = (entry for (kind, name, _), entry in locked.items() if (kind, name) == (need.kind, need.name))
    return named or next((entry for entry in of_repository if entry["revision"] == need.revision), None)


def _code_faults(need: Need, locked: Mapping[tuple[str, str, str], dict[str, Any]], lock_file: Path) -> list[str]:
    entry, folder = locked.get(("code", need.name, cache.MAIN)), snapshot_folder("model", need.name, None)
    if entry is None:
        return [f"the code of {need.name}, which a model runs, is not in the lock {lock_file}; run fetch-data."]
    if folder is not None and folder.name != entry["revision"]:
        now = f"commit {folder.name} in {cache.hub_cache()}"
        return [f"the code of {need.name} is {now}, not the locked {entry['revision']}; run fetch-data."]
    names = [name for name in cache.files_in(folder) if matches(name, CODE_FILES)] if folder is not None else []
    return lock.lock_faults(entry, folder, names)


def _faults_of(need: Need, entry: dict[str, Any]) -> list[str]:
    folder = snapshot_folder(need.kind, need.name, entry["revision"])
    if folder is None:
        return lock.lock_faults(entry, None, ())
    if need.kind == "dataset" and snapshot_folder("dataset", need.name, need.revision) != folder:
        what = f"dataset {need.name} (revision {need.revision})"
        here = cache.hub_cache()
        return [f"{what} is at a different commit in {here} than the locked {entry['revision']}; run fetch-data."]
    patterns = HUB_FILES if need.kind == "model" else dataset_patterns(need, folder)
    ignored = HUB_IGNORED if need.kind == "model" else ()
    names = [name for name in cache.files_in(folder) if matches(name, patterns) and not matches(name, ignored)]
    return lock.lock_faults(entry, folder, names)
