"""Start-up: `run-benchmark --help` against `mteb --help`, a config error and a comparison, whole processes, seconds.

The comparison is of published scores, 13 models on the 56 tasks of MTEB(eng, v1).

python benchmarks/startup.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import alternate, last_line, ratio

BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    theirs, ours = alternate(
        lambda: _call([BIN / "mteb", "--help"]), lambda: _call([BIN / "run-benchmark", "--help"]), options.pairs
    )
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken.yaml"
        broken.write_text("name: x\nmodels: []\ntaks: []\n", encoding="utf-8")
        _, faults = alternate(lambda: None, lambda: _call([BIN / "run-benchmark", broken]), options.pairs)
    arguments = ["--published", "--mixed", "--benchmark", "MTEB(eng, v1)", "--model", "*card", "--model", "all-MiniLM*"]
    _, compared = alternate(lambda: None, lambda: _call([BIN / "compare-results", *arguments]), options.pairs)
    figures = {
        "benchmark": "startup",
        "mteb_help_s": round(statistics.median(theirs), 3),
        "help_s": round(statistics.median(ours), 3),
        "config_error_s": round(statistics.median(faults), 3),
        "compare_56x13_s": round(statistics.median(compared), 3),
        "ratio": round(ratio(theirs, ours), 1),
    }
    for name, value in figures.items():
        print(f"{name:16} {value}")
    last_line(figures)


def _call(command: list[Path | str]) -> None:
    subprocess.run([str(part) for part in command], capture_output=True, check=False)


if __name__ == "__main__":
    main()
