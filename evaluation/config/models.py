"""Declares every option of a config, once, as frozen models. Knows names and shapes; loads no data and no model.

The one-line description of a field is its documentation, and goes into the JSON Schema that ships in configs/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from evaluation.config.endpoint_keys import key_fault
from evaluation.config.grid import Grid, Pooling, combined_label, declared_label
from evaluation.config.stored_forms import DeclaredForm, StoredForm
from evaluation.config.task_types import TaskType
from evaluation.system.nearest_names import nearest_hint

Backend = Literal["transformers", "sentence-transformers", "openai"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Normalize = Literal["always", "never", "checkpoint"]

ConfigPath = tuple[str | int, ...]
"""Where a value is in a config: keys and list positions."""

NamedProtocol = Literal["e5", "mteb", "declared", "instruct", "none"]
NAMED_PROTOCOLS: tuple[NamedProtocol, ...] = get_args(NamedProtocol)
UNDECIDED = "undecided"
"""Stands for the protocol of a model whose own files decide it and are not on this machine yet."""

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+@=,-]{0,99}")


class Declared(BaseModel):
    """Base of all config models: frozen, unknown keys are errors, wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _check_label(value: str) -> str:
    if not _LABEL.fullmatch(value) or value.endswith((".", " ")):
        raise ValueError(
            "it names a folder, so it may contain only letters, digits, space and . _ + @ = , -, "
            "must begin with a letter or digit, must not end with a space or dot, and may have at most 100 characters"
        )
    return value


class EndpointConfig(Declared):
    """A server with OpenAI's embeddings interface."""

    url: str = Field(pattern=r"^https?://", description="Address up to /v1, such as http://127.0.0.1:8000/v1.")
    key_variable: str | None = Field(None, description="Environment variable with the key, which is never stored.")
    prefix: Literal["text", "input_type"] = Field(
        "text", description="Put the protocol's prefix before texts, or send its name to a server that adds it itself."
    )
    batch: int = Field(64, ge=1, description="Texts per request.")
    concurrency: int = Field(4, ge=1, description="Requests sent at the same time.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds for one request and its whole answer.")
    patience_s: float = Field(
        600.0, ge=0, description="Seconds for which a request is tried again while the server is busy or away."
    )
    max_characters: int | None = Field(
        None, ge=8, description="Characters kept per text, prefix excluded; null: the server cuts, or refuses."
    )
    empty_text: str | None = Field(
        None, min_length=1, description="Sent in place of empty texts, and counted; null: they are sent as they are."
    )
    allow_key_to: str | None = Field(None, description="Host that may receive a key of another service.")

    @model_validator(mode="after")
    def _key_at_home(self) -> EndpointConfig:
        fault = self.key_variable and key_fault(self.key_variable, self.url, self.allow_key_to)
        if fault:
            raise ValueError(fault)
        return self


class ModelConfig(Declared):
    """One row of the comparison: a model under one protocol."""

    label: str = Field(description="Unique name of this row in all tables, and of its folder.")
    model: str = Field(description="Hub name, folder (relative to the config), builtin:<name>, or bm25.")
    revision: str | None = Field(None, description="Hub commit or tag; null: the newest, resolved and recorded.")
    protocol: str | None = Field(
        None, description="A named protocol, or a name under protocols:; null: what the model's name and files imply."
    )
    backend: Backend = Field("transformers", description="What runs the model.")
    max_length: int | None = Field(None, ge=8, description="Tokens kept per text; null: as the checkpoint declares.")
    pooling: Pooling | None = Field(
        None, description="How token vectors become one vector; null: as the checkpoint declares."
    )
    truncate_dim: int | None = Field(
        None, ge=1, description="Dimensions kept of a vector; null: as the checkpoint declares, usually all."
    )
    dtype: Dtype = Field(
        "auto",
        description="Precision of the forward pass; auto: float32, on CUDA bfloat16 if the checkpoint declares it, "
        "else float16.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's repository.")
    endpoint: EndpointConfig | None = Field(None, description="Server of backend openai.")
    grid: Grid | None = Field(None, description="Make a row for every combination of these settings; null: one row.")
    folders: str | None = Field(
        None,
        description="In place of model: a pattern of checkpoint folders, such as checkpoints/step-*. It makes a row "
        "per folder, sorted by the last number in its name, and the rows make a series; label begins their labels.",
    )
    series: str | None = Field(
        None, min_length=1, description="Training run that this row is a checkpoint of; folders: sets it."
    )
    step: float | None = Field(None, ge=0, description="Number of the checkpoint in its series; folders: sets it.")
    stored: tuple[DeclaredForm, ...] | None = Field(
        None, min_length=1, description="Also score these smaller forms of the vectors, a row each; null: none."
    )

    @model_validator(mode="after")
    def _step_with_series(self) -> ModelConfig:
        if (self.series is None) != (self.step is None):
            raise ValueError("series and step belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _stored_once(self) -> ModelConfig:
        names = [form.name for form in self.stored or ()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"stored: has the form {twice} twice; remove one")
        return self

    @model_validator(mode="after")
    def _grid_alone(self) -> ModelConfig:
        keys = [] if self.grid is None else self.grid.keys
        twice = next((key for key in keys if getattr(self, key) is not None), None)
        if twice is not None:
            raise ValueError(f"{twice} is set both in grid: and beside it; remove one of them")
        return self

    @model_validator(mode="after")
    def _bm25_has_no_vectors(self) -> ModelConfig:
        own = ("label", "model")
        given = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        without_meaning = [name for name in given if name not in own] if self.model == "bm25" else []
        if without_meaning:
            raise ValueError(
                f"bm25 ranks by words, so {', '.join(without_meaning)} can't be set; remove that "
                "(a folder of this name is written ./bm25)"
            )
        return self

    @model_validator(mode="after")
    def _endpoint_with_backend(self) -> ModelConfig:
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("backend openai and endpoint: {url: ...} belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _left_to_the_server(self) -> ModelConfig:
        fixed = [name for name in ("max_length", "pooling", "truncate_dim") if getattr(self, name) is not None]
        fixed += ["dtype"] * (self.dtype != "auto") + ["grid"] * (self.grid is not None)
        if self.endpoint is not None and fixed:
            raise ValueError(
                f"the server of backend openai decides {', '.join(fixed)}; remove that here and set it on the server "
                "(to cut texts before they are sent, set endpoint.max_characters)"
            )
        return self

    _label = field_validator("label")(_check_label)

    @property
    def form(self) -> StoredForm | None:
        """The stored form that this row scores; None for the row of the model's own vectors."""
        only = self.stored[0] if self.stored is not None and len(self.stored) == 1 else None
        return only if only is not None and self.label.endswith(f"@{only.name}") else None

    @property
    def base_label(self) -> str:
        """The label of the row with the model's own vectors."""
        return self.label if self.form is None else self.label.removesuffix(f"@{self.form.name}")

    def rows(self) -> list[ModelConfig]:
        """Returns the row of the model's own vectors and one per smaller form (e5-small@int8); grid repeats both."""
        if self.grid is not None:
            settings = self.grid.combinations()
            labels = [_check_label(combined_label(self.label, values)) for values in settings]
            combined = zip(labels, settings, strict=True)
            rows = [self.model_copy(update={"label": label, "grid": None, **values}) for label, values in combined]
            return [stored for row in rows for stored in row.rows()]
        if self.stored is None or self.form is not None:
            return [self]
        rows = [self.model_copy(update={"stored": None})]
        for form in self.stored:
            if not form.is_plain:
                label = _check_label(f"{self.label}@{form.name}")
                rows.append(self.model_copy(update={"label": label, "stored": (form,), "series": None, "step": None}))
        return rows


class _TaskChoice(Declared):
    splits: tuple[str, ...] | None = Field(
        None, min_length=1, description="Splits to score; null: those that the protocol chooses."
    )
    subsets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Subsets to score; null: all of the task's."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Attributes to set on mteb's task class.")


class MtebTask(_TaskChoice):
    """A task of mteb, on the Hub's data or on a local folder."""

    mteb: str = Field(description="mteb's name of the task.")
    data: str | None = Field(None, description="Local folder that replaces the Hub's dataset.")


class BenchmarkTasks(Declared):
    """The tasks of an mteb benchmark, filtered."""

    mteb_benchmark: str = Field(description='mteb\'s name of the benchmark, such as "MTEB(eng, v2)".')
    types: tuple[TaskType, ...] | None = Field(None, min_length=1, description="Keep only these task types.")
    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only subsets with at least one of these languages, such as eng."
    )
    exclusive_languages: bool = Field(
        False, description="Keep only subsets with no other language than those, as mteb's exclusive_language_filter."
    )
    subsets: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only subsets of these names, and tasks that have one."
    )
    only: tuple[str, ...] | None = Field(
        None, min_length=1, description="Keep only tasks that match one of these globs."
    )
    exclude: tuple[str, ...] = Field((), description="Exclude tasks that match one of these globs.")


class BeirTask(Declared):
    """A BEIR dataset, run and scored through beir."""

    beir: str = Field(description="BEIR's name of the dataset, such as scifact; any name if data: is given.")
    data: str | None = Field(None, description="Local folder in BEIR's layout that replaces the Hub's dataset.")
    splits: tuple[str, ...] | None = Field(
        None, min_length=1, description="Splits to score; null: those that the protocol chooses."
    )


class LocalTask(_TaskChoice):
    """A new task on local data, scored by mteb's task class of its type."""

    local: str = Field(description="Name of the task.")
    type: TaskType = Field(description="Task type; it decides the layout of the folder and the metrics.")
    data: str = Field(description="Folder with the data.")
    main_score: str | None = Field(None, description="Metric shown in tables; null: the usual metric of the type.")
    language: str = Field(
        "eng", pattern=r"^[a-z]{3}$", description="ISO 639-3 code of the language, for BM25's stop words and stemmer."
    )
    max_documents: int | None = Field(None, ge=2, description="Clustering only: embed at most this many rows.")

    _local = field_validator("local")(_check_label)


TASK_KINDS: dict[str, type[Declared]] = {
    "mteb": MtebTask,
    "mteb_benchmark": BenchmarkTasks,
    "beir": BeirTask,
    "local": LocalTask,
}


def _task_kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Declared) else ()
    kinds = [kind for kind in TASK_KINDS if kind in keys]
    return kinds[0] if len(kinds) == 1 else None


TaskConfig = Annotated[
    Annotated[MtebTask, Tag("mteb")]
    | Annotated[BenchmarkTasks, Tag("mteb_benchmark")]
    | Annotated[BeirTask, Tag("beir")]
    | Annotated[LocalTask, Tag("local")],
    Discriminator(_task_kind),
]


class ProtocolChange(Declared):
    """Changes to a protocol's rules; null keeps a rule."""

    query_prefix: str | None = Field(None, description="Text put before each query.")
    passage_prefix: str | None = Field(None, description="Text put before each document.")
    text_prefix: str | None = Field(None, description="Text put before each text of tasks without sides.")
    join_title: bool | None = Field(None, description="Whether a document is title + space + text, or text alone.")
    normalize: Normalize | None = Field(None, description="L2-normalise: always, never, or as the checkpoint declares.")
    ignore_identical_ids: bool | None = Field(None, description="Drop documents whose id is that of the query.")
    instruction: str | None = Field(
        None, description="Sentence of the task that base instruct puts before queries; null: mteb's."
    )


class ProtocolConfig(ProtocolChange):
    """A protocol of your own, as changes to a named one."""

    base: NamedProtocol = Field(description="The named protocol to change.")
    types: dict[TaskType, ProtocolChange] = Field(default_factory=dict, description="Changes for task types.")
    tasks: dict[str, ProtocolChange] = Field(default_factory=dict, description="Changes for tasks, by name.")
    allow_prefixed_text: bool = Field(False, description="Accept datasets whose texts already begin with a prefix.")

    @model_validator(mode="after")
    def _instruction_with_instruct(self) -> ProtocolConfig:
        changes = [self, *self.types.values(), *self.tasks.values()]
        if self.base != "instruct" and any(change.instruction is not None for change in changes):
            raise ValueError(f"base {self.base} sends no instruction; remove instruction:, or set base: instruct")
        return self


class Limit(Declared):
    """Limits for smoke runs. Judged documents are always kept; results are marked and never exported."""

    documents: int | None = Field(None, ge=1, description="Documents per retrieval corpus.")
    queries: int | None = Field(None, ge=1, description="Queries per retrieval split.")
    examples: int | None = Field(None, ge=1, description="Rows per split of any other task.")


class RayConfig(Declared):
    """The workers of executor ray. Each loads one model."""

    address: str | None = Field(
        None,
        min_length=1,
        description="Address of the cluster (host:port or auto); null: starts Ray on this machine.",
    )
    workers: int | None = Field(None, ge=1, description="Maximum number of workers; null: as many as fit on the nodes.")
    gpus: int | None = Field(
        None, ge=0, description="GPUs per worker; null: one where a node has any and the device is not cpu."
    )
    cpus: int | None = Field(
        None, ge=1, description="Cores, and threads, per worker; null: the cores of a node divided by its GPUs."
    )
    resources: dict[str, float] = Field(
        default_factory=dict, description="Other resources per worker, as the nodes declare them."
    )


class Runtime(Declared):
    """How the work is done. Beyond rounding, only seed and the precision that a device brings can move a score."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N.")
    executor: Literal["local", "ray"] = Field("local", description="Where jobs run: this process or Ray's workers.")
    ray: RayConfig = Field(default_factory=lambda: RayConfig.model_validate({}), description="Workers of executor ray.")
    max_tokens: int | Literal["auto"] = Field("auto", description="Tokens per batch, padding included.")
    seed: int = Field(42, description="Seed of mteb's task classes.")
    cache: bool = Field(True, description="Keep vectors in the user's cache folder, for all protocols, tasks and runs.")
    cache_gib: float = Field(
        20.0, gt=0, description="Size limit of that cache; what has been unused for longest is dropped."
    )
    store_texts: bool = Field(True, description="Store the texts of judged queries and their top 10 documents.")

    @field_validator("max_tokens", mode="before")
    @classmethod
    def _enough_tokens(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 512):
            raise ValueError("it must be auto or a whole number; at least 512 tokens are needed for one long text")
        return value


class RunConfig(Declared):
    """A whole config file."""

    name: str = Field(description="Name of the run and of its folder.")
    models: tuple[ModelConfig, ...] = Field(min_length=1, description="The rows of the comparison.")
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description="The tasks that they are scored on.")
    protocols: dict[str, ProtocolConfig] = Field(default_factory=dict, description="Protocols of your own.")
    limit: Limit | None = Field(None, description="Limits for smoke runs.")
    runtime: Runtime = Field(default_factory=lambda: Runtime.model_validate({}), description="How the work is done.")
    data_root: str | None = Field(
        None, description="Folder that data: paths are relative to; null: the config's folder."
    )
    output: str = Field("results", description="Folder of run folders, relative to the working directory.")
    _base_dir: Path = PrivateAttr(default_factory=Path)
    _source: Path | None = PrivateAttr(None)
    _lines: dict[ConfigPath, int] = PrivateAttr(default_factory=dict)

    _name = field_validator("name")(_check_label)

    @field_validator("models")
    @classmethod
    def _a_row_per_form(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        return tuple(row for model in models for row in model.rows())

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        rows = [(position, model.label, model.protocol) for position, model in enumerate(self.models)]
        problems = name_problems(rows, list(self.protocols))
        if problems:
            raise ValueError("; ".join(sentence for _, sentence in problems))
        return self

    def read_from(self, file: Path, lines: dict[ConfigPath, int]) -> RunConfig:
        """Returns the config with its file: input paths are relative to it, and messages name its lines."""
        copy = self.model_copy()
        copy._base_dir, copy._source, copy._lines = file.resolve().parent, file, lines
        return copy

    def with_models(self, models: tuple[ModelConfig, ...]) -> RunConfig:
        """Returns the config with other models of the same labels."""
        return self.model_copy(update={"models": models})

    def resolve_data(self, path: str) -> Path:
        """Returns a task's data folder."""
        return (self.resolve_path(self.data_root or ".") / Path(path).expanduser()).resolve()

    def place(self, path: ConfigPath) -> str:
        """Returns file and line of a value, or of the nearest key above it, as the beginning of a message."""
        if self._source is None:
            return ""
        if path[:1] == ("models",) and isinstance(path[1], int):
            labels = [declared_label(model.base_label) for model in self.models]
            path = ("models", list(dict.fromkeys(labels)).index(labels[path[1]]), *path[2:])
        depth = next((depth for depth in range(len(path), 0, -1) if path[:depth] in self._lines), 0)
        line = self._lines.get(path[:depth])
        return f"{self._source}, line {line}: " if line else f"{self._source}: "

    @property
    def source(self) -> Path | None:
        """The file that it was read from, as the user named it."""
        return self._source

    @property
    def base_dir(self) -> Path:
        """The folder that input paths are relative to."""
        return self._base_dir

    def resolve_path(self, path: str) -> Path:
        """Returns an input path of the config; a relative one is relative to the config file."""
        return (self._base_dir / Path(path).expanduser()).resolve()

    @property
    def run_folder(self) -> Path:
        """Where the run is stored; limited runs have a folder of their own, so that they never replace real scores."""
        return Path(self.output) / (self.name if self.limit is None else f"{self.name}-limited")


def name_problems(
    rows: Sequence[tuple[int, str, str | None]], own_protocols: Sequence[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Returns a sentence for each repeated label and undefined protocol, with the path of the value.

    Args:
        rows: Position, label and chosen protocol of each model. Labels name folders, so case does not count.
        own_protocols: Names under protocols:.
    """
    problems: list[tuple[tuple[str | int, ...], str]] = []
    first_with: dict[str, int] = {}
    for position, label, _ in rows:
        first = first_with.setdefault(label.casefold(), position)
        if first != position:
            problems.append((("models", position, "label"), f"label {label!r} is used twice (models[{first}] has it)"))
    for name in own_protocols:
        if name in (*NAMED_PROTOCOLS, UNDECIDED):
            problems.append((("protocols", name), f"protocol {name!r} can't be redefined; choose another name"))
        elif not _LABEL.fullmatch(name):
            problems.append((("protocols", name), f"protocol name {name!r} must have the form of a label"))
    known = [*NAMED_PROTOCOLS, *own_protocols]
    for position, _, protocol in rows:
        if protocol is not None and protocol not in known:
            sentence = f"unknown protocol {protocol!r}{nearest_hint(protocol, known)} (allowed: {', '.join(known)})"
            problems.append((("models", position, "protocol"), sentence))
    return problems
