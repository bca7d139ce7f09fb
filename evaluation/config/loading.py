"""Loads a YAML file as a RunConfig; reports all faults of the file at once, each with its line. Loads safely only."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from evaluation.config.checkpoint_folders import expand_folders, moved_lines
from evaluation.config.declared import FaultBelow
from evaluation.config.endpoint_keys import url_fault
from evaluation.config.expansion import expand_paths, without_extensions
from evaluation.config.grid import Grid
from evaluation.config.limit import Limit
from evaluation.config.model_config import EndpointConfig, ModelConfig
from evaluation.config.run_config import (
    ConfigPath,
    ProtocolChange,
    ProtocolConfig,
    RunConfig,
    Runtime,
    name_problems,
)
from evaluation.config.stored_forms import Rescoring, StoredForm
from evaluation.config.task_config import TASK_KINDS
from evaluation.config.yaml_reading import dotted, read_yaml
from evaluation.errors import ConfigError
from evaluation.system.nearest_names import nearest_hint
from evaluation.system.redaction import add_secret_variable, add_url_secrets
from evaluation.system.shipped_files import find_shipped


def load_config(path: str | Path, *, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads and checks a config file.

    Args:
        path: The YAML file. A path that does not exist here but is one of the package's own, such as
            configs/quickstart.yaml, names the installed copy.
        overrides: "dotted.key=value" strings that replace values of the file, such as "models.0.dtype=float32";
            values are read as YAML.

    Raises:
        ConfigError: Has one sentence per fault, with file and line.
    """
    file = find_shipped(Path(path))
    for override in overrides:
        add_url_secrets(override)  # before a message can quote it
    document, lines = _parse(file)
    overridden = {_apply_override(document, override): override for override in overrides}
    _refuse_credentials(_Report(file, lines, document, overridden))
    if not isinstance(document, dict):
        raise ConfigError([f"{file}: a config is a mapping with name, models and tasks, not {_kind(document)}."])
    document = without_extensions(document)
    report = _Report(file, lines, document, overridden)
    unset = [
        f"{report.place(path)}{dotted(path)} names the environment variable {name}, which is not set; set it or "
        "write the path out."
        for path, name in expand_paths(document)
    ]
    if unset:
        raise ConfigError(unset)
    document, origins, faults = expand_folders(document, file.resolve().parent)
    if faults:
        raise ConfigError([f"{report.place(path)}{dotted(path)}: {fault}." for path, fault in faults])
    lines = moved_lines(lines, origins)
    report = _Report(file, lines, document, overridden)
    try:
        text = _json_of(document, file)
        config = RunConfig.model_validate_json(text)
    except ValidationError as error:
        sentences = [report.sentence(detail) for detail in error.errors() if not report.follows_from_others(detail)]
        sentences = list(dict.fromkeys([*sentences, *report.name_sentences()]))
        raise ConfigError(sentences or [f"{file}: {error.errors()[0]['msg']}."]) from None
    for model in config.models:
        if model.endpoint is not None and model.endpoint.key_variable is not None:
            add_secret_variable(model.endpoint.key_variable)
    return config.read_from(file, lines)


def _json_of(document: Any, file: Path) -> str:
    try:
        return json.dumps(document, default=_as_text)
    except ValueError as error:  # such as a number of more than 4,300 digits
        raise ConfigError([f"{file}: a value can't be used: {error}."]) from None


def _refuse_credentials(report: _Report) -> None:
    """Refuses logins in URLs and queries of endpoints: the config is stored with the results, and shown in reports.

    Raises:
        ConfigError: Has a sentence per value, without the value.
    """
    faults = []
    for path, text in _texts(report.document, ()):
        fault = url_fault(text, is_endpoint=path[-2:] == ("endpoint", "url"))
        if fault is not None:
            add_url_secrets(text)
            faults.append(f"{report.place(path)}{dotted(path)} {fault}.")
    if faults:
        raise ConfigError(faults)


def _texts(value: Any, path: ConfigPath) -> Iterator[tuple[ConfigPath, str]]:
    if isinstance(value, str):
        yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from _texts(item, (*path, key))


def _parse(file: Path) -> tuple[Any, dict[ConfigPath, int]]:
    """Returns the file's plain data, and the 1-based line of every key and list item."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{file}: there is no such file."]) from None
    except IsADirectoryError:
        raise ConfigError([f"{file}: this is a folder; give the YAML file in it."]) from None
    except OSError as error:
        raise ConfigError([f"{file}: can't be read ({error.strerror})."]) from None
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError([f"{file}, line {line}: not valid UTF-8; save the file as UTF-8."]) from None
    data, lines, faults = read_yaml(text)
    if faults:
        raise ConfigError([f"{file}{', ' if fault.startswith('line ') else ': '}{fault}" for fault in faults])
    if data is None:
        raise ConfigError([f"{file}: the file is empty; a config needs name, models and tasks."])
    return data, lines


def _as_text(value: Any) -> str:
    """Returns the text of a YAML date, which people write without quotes."""
    assert isinstance(value, datetime.date), value
    return str(value)


def _apply_override(document: Any, override: str) -> ConfigPath:
    """Sets one dotted key in the plain data, adding missing mappings, and returns its path."""
    key, separator, raw = override.partition("=")
    if not separator or not key:
        raise ConfigError([f"--set {override!r}: write it as key=value, such as runtime.device=cpu."])
    value, _, faults = read_yaml(raw)
    if faults:
        reason = "the value is not valid YAML." if "not valid YAML" in faults[0] else faults[0].partition(": ")[2]
        raise ConfigError([f"--set {override!r}: {reason}"])
    target = document
    *parents, last = key.split(".")
    path: ConfigPath = ()
    for part in parents:
        path = (*path, int(part) if isinstance(target, list) and part.isdecimal() else part)
        target = _child(target, part, override)
    if isinstance(target, list):
        _child(target, last, override)
        target[int(last)] = value
        return (*path, int(last))
    if isinstance(target, dict):
        target[last] = value
        return (*path, last)
    what = ".".join(parents) or "the config"
    raise ConfigError([f"--set {override!r}: {what} is a plain value without keys."])


def _child(target: Any, part: str, override: str) -> Any:
    if isinstance(target, list):
        if not part.isdecimal() or int(part) >= len(target):
            raise ConfigError([f"--set {override!r}: {part!r} is not an index of a list with {len(target)} items."])
        return target[int(part)]
    if isinstance(target, dict):
        if target.get(part) is None:
            target[part] = {}
        return target[part]
    raise ConfigError([f"--set {override!r}: {part!r} can't be set inside a plain value."])


class _Report:
    """Turns pydantic's errors into sentences with file, line, value and what is allowed."""

    def __init__(
        self, file: Path, lines: Mapping[ConfigPath, int], document: Any, overridden: Mapping[ConfigPath, str]
    ) -> None:
        self.file, self.lines, self.document, self.overridden = file, lines, document, overridden

    def follows_from_others(self, detail: Any) -> bool:
        """Returns whether pydantic reports an error only because of others, such as a list emptied by its bad items."""
        location = _plain_location(detail["loc"])
        return (detail["type"] == "too_short" and bool(_lookup(self.document, location))) or not location

    def sentence(self, detail: Any) -> str:
        kind, path = detail["type"], _plain_location(detail["loc"])
        error = detail.get("ctx", {}).get("error")
        path = (*path, *error.path) if isinstance(error, FaultBelow) else path
        parent = dotted(path[:-1]) or "the config"
        where, raw = dotted(path), _lookup(self.document, path)
        value = _short(raw)
        match kind:
            case "extra_forbidden":
                allowed = _allowed_keys(path[:-1], self.document)
                return f"{self.place(path)}unknown key {path[-1]!r} in {parent}{_near(str(path[-1]), allowed)}."
            case "missing":
                return f"{self.place(path[:-1])}{parent} has no key {path[-1]!r}, which is required."
            case "union_tag_not_found" | "union_tag_invalid":
                kinds = ", ".join(TASK_KINDS)
                return f"{self.place(path)}{where} needs exactly one of the keys {kinds}; it is {value}."
            case "literal_error" if detail["loc"][-1] == "[key]":
                allowed = [name.strip("' ") for name in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
                return f"{self.place(path)}{parent} has the key {path[-1]!r}{_near(str(path[-1]), allowed)}."
            case "literal_error":
                allowed = [name.strip("' ") for name in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
                return f"{self.place(path)}{where} is {value}{_near(str(raw), allowed)}."
            case "value_error":
                return f"{self.place(path)}{where} is {value}: {error}."
            case "string_pattern_mismatch":
                field = _fields(path[:-1], self.document)[str(path[-1])]
                return f"{self.place(path)}{where} is {value}; expected: {field.description}"
            case "tuple_type":
                example = "" if raw is None else f", such as [{raw if isinstance(raw, str) else value}]"
                return f"{self.place(path)}{where} is {value}: it must be a list{example}."
        return f"{self.place(path)}{where} is {value}: {_plain_message(detail)}."

    def name_sentences(self) -> list[str]:
        """Returns repeated labels and unknown protocols, which are found even where other keys are wrong."""
        models, protocols = _lookup(self.document, ("models",)), _lookup(self.document, ("protocols",))
        rows = []
        for position, entry in enumerate(models if isinstance(models, list) else []):
            if isinstance(entry, dict) and isinstance(entry.get("label"), str):
                protocol = entry.get("protocol")
                for label in _row_labels(entry):
                    rows.append((position, label, protocol if isinstance(protocol, str) else None))
        problems = name_problems(rows, [str(name) for name in protocols] if isinstance(protocols, dict) else [])
        return [f"{self.place(path)}{sentence}." for path, sentence in problems]

    def place(self, path: ConfigPath) -> str:
        """Returns file and line of a value, or of the nearest key above it; or the --set option that set it."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.overridden:
                return f"--set {self.overridden[path[:depth]]!r}: "
        for depth in range(len(path), -1, -1):
            if path[:depth] in self.lines:
                return f"{self.file}, line {self.lines[path[:depth]]}: "
        return f"{self.file}: "


def _plain_location(location: Sequence[str | int]) -> ConfigPath:
    """Returns pydantic's location without the tag of the task union and the key mark, which are not in the file."""
    if location and location[-1] == "[key]":
        location = location[:-1]
    if len(location) > 2 and location[0] == "tasks":
        return (*location[:2], *location[3:])
    return tuple(location)


def _row_labels(entry: dict[str, Any]) -> list[str]:
    """Returns the labels of all rows that an entry of models: makes, or its own label where the entry is faulty."""
    try:
        return [row.label for row in ModelConfig.model_validate_json(json.dumps(entry, default=_as_text)).rows()]
    except ValueError:
        return [entry["label"]]


def _lookup(document: Any, path: ConfigPath) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _allowed_keys(path: ConfigPath, document: Any) -> list[str]:
    return [field.alias or name for name, field in _fields(path, document).items() if not field.exclude]


def _fields(path: ConfigPath, document: Any) -> Mapping[str, FieldInfo]:
    """Returns the fields of the mapping that is at a place of the config; none where no such mapping is known."""
    model: type[BaseModel] | None = RunConfig if not path else None
    if path[:1] == ("models",):
        own: dict[str, type[BaseModel]] = {"stored": StoredForm, "grid": Grid, "endpoint": EndpointConfig}
        model = own.get(str(path[2]) if len(path) > 2 else "", ModelConfig)
        model = Rescoring if path[4:5] == ("rescore",) else model
    elif path[:1] == ("tasks",):
        entry = _lookup(document, path)
        kinds = [kind for kind in TASK_KINDS if isinstance(entry, dict) and kind in entry]
        model = TASK_KINDS[kinds[0]] if kinds else None
    elif path[:1] == ("protocols",):
        model = ProtocolConfig if len(path) == 2 else ProtocolChange
    elif path[:1] == ("limit",):
        model = Limit
    elif path[:1] == ("runtime",):
        model = Runtime
    return {} if model is None else model.model_fields


def _near(value: str, allowed: Sequence[str]) -> str:
    nearest = nearest_hint(value, allowed)
    return f"{nearest} (allowed: {', '.join(allowed)})" if allowed else nearest


def _plain_message(detail: Any) -> str:
    wanted = {
        "string_type": "it must be a string (put it in quotes)",
        "int_type": "it must be a whole number",
        "bool_type": "it must be true or false",
        "dict_type": "it must be a mapping of keys to values",
        "model_type": "it must be a mapping of keys to values",
    }
    if detail["type"] == "too_short":
        return "the list must not be empty"
    message = str(detail["msg"])
    return wanted.get(detail["type"], message[0].lower() + message[1:])


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}.get(
        type(value), type(value).__name__
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
