"""What mteb's tasks and benchmarks are called and made of, read from a file: light, mteb itself is never imported.

The file is made by `evaluation.tasks.build_index`; knows nothing of configs, protocols or data.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from evaluation.errors import EvaluationError
from evaluation.system.cache_folder import CACHE_VARIABLE, user_cache_dir

SCHEMA_VERSION: Final = 1
SHIPPED_INDEX: Final = Path(__file__).with_name("index.json")

TASK_CLASS_BY_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Retrieval": "AbsTaskRetrieval",
        "Reranking": "AbsTaskRetrieval",
        "STS": "AbsTaskSTS",
        "Classification": "AbsTaskClassification",
        "MultilabelClassification": "AbsTaskMultilabelClassification",
        "Regression": "AbsTaskRegression",
        "Clustering": "AbsTaskClustering",
        "PairClassification": "AbsTaskPairClassification",
        "Summarization": "AbsTaskSummarization",
        "BitextMining": "AbsTaskBitextMining",
        "InstructionRetrieval": "AbsTaskRetrieval",
        "InstructionReranking": "AbsTaskRetrieval",
    }
)
"""The class of `mteb.abstasks` that scores a text task of each type; almost all registered tasks derive from it too."""

TEXT_TASK_TYPES: Final[tuple[str, ...]] = tuple(TASK_CLASS_BY_TYPE)

MAIN_SCORE_BY_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Retrieval": "ndcg_at_10",
        "Reranking": "map_at_1000",
        "STS": "cosine_spearman",
        "Classification": "accuracy",
        "MultilabelClassification": "accuracy",
        "Regression": "kendalltau",
        "Clustering": "v_measure",
        "PairClassification": "max_ap",
        "Summarization": "cosine_spearman",
        "BitextMining": "f1",
        "InstructionRetrieval": "ndcg_at_20",
        # mteb's own five use p-MRR, which only their overridden `task_specific_scores` computes, from judgements
        # changed by the instruction. A local task has none, so it is scored like any reranking.
        "InstructionReranking": "map_at_1000",
    }
)
"""The main score of a local task that names none: what most of mteb 2.26's registered tasks of the type use."""


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as mteb declares it. A task that is not `is_text` has its name, type and modalities only.

    The attributes from `samples_per_label` on are those of the task's class that decide how many texts are encoded
    and which results count, under mteb's names; None (or False) where its class has no such attribute.

    Attributes:
        languages: ISO 639-3 codes, sorted.
        splits: The splits that mteb evaluates when none are named.
        subsets: All subsets, in mteb's order, which is the order in which its samplers draw.
        subset_languages: The language codes of each of `subsets`, separated by spaces; empty where they follow from
            `languages` or from the subsets' names. `subsets_in` is the way to read it.
        dataset: The Hub repository; empty for an aggregate. `dataset_config` and `dataset_split` are the further
            arguments that a few tasks pass to `load_dataset`.
        base_class: The first class of `mteb.abstasks` that the task derives from.
        parts: For an aggregate, the names of the tasks whose mean it is.
        parallel_subsets: One table with a column a language serves all subsets, so each column is encoded once.
    """

    name: str
    type: str
    modalities: tuple[str, ...] = ("text",)
    languages: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    subsets: tuple[str, ...] = ("default",)
    subset_languages: tuple[str, ...] = ()
    main_score: str = ""
    dataset: str = ""
    revision: str = ""
    dataset_config: str | None = None
    dataset_split: str | None = None
    category: str | None = None
    license: str | None = None
    is_public: bool = True
    base_class: str = ""
    parts: tuple[str, ...] = ()
    superseded_by: str | None = None
    samples_per_label: int | None = None
    n_experiments: int | None = None
    train_split: str | None = None
    is_cross_validation: bool = False
    n_splits: int | None = None
    n_samples: int | None = None
    max_eval_samples: int | None = None
    max_document_to_embed: int | None = None
    max_fraction_of_documents_to_embed: float | None = None
    max_documents_per_cluster: int | None = None
    n_clusters: int | None = None
    parallel_subsets: bool = False
    ignore_identical_ids: bool = False
    skip_first_result: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it reads text only and its type is one of `TEXT_TASK_TYPES`, so that a text model can run it."""
        return self.modalities == ("text",) and self.type in TASK_CLASS_BY_TYPE

    @property
    def is_aggregate(self) -> bool:
        """Whether it is the mean of other tasks, its `parts`, and has no data of its own."""
        return bool(self.parts)

    def subsets_in(self, languages: Collection[str]) -> tuple[str, ...]:
        """The subsets with at least one of these ISO 639-3 codes, in order: what mteb's `filter_languages` keeps."""
        wanted = frozenset(languages)
        return tuple(name for name, codes in self._languages_by_subset() if not wanted.isdisjoint(codes))

    def _languages_by_subset(self) -> Iterator[tuple[str, Collection[str]]]:
        if self.subset_languages:
            return zip(self.subsets, (codes.split() for codes in self.subset_languages), strict=True)
        if len(self.subsets) == 1 or len(self.languages) == 1:
            return ((name, self.languages) for name in self.subsets)
        return ((name, languages_in_subset_name(name)) for name in self.subsets)


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A task of a benchmark; None where the benchmark leaves the choice of splits or subsets to the task."""

    name: str
    splits: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkEntry:
    """A benchmark of mteb. One without any text task has its name, aliases and modalities only."""

    name: str
    aliases: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("text",)
    superseded_by: tuple[str, ...] = ()
    tasks: tuple[BenchmarkTask, ...] = ()


class TaskIndex:
    """The tasks and benchmarks of one version of mteb. A record is decoded when it is first asked for."""

    def __init__(self, text: str) -> None:
        """Take an index file in the form of `build_index.render_index`: a line for each task and benchmark.

        Raises:
            ValueError: The text has another form, or another schema version.
        """
        lines = text.split("\n")
        tasks_at, benchmarks_at = lines.index('"tasks":['), lines.index('"benchmarks":[')
        header = json.loads("".join(lines[:tasks_at]).rstrip(",") + "}")
        if header["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {header['schema_version']}, not {SCHEMA_VERSION}")
        self.mteb_version: str = header["mteb_version"]
        self._class_defaults: dict[str, dict[str, Any]] = header["class_defaults"]
        self._task_lines = _lines_by_name(lines[tasks_at + 1 : lines.index("],", tasks_at)])
        self._benchmark_lines = _lines_by_name(lines[benchmarks_at + 1 : lines.index("]}", benchmarks_at)])
        self._task_entries: dict[str, TaskEntry] = {}

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of all tasks, those that are not text included."""
        return tuple(self._task_lines)

    @property
    def benchmark_names(self) -> tuple[str, ...]:
        """The names of all benchmarks, without aliases, those without any text task included."""
        return tuple(self._benchmark_lines)

    def __contains__(self, name: object) -> bool:
        """Whether a task has this name."""
        return name in self._task_lines

    def task(self, name: str) -> TaskEntry:
        """The task of this name; KeyError when there is none."""
        if name not in self._task_entries:
            self._task_entries[name] = _task_entry(_decode(self._task_lines[name]), self._class_defaults)
        return self._task_entries[name]

    def benchmark(self, name: str) -> tuple[BenchmarkTask, ...]:
        """The tasks of a benchmark, in mteb's order, by its name or an alias; none when it has no text task.

        Raises:
            KeyError: No benchmark has this name.
        """
        return self.benchmark_entry(name).tasks

    def benchmark_entry(self, name: str) -> BenchmarkEntry:
        """The benchmark of this name or alias (mteb too looks at aliases first); KeyError when there is none."""
        return self._benchmarks[self._canonical_names.get(name, name)]

    def nearest_tasks(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Up to n text tasks whose names resemble this one, best first."""
        with_text = (task for task, line in self._task_lines.items() if '"main_score":"' in line)
        return _nearest(name, with_text, n)

    def nearest_benchmarks(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Up to n names or aliases of benchmarks with text tasks that resemble this one, best first."""
        with_text = [entry for entry in self._benchmarks.values() if entry.tasks]
        return _nearest(name, (known for entry in with_text for known in (entry.name, *entry.aliases)), n)

    @functools.cached_property
    def _benchmarks(self) -> dict[str, BenchmarkEntry]:
        return {name: _benchmark_entry(_decode(line)) for name, line in self._benchmark_lines.items()}

    @functools.cached_property
    def _canonical_names(self) -> dict[str, str]:
        return {alias: entry.name for entry in self._benchmarks.values() for alias in entry.aliases}


def load_index(path: Path | None = None) -> TaskIndex:
    """The index in `path`, or the one that fits the installed mteb, read once a process.

    The shipped file serves its own version of mteb, and machines without mteb. For another version the user's cache
    holds an index, which is made on first use; that imports mteb in another process and takes some ten seconds.

    Raises:
        EvaluationError: The file is missing or not an index of the current schema, or the index could not be made.
    """
    return _installed_index() if path is None else _read_index(path)


def languages_in_subset_name(subset: str) -> frozenset[str]:
    """The codes in a subset's name where it is made of them: `eng_Latn-deu_Latn` gives eng and deu."""
    return frozenset(part.partition("_")[0] for part in subset.split("-"))


def descriptive_stats_file(entry: TaskEntry) -> Path | None:
    """The file in the installed mteb with a task's counts of texts and lengths; None without mteb or such a file."""
    package = _mteb_folder()
    if package is None:
        return None
    folder = package / "descriptive_stats"
    # Image and Any2Any types lie one folder deeper, as TaskMetadata.descriptive_stat_path has it.
    candidates = (folder / entry.type / f"{entry.name}.json", folder / "Image" / entry.type / f"{entry.name}.json")
    return next((file for file in candidates if file.is_file()), None)


def load_statistics(entry: TaskEntry) -> dict[str, Any] | None:
    """What mteb counted in a task's data: split -> statistics, as its file has them; None where it has no such file.

    A task of several subsets has theirs under `hf_subset_descriptive_stats` of a split. Aggregates have no file.
    """
    file = descriptive_stats_file(entry)
    if file is None:
        return None
    statistics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return statistics


def installed_mteb_version() -> str | None:
    """The version of the installed mteb, or None; found without importing it."""
    package = _mteb_folder()
    if package is None:
        return None
    prefix, suffix = "mteb-", ".dist-info"
    beside = [file.name for file in package.parent.glob(f"{prefix}*{suffix}")]
    if len(beside) == 1:  # spares the import of importlib.metadata, which costs as much as all else here
        return beside[0][len(prefix) : -len(suffix)]
    from importlib import metadata

    try:
        return metadata.version("mteb")
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _installed_index() -> TaskIndex:
    shipped = _read_index(SHIPPED_INDEX)
    version = installed_mteb_version()
    if version in (None, shipped.mteb_version):
        return shipped
    path = user_cache_dir() / f"task-index-{version}.json"
    try:
        return _read_index(path)
    except EvaluationError:  # not there yet, or of another schema
        _build_in_subprocess(path, f"{version} (this package ships the index of {shipped.mteb_version})")
        return _read_index(path)


def _read_index(path: Path) -> TaskIndex:
    try:
        return TaskIndex(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        cause = error
    remedy = f"Make it with `python -m evaluation.tasks.build_index --output {path}`."
    raise EvaluationError(f"The task index {path} can't be used: {cause}. {remedy}") from cause


def _build_in_subprocess(path: Path, version: str) -> None:
    """Another process, so that importing mteb costs this one neither memory nor its state."""
    import subprocess

    command = [sys.executable, "-m", "evaluation.tasks.build_index", "--output", str(path.absolute())]
    package_root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=package_root, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EvaluationError(
            f"The task index for mteb {version} could not be written to {path}: {reason}. "
            f"Set {CACHE_VARIABLE} to a folder that can be written, or run `python {' '.join(command[1:])}` for more."
        )


def _mteb_folder() -> Path | None:
    spec = importlib.util.find_spec("mteb")
    if spec is None or spec.origin is None:  # no origin: merely a folder of that name on the path, such as a run's
        return None
    return Path(spec.origin).parent


def _task_entry(record: Mapping[str, Any], class_defaults: Mapping[str, Mapping[str, Any]]) -> TaskEntry:
    is_full = "main_score" in record
    base_class = record.get("base_class", TASK_CLASS_BY_TYPE[record["type"]] if is_full else "")
    fields: dict[str, Any] = {**class_defaults.get(base_class, {}), "base_class": base_class}
    fields |= {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    subsets = _subsets(record)
    if subsets is not None:
        fields.pop("subset_pairs", None)
        fields["subsets"] = subsets
    if isinstance(record.get("subsets"), dict):
        fields["subset_languages"] = tuple(record["subsets"].values())
    return TaskEntry(**fields)


def _benchmark_entry(record: Mapping[str, Any]) -> BenchmarkEntry:
    return BenchmarkEntry(
        name=record["name"],
        aliases=tuple(record.get("aliases", ())),
        modalities=tuple(record.get("modalities", ("text",))),
        superseded_by=tuple(record.get("superseded_by", ())),
        tasks=tuple(map(_benchmark_task, record.get("tasks", ()))),
    )


def _benchmark_task(item: str | Mapping[str, Any]) -> BenchmarkTask:
    if isinstance(item, str):
        return BenchmarkTask(item)
    return BenchmarkTask(item["name"], tuple(item["splits"]) if "splits" in item else None, _subsets(item))


def _subsets(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The subsets of a record, if it names any; `subset_pairs` stands for all ordered pairs of different codes."""
    if "subset_pairs" in record:
        codes = record["subset_pairs"]
        return tuple(f"{first}-{second}" for first in codes for second in codes if first != second)
    return tuple(record["subsets"]) if "subsets" in record else None


def _lines_by_name(lines: Iterable[str]) -> dict[str, str]:
    start = len('{"name":"')
    return {line[start : line.index('"', start)]: line for line in lines}


def _decode(line: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(line.rstrip(","))
    return record


def _nearest(name: str, known: Iterable[str], n: int) -> tuple[str, ...]:
    """Names that begin with the wanted one, then those that hold it, then difflib's; case and punctuation aside."""
    import difflib

    wanted = _letters_and_digits(name)
    if not wanted:
        return ()
    folded: dict[str, list[str]] = {}
    for candidate in known:
        folded.setdefault(_letters_and_digits(candidate), []).append(candidate)
    holding = (key for key in folded if wanted in key)
    keys = sorted(holding, key=lambda key: (not key.startswith(wanted), len(key), key))[:n]
    if len(keys) < n:
        keys += [key for key in difflib.get_close_matches(wanted, folded, n=2 * n) if key not in keys]
    return tuple(candidate for key in keys for candidate in folded[key])[:n]


def _letters_and_digits(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
