"""Reads untrusted YAML with limits on values, aliases and depth: without them, kilobytes can describe gigabytes."""

from __future__ import annotations

from typing import Any

import yaml

_MAX_DEPTH = 100


def compose_yaml(text: str, *, max_characters: int = 1 << 24, max_values: int = 2_000_000) -> yaml.Node | None:
    """Returns the node of a YAML text; None where it is empty.

    Args:
        max_characters: How long it may be.
        max_values: How many values it may stand for, each alias counted in full.

    Raises:
        ValueError: It is larger, contains itself, or is nested too deeply.
        yaml.YAMLError: It is not valid YAML.
    """
    if len(text) > max_characters:
        raise ValueError(f"it has {len(text):,} characters; at most {max_characters:,} are read")
    if sum(text.count(mark) for mark in ",\n[{") > max_values:  # before the slow work
        raise ValueError(f"it holds more than {max_values:,} values")
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _count_values(node, {}, 0) > max_values:
            raise ValueError(f"it stands for more than {max_values:,} values, aliases (*name) counted in full")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return node


def construct_yaml(node: yaml.Node | None) -> Any:
    """Returns the plain data of a composed node."""
    return None if node is None else yaml.SafeLoader("").construct_document(node)


def parse_yaml(text: str) -> Any:
    """Returns the plain data of a YAML text, read safely; raises as `compose_yaml` does."""
    return construct_yaml(compose_yaml(text))


def _count_values(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Counts the values that a node stands for, each alias in full; a node is walked once."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise ValueError(f"line {node.start_mark.line + 1}: an alias (*name) stands for a value that contains it")
        return known[id(node)]
    if depth > _MAX_DEPTH:
        raise ValueError(f"line {node.start_mark.line + 1} is nested too deeply")
    known[id(node)] = 0
    children = node.value if isinstance(node, yaml.SequenceNode) else ()
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    known[id(node)] = count = 1 + sum(_count_values(child, known, depth + 1) for child in children)
    return count
