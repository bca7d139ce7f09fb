"""RunConfig -> configs/schema.json, so that editors complete and check configs (python -m evaluation.config_schema).

Knows nothing of the options themselves: names, types and descriptions are those of `evaluation.config`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.config import RunConfig

SCHEMA_FILE = Path(__file__).parents[1] / "configs" / "schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""What pydantic writes: https://docs.pydantic.dev/latest/concepts/json_schema/."""


def build_schema() -> dict[str, Any]:
    """The JSON Schema of a config file; the same at every call.

    It is looser than `load_config`: what depends on other values (labels used twice, names of protocols) is not in it.
    """
    schema = RunConfig.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "Config of run-benchmark"}


def render_schema() -> str:
    """The content of the shipped file."""
    return json.dumps(build_schema(), ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Write the schema to configs/ of this checkout."""
    SCHEMA_FILE.write_text(render_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
