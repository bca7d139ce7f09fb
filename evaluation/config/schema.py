"""Writes configs/schema.json for editors and configs/README.md for people, from the config's models.

Run it as `python -m evaluation.config.schema`. Names, types and descriptions are those of the declared models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.config.expansion import EXTENSION_PREFIX
from evaluation.config.run_config import RunConfig

SCHEMA_FILE = Path(__file__).parents[2] / "configs" / "schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The dialect that pydantic writes: https://docs.pydantic.dev/latest/concepts/json_schema/."""


def build_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a config file.

    It is looser than `load_config`: it lacks what depends on other values, such as repeated labels and protocol names.
    """
    schema = RunConfig.model_json_schema()
    row = schema["$defs"]["ModelConfig"]
    row["anyOf"] = [{"required": row.pop("required")}, {"required": ["folders"]}]
    anchors: dict[str, Any] = {"patternProperties": {f"^{EXTENSION_PREFIX}": {}}}
    return {"$schema": DIALECT, **schema, **anchors, "title": "Config of run-benchmark"}


def render_schema() -> str:
    """Returns the content of the shipped schema."""
    return json.dumps(build_schema(), ensure_ascii=False, indent=2) + "\n"


def render_reference() -> str:
    """Returns all options in Markdown, a table for each mapping of a config."""
    schema = build_schema()
    parts = [
        "# Config reference",
        "Generated from `evaluation/config/` by `make schema`. Unknown keys, wrong types and unknown names are errors.",
        *_reference_table("The file", schema, schema["$defs"]),
    ]
    for name, definition in schema["$defs"].items():
        parts += _reference_table(_heading(name), definition, schema["$defs"])
    return "\n\n".join(parts) + "\n"


def _reference_table(heading: str, definition: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    required = definition.get("required") or definition.get("anyOf", [{}])[0].get("required", [])
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, option in definition["properties"].items():
        default = "required" if key in required else f"`{json.dumps(option['default'])}`" if "default" in option else ""
        kind = _kind_of(option, definitions).replace("|", "\\|")
        rows.append(f"| `{key}` | {kind} | {default} | {option.get('description', '')} |")
    return [f"## {heading}", definition.get("description", ""), "\n".join(rows)]


def _kind_of(option: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Describes an option's value in words."""
    if "$ref" in option:
        heading = _heading(option["$ref"].rpartition("/")[2])
        return f"[{heading}](#{heading.lower().replace(' ', '-')})"
    if "enum" in option:
        return ", ".join(map(str, option["enum"]))
    if "const" in option:
        return str(option["const"])
    for union in ("anyOf", "oneOf"):
        if union in option:
            return " or ".join(_kind_of(choice, definitions) for choice in option[union])
    if option.get("type") == "array":
        return f"list of {_kind_of(option.get('items', {}), definitions)}"
    if option.get("type") == "object" and isinstance(option.get("additionalProperties"), dict):
        return f"mapping of names to {_kind_of(option['additionalProperties'], definitions)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
    return words.get(str(option.get("type")), str(option.get("type", "any value")))


def _heading(name: str) -> str:
    """Returns a model's name as people read it: MtebTask -> Mteb task."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return (spaced[0].upper() + spaced[1:]).removesuffix(" config")


def main() -> None:
    """Writes both files to configs/ of this checkout."""
    SCHEMA_FILE.write_text(render_schema(), encoding="utf-8")
    SCHEMA_FILE.with_name("README.md").write_text(render_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
