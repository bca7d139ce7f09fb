"""Reads YAML text as plain data, and notes the line and the faults of every key and list item. Loads safely only.

Knows nothing of the options of a config.
"""

from __future__ import annotations

from typing import Any

import yaml

from evaluation.config.run_config import ConfigPath
from evaluation.system.limited_yaml import compose_yaml, construct_yaml

_MAX_DEPTH, _MAX_CHARACTERS, _MAX_VALUES = 50, 1 << 19, 100_000
_KEY_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "merge"))
_FOREIGN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("binary", "set", "omap", "pairs"))


def read_yaml(text: str) -> tuple[Any, dict[ConfigPath, int], list[str]]:
    """Returns plain data, the line of every key and list item, and the faults, each with its line where known."""
    lines: dict[ConfigPath, int] = {}
    faults: list[str] = []
    try:
        node = compose_yaml(text, max_characters=_MAX_CHARACTERS, max_values=_MAX_VALUES)
        if node is not None:
            _collect_lines(node, (), lines, faults)
        return construct_yaml(node), lines, faults
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        return None, lines, [f"{where}not valid YAML ({reason})."]
    except (ValueError, RecursionError) as error:
        where, colon, what = str(error).partition(": ")
        if where.startswith("line ") and colon:
            return None, lines, [f"{where}: not valid YAML ({what})."]
        return None, lines, [f"not valid YAML ({error})."]


def _collect_lines(node: yaml.Node, path: ConfigPath, lines: dict[ConfigPath, int], faults: list[str]) -> None:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > _MAX_DEPTH:  # deeper than any config, or an anchor that contains itself
        if not any("nested" in fault for fault in faults):
            faults.append(f"line {line}: {path[0]} is nested too deeply.")
        return
    if node.tag in _FOREIGN_TAGS:
        faults.append(f"line {line}: {dotted(path)} is a YAML {node.tag.rpartition(':')[2]}, which no option accepts.")
        return
    if isinstance(node, yaml.ScalarNode) and (bad := next(filter(_is_unusable, node.value), None)) is not None:
        faults.append(f"line {line}: {dotted(path)} contains the character U+{ord(bad):04X}, which no option accepts.")
    if isinstance(node, yaml.MappingNode):
        _collect_keys(node, path, lines, faults)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[(*path, position)] = item.start_mark.line + 1
            _collect_lines(item, (*path, position), lines, faults)


def _collect_keys(node: yaml.MappingNode, path: ConfigPath, lines: dict[ConfigPath, int], faults: list[str]) -> None:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag not in _KEY_TAGS:
            faults.append(f"line {line}: a key of {dotted(path) or 'the config'} is not a string; put it in quotes.")
            continue
        if key.value in seen and key.value != "<<":
            faults.append(f"line {line}: key {key.value!r} is given twice (first in line {seen[key.value]}).")
        seen[key.value] = line
        lines[(*path, key.value)] = line
        _collect_lines(value, (*path, key.value), lines, faults)


def _is_unusable(character: str) -> bool:
    """Returns whether a character can't be used: a null byte ends paths, lone surrogates can't be encoded."""
    return character == "\0" or "\ud800" <= character <= "\udfff"


def dotted(path: ConfigPath) -> str:
    """Returns a path as messages show it, such as models[0].label."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
