"""End to end: whole processes from start to stored scores, against mteb with its own wrapper at its defaults.

    python benchmarks/end_to_end.py --data FOLDER [--dtype float32] [--pairs 1] [--task NAME]...

FOLDER holds Banking77Classification, STSBenchmark and SciFact in the layout of local data. Both sides run real E5-small
weights under the rules of mteb's registry (protocol `mteb`), the same texts through the same task classes, no cache of
vectors on either side. Printed beside the ratio: each task's main score on both sides, and the larger of 0.1 points and
three single-rank swaps, within which they must agree when precisions differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import last_line

TASKS = ("Banking77Classification", "STSBenchmark", "SciFact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin:multilingual-e5-small")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--pairs", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _write_config(folder, options)
        seconds: dict[str, list[float]] = {"rival": [], "ours": []}
        for pair in range(options.pairs):
            sides = [("rival", _rival(config, folder)), ("ours", _ours(config, folder, pair))]
            for side, command in sides if pair % 2 == 0 else reversed(sides):
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                seconds[side].append(time.perf_counter() - started)
        rival_scores = json.loads((folder / "rival.json").read_text(encoding="utf-8"))
        records = _records(folder / "results-0" / "end-to-end")
    _report(seconds, rival_scores, records, options.dtype)


def _write_config(folder: Path, options: argparse.Namespace) -> Path:
    """JSON is YAML."""
    tasks = [{"mteb": task, "data": str((options.data / task).resolve())} for task in options.task or TASKS]
    model = {"label": "model", "model": options.model, "protocol": "mteb", "dtype": options.dtype}
    config = {"name": "end-to-end", "models": [model], "tasks": tasks, "runtime": {"cache": False}}
    for task in tasks:
        task["splits"] = ["test"]
    file = folder / "config.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    return file


def _rival(config: Path, folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("rival_mteb.py")), str(config), str(folder / "rival.json")]


def _ours(config: Path, folder: Path, pair: int) -> list[str]:
    command = Path(sys.executable).parent / "run-benchmark"
    return [str(command), str(config), "--output", str(folder / f"results-{pair}"), "--quiet"]


def _records(run: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in run.glob("jobs/*/*/*/record.json")]
    return {record["task"]: record for record in found}


def _report(
    seconds: dict[str, list[float]], rival: dict[str, float], records: dict[str, dict[str, Any]], dtype: str
) -> None:
    print(f"{'task':28} {'rival':>8} {'ours':>8} {'points':>8} {'allowed':>8}")
    worst = 0.0
    for task, score in rival.items():
        ours = records[task]["main_score"]
        allowed = max(0.1, 100 * 3 * _one_swap(records[task]))
        worst = max(worst, abs(ours - score) * 100 / allowed)
        print(f"{task:28} {100 * score:8.3f} {100 * ours:8.3f} {100 * (ours - score):+8.3f} {allowed:8.3f}")
    settings = next(iter(records.values()))["provenance"]["model"]["settings"]
    figures = {
        "benchmark": "end_to_end",
        "dtype": settings["dtype"],
        "rival_s": [round(value, 1) for value in seconds["rival"]],
        "ours_s": [round(value, 1) for value in seconds["ours"]],
        "ratio": round(statistics.median(a / b for a, b in zip(seconds["rival"], seconds["ours"], strict=True)), 2),
        "largest_difference_of_allowed": round(worst, 3),
        "asked_dtype": dtype,
    }
    for name, value in figures.items():
        print(f"{name:32} {value}")
    last_line(figures)


def _one_swap(record: dict[str, Any]) -> float:
    """How much one swap of neighbouring ranks can move a main score, 0-1, roughly: one example, or one query's top."""
    counts = {"Classification": 3080 * 10, "STS": 1379}
    if record["type"] == "Retrieval":
        return (1 - 1 / 1.585) / 300  # nDCG: rank 1 to rank 2 of one of 300 queries
    return 1 / counts.get(record["type"], 1000)


if __name__ == "__main__":
    main()
