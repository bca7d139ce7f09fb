"""What check-regression says of weights with noise: E5-small against itself with 0, 1, 5 and 20 % of Gaussian noise.

Percent are of each weight matrix's standard deviation. The suite is the quickstart's eight tasks and, with --data,
Banking77 and STSBenchmark from local folders. 0 % is a rerun of the same weights in other batches, which sums in other
orders, as other processors do. Exits with 1 unless 0 and 1 % pass and 20 % fail.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from evaluation import load_config, run
from evaluation.commands.check_regression.command import main as check_regression
from evaluation.models.builtin import materialize

MODEL = "multilingual-e5-small"
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
MUST_PASS, MUST_FAIL = (0.0, 1.0), (20.0,)
OTHER_BATCHES = 700
"""Tokens a batch of the noisy runs; a CPU's default is 2048."""


def add_noise(checkpoint: Path, target: Path, percent: float, *, seed: int) -> Path:
    """A copy of a checkpoint whose weight matrices carry Gaussian noise, in percent of their standard deviation."""
    shutil.copytree(checkpoint, target)
    if not percent:
        return target
    weights = load_file(checkpoint / "model.safetensors")
    rng = np.random.default_rng(seed)
    for name in sorted(weights):
        matrix = weights[name]
        if matrix.ndim > 1:
            noise = rng.standard_normal(matrix.shape, np.float32)
            weights[name] = matrix + noise * np.float32(percent / 100 * matrix.std())
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def score(model: str, name: str, folder: Path, data: Path | None, runtime: dict[str, Any]) -> Path:
    """Run the suite on a model; what is stored is not run again. Returns the run's folder."""
    quickstart = load_config(QUICKSTART)
    tasks = [task.model_dump(mode="json", exclude_defaults=True) for task in quickstart.tasks]
    for task in tasks:
        task["data"] = str(quickstart.resolve_data(task["data"]))
    if data is not None:
        tasks += [{"mteb": task, "data": str(data / task)} for task in ("Banking77Classification", "STSBenchmark")]
    model_config = {"label": "E5-small", "model": model, "protocol": "e5", "dtype": "float32"}
    document = {"name": name, "models": [model_config], "tasks": tasks, "runtime": runtime, "output": str(folder)}
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    outcome = run(load_config(file))
    if outcome.failed:
        sys.exit(f"{name}: {outcome.failed[0].task} failed: {outcome.failed[0].error}")
    return outcome.folder


def gate(run_folder: Path, baseline: Path) -> tuple[int, str]:
    """Exit code and output of the command itself."""
    arguments, output = sys.argv, io.StringIO()
    sys.argv = ["check-regression", str(run_folder), "--baseline", str(baseline)]
    try:
        with contextlib.redirect_stdout(output):
            check_regression()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = arguments
    return code, output.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--percent", type=float, nargs="+", default=[0.0, 1.0, 5.0, 20.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="holds Banking77Classification and STSBenchmark")
    parser.add_argument("--folder", type=Path, default=Path("results/gate"), help="where the runs are kept")
    options = parser.parse_args()
    data = options.data.absolute() if options.data else None
    folder = options.folder.absolute()
    baseline = score(f"builtin:{MODEL}", "baseline", folder, data, {})
    codes = {}
    for percent in options.percent:
        name = f"noise-{percent:g}-seed-{options.seed}"
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            noisy = add_noise(materialize(MODEL), Path(scratch) / name, percent, seed=options.seed)
            found = score(str(noisy), name, folder, data, {"cache": False, "max_tokens": OTHER_BATCHES})
        code, output = gate(found, baseline)
        print(f"\n===== {percent:g} % noise, seed {options.seed}: exit code {code}\n{output}", flush=True)
        codes[percent] = code
    wrong = [percent for percent in MUST_PASS if codes.get(percent)]
    wrong += [percent for percent in MUST_FAIL if codes.get(percent) == 0]
    print(json.dumps({"exit_codes": {f"{percent:g}": code for percent, code in codes.items()}, "as_asked": not wrong}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
