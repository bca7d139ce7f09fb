"""Declares the options of a config but for models and tasks. Knows names and shapes; loads no data and no model.

The one-line description of a field is its documentation, and goes into the JSON Schema that ships in configs/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, field_validator, model_validator

from evaluation.config.declared import LABEL, Declared, check_label
from evaluation.config.grid import declared_label
from evaluation.config.limit import Limit
from evaluation.config.model_config import ModelConfig
from evaluation.config.task_config import TaskConfig
from evaluation.config.task_types import TaskType
from evaluation.system.nearest_names import nearest_hint

Normalize = Literal["always", "never", "checkpoint"]

ConfigPath = tuple[str | int, ...]
"""Where a value is in a config: keys and list positions."""

NamedProtocol = Literal["e5", "mteb", "declared", "instruct", "none"]
NAMED_PROTOCOLS: tuple[NamedProtocol, ...] = get_args(NamedProtocol)
OWN = "own-encode"
"""Stands for the protocol of a model in memory that embeds by its own `encode`, which no rule here changes."""
UNDECIDED = "undecided"
"""Stands for the protocol of a model whose own files decide it and are not on this machine yet."""


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
            raise ValueError("it must be auto or a whole number of at least 512, the tokens of one long text")
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

    _name = field_validator("name")(check_label)

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
        if name in (*NAMED_PROTOCOLS, UNDECIDED, OWN):
            problems.append((("protocols", name), f"protocol {name!r} can't be redefined; choose another name"))
        elif not LABEL.fullmatch(name):
            problems.append((("protocols", name), f"protocol name {name!r} must have the form of a label"))
    known = [*NAMED_PROTOCOLS, *own_protocols]
    for position, _, protocol in rows:
        if protocol is not None and protocol not in known:
            sentence = f"unknown protocol {protocol!r}{nearest_hint(protocol, known)} (allowed: {', '.join(known)})"
            problems.append((("models", position, "protocol"), sentence))
    return problems
