"""Faithful, fast evaluation of E5 text-embedding models on MTEB and BEIR.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.analysis.comparison.compare import compare
    from evaluation.analysis.frame import results_frame
    from evaluation.analysis.gate.check import check_regression
    from evaluation.commands.run_benchmark.in_python import run
    from evaluation.commands.run_benchmark.trainer_callback import EvaluationCallback
    from evaluation.config.loading import load_config
    from evaluation.execution.runner import RunOptions
    from evaluation.models.own_encoder import NamedModel

__all__ = [
    "EvaluationCallback",
    "NamedModel",
    "RunOptions",
    "check_regression",
    "compare",
    "load_config",
    "results_frame",
    "run",
]

_HOMES = {
    "EvaluationCallback": "evaluation.commands.run_benchmark.trainer_callback",
    "NamedModel": "evaluation.models.own_encoder",
    "RunOptions": "evaluation.execution.runner",
    "compare": "evaluation.analysis.comparison.compare",
    "load_config": "evaluation.config.loading",
    "run": "evaluation.commands.run_benchmark.in_python",
    "results_frame": "evaluation.analysis.frame",
    "check_regression": "evaluation.analysis.gate.check",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
