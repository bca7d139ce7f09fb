"""A model as a run resolves it: through a config file, on the processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation import load_config
from evaluation.execution.resolving import ResolvedModel, resolve_model


def resolve(model: Path | str, folder: Path, **options: Any) -> ResolvedModel:
    """Resolve a model under options of its row; the config is written to `folder`."""
    declared = {"label": "a", "model": str(model), "protocol": "none", **options}
    document = {"name": "t", "models": [declared], "tasks": [{"mteb": "STSBenchmark"}], "runtime": {"device": "cpu"}}
    file = folder / "config.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    config = load_config(file)
    return resolve_model(config, config.models[0])
