"""Growth: processor time and peak memory as the work grows, each measurement in a process of its own.

    python benchmarks/growth.py [--only WORK]... [--largest [WORK=]N]... [--folder FOLDER]
                                [--json FILE] [--markdown FILE] [--picture FILE.svg]

encode short, encode long    real words in texts of about 10 and 230 words, distinct, by a random model of two layers
search                       streamed documents of width 384, 100 queries, the best 100 of each
plan                         `run-benchmark --plan` of up to 20 models on mteb's tasks
compare, report              `compare-results` and `write-report`, models on the 56 tasks of MTEB(eng, v1)
gate                         `check-regression`, one model on retrieval tasks of 200 queries

Exponents are of time: the slope of log seconds over log size, least squares over the two upper decades, both less what
the smallest size has, which is mostly start-up. Bytes per unit: what the peak grew from the smallest size to the
largest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

# Only what every process has: a child's peak is at least its parent's size when it was started.

HERE, BIN = Path(__file__).resolve(), Path(sys.executable).parent
BENCHMARK, BLOCK, WIDTH, QUERIES = "MTEB(eng, v1)", 16_384, 384, 100
MOST_MODELS, GATE_QUERIES = 20, 200
WORDS = {"encode short": 10, "encode long": 230}
SHARED = {"report": "compare", "encode long": "encode short"}
"""Works that need what another one does, which is built once."""


class Work(NamedTuple):
    """What grows: the name of a unit, and the sizes at which it is measured."""

    unit: str
    sizes: tuple[int, ...]


def _half_decades(first: int, last: int) -> tuple[int, ...]:
    sizes = [factor * 10**power for power in range(1, 9) for factor in (1, 3)]
    return tuple(size for size in sizes if first <= size <= last)


WORKS: Mapping[str, Work] = {
    "encode short": Work("texts", _half_decades(1_000, 1_000_000)),
    "encode long": Work("texts", _half_decades(1_000, 100_000)),
    "search": Work("documents", _half_decades(10_000, 10_000_000)),
    "plan": Work("jobs", _half_decades(10, 10_000)),
    "compare": Work("models", (2, 5, 10, 20, 50, 100)),
    "report": Work("models", (2, 5, 10, 20, 50, 100)),
    "gate": Work("tasks", _half_decades(10, 1_000)),
}


class Point(NamedTuple):
    """One measurement: processor seconds and peak memory of a whole process."""

    size: int
    seconds: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(WORKS), help="this work; repeatable")
    parser.add_argument("--largest", action="append", default=[], metavar="[WORK=]N", help="leave out larger sizes")
    parser.add_argument("--folder", type=Path, help="where runs and models are written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    parser.add_argument("--picture", type=Path, help="an SVG file")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = measure(chosen_sizes(options.only, options.largest), Path(name))
    text = table(found)
    print(f"{text}\n\nload of the machine before: {load:.2f} on {os.cpu_count()} cores")
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    if options.picture:
        draw(found, options.picture)
    points = {work: [point._asdict() for point in own] for work, own in found.items()}
    exponents = {work: exponent(own) for work, own in found.items()}
    figures = {"benchmark": "growth", "load": round(load, 2), "exponents": exponents, "points": points}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(json.dumps(figures))


def chosen_sizes(only: Sequence[str] | None, largest: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The sizes of each work that is measured; the smallest size always is.

    Args:
        only: Works; None: all.
        largest: Limits such as "search=1000000", or "1000" for all works.
    """
    limits: dict[str, int] = {}
    for limit in largest:
        work, _, number = limit.rpartition("=")
        if work and work not in WORKS:
            raise SystemExit(f"--largest {limit}: no such work (known: {', '.join(WORKS)})")
        limits |= {name: int(number) for name in WORKS if not work or name == work}
    return {
        name: tuple(size for size in work.sizes if size <= max(limits.get(name, work.sizes[-1]), work.sizes[0]))
        for name, work in WORKS.items()
        if not only or name in only
    }


# ---------------------------------------------------------------------------------------------------------- measuring


def measure(sizes: Mapping[str, Sequence[int]], folder: Path) -> dict[str, list[Point]]:
    """Builds what each work needs, in processes of their own, and measures every size."""
    found: dict[str, list[Point]] = {}
    for work, own in sizes.items():
        place = folder / SHARED.get(work, work).replace(" ", "-")
        if not place.exists():
            place.mkdir()
            needed = {
                size
                for other, them in sizes.items()
                if SHARED.get(other, other) == SHARED.get(work, work)
                for size in them
            }
            measured([sys.executable, str(HERE), "--build", work, str(place), *map(str, sorted(needed))], place)
        if work == "plan":  # the speed of the model is measured once per machine
            measured(command(work, own[0], place), place)
        found[work] = []
        for size in own:
            found[work].append(Point(size, *measured(command(work, size, place), place)))
            print(f"{work}: {size:,} {WORKS[work].unit}: {found[work][-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def command(work: str, size: int, place: Path) -> list[str]:
    """The command line that does a work of a size."""
    run = str(place / str(size))
    match work:
        case "plan":
            return [str(BIN / "run-benchmark"), f"{run}.yaml", "--plan", "--quiet"]
        case "compare":
            return [str(BIN / "compare-results"), run]
        case "report":
            return [str(BIN / "write-report"), run, "--output", f"{run}.html"]
        case "gate":
            return [str(BIN / "check-regression"), run, "--baseline", f"{run}-before"]
        case _:
            return [sys.executable, str(HERE), "--do", work, str(place), str(size)]


def measured(arguments: Sequence[str], place: Path) -> tuple[float, float]:
    """Runs a command. Returns its processor seconds, user and system, and its peak in MiB."""
    log = place / "log.txt"
    environment = {**os.environ, "E5_EVALUATION_CACHE": str(place / "cache")}
    with log.open("w") as stream:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=stream, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: a gate that found a regression
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{log.read_text()[-2_000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def exponent(points: Sequence[Point]) -> float | None:
    """The slope of log seconds over log size in the two upper decades; None with fewer than two points above the first.

    >>> exponent([Point(n, 2.0 + 0.001 * n**2, 0.0) for n in (1, 10, 100, 1000)])
    2.0
    """
    first, *others = points
    upper = [p for p in others if 100 * p.size >= points[-1].size and p.seconds > first.seconds]
    if len(upper) < 2:
        return None
    sizes = [math.log(p.size - first.size) for p in upper]
    return round(statistics.linear_regression(sizes, [math.log(p.seconds - first.seconds) for p in upper]).slope, 2)


def bytes_per_unit(points: Sequence[Point]) -> float | None:
    """What a unit adds to the peak; None with one point."""
    first, last = points[0], points[-1]
    return None if first is last else 2**20 * (last.peak_mib - first.peak_mib) / (last.size - first.size)


def table(found: Mapping[str, Sequence[Point]]) -> str:
    """The figures as Markdown, a row per work."""
    lines = ["| work | sizes | seconds | peak MiB | exponent | bytes per unit |", "|---|---:|---:|---:|---:|---:|"]
    for work, points in found.items():
        slope, grown = exponent(points), bytes_per_unit(points)
        columns = (
            f"{', '.join(f'{p.size:,}' for p in points)} {WORKS[work].unit}",
            ", ".join(f"{p.seconds:.1f}" for p in points),
            ", ".join(f"{p.peak_mib:.0f}" for p in points),
            "" if slope is None else f"{slope:.2f}",
            "" if grown is None else f"{grown:,.0f}",
        )
        lines.append(f"| {work} | {' | '.join(columns)} |")
    return "\n".join(lines)


def draw(found: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Draws seconds over size, both logarithmic, a line per work."""
    import altair as alt
    import vl_convert

    rows = [{"work": work, "size": p.size, "seconds": p.seconds} for work, points in found.items() for p in points]
    chart = alt.Chart(alt.InlineData(values=rows), width=480, height=320).mark_line(point=True)
    drawn = chart.encode(
        x=alt.X("size:Q", scale=alt.Scale(type="log"), title="Texts, documents, jobs, models or tasks"),
        y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), title="Processor seconds"),
        color=alt.Color("work:N", sort=list(found), title=None),
    )
    file.write_text(vl_convert.vegalite_to_svg(drawn.to_dict()), encoding="utf-8")


# ----------------------------------------------------------------------------------------------- in the other processes


def build(work: str, place: Path, sizes: Sequence[int]) -> None:
    """Writes what a work needs at all sizes."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    match work:
        case "encode short" | "encode long":
            from encode import random_checkpoint

            random_checkpoint("two layers", place)
        case "plan":
            for size in sizes:
                (place / f"{size}.yaml").write_text(json.dumps(_plan_config(size)), encoding="utf-8")
        case "compare" | "report":
            _write_runs(place, sizes)
        case "gate":
            _write_gates(place, sizes)


def _plan_config(n_jobs: int) -> dict[str, Any]:
    from evaluation.tasks.index import load_index
    from evaluation.tasks.installed_mteb import load_statistics

    index = load_index()
    n_models = min(MOST_MODELS, max(1, n_jobs // 10))
    names = dict.fromkeys(task.name for own in map(index.benchmark, index.benchmark_names) for task in own)
    entries = map(index.task, names)
    known = (entry.name for entry in entries if entry.is_text and not entry.parts and load_statistics(entry))
    tasks = list(islice(known, n_jobs // n_models))
    models = [
        {"label": f"model-{n}", "model": "intfloat/e5-small-v2", "protocol": "e5", "revision": f"{n:040x}"}
        for n in range(n_models)
    ]
    return {"name": f"plan-{n_jobs}", "models": models, "tasks": [{"mteb": name} for name in tasks]}


def _write_runs(place: Path, sizes: Sequence[int]) -> None:
    """Writes the largest run; the others list the first models of it."""
    from support.synthetic_suite import write_suite

    from evaluation.records.store import RunStore
    from evaluation.tasks.index import load_index

    names = [task.name for task in load_index().benchmark(BENCHMARK)]
    whole = RunStore(write_suite(place / str(sizes[-1]), names, n_models=sizes[-1], store_texts=False))
    manifest = whole.read_run()
    labels = list(dict.fromkeys(job.label for job in manifest.jobs))
    for size in sizes[:-1]:
        folder = place / str(size)
        folder.mkdir()
        (folder / "jobs").symlink_to(whole.folder / "jobs")
        jobs = tuple(job for job in manifest.jobs if job.label in labels[:size])
        RunStore(folder).write_run(manifest.model_copy(update={"jobs": jobs}))


def _write_gates(place: Path, sizes: Sequence[int]) -> None:
    import numpy as np
    from support.fake_runs import retrieval, write_run

    rng = np.random.default_rng(0)
    before = rng.random((sizes[-1], GATE_QUERIES))
    now = np.clip(before + rng.normal(0, 0.05, before.shape), 0, 1)
    for size in sizes:
        for name, values in ((str(size), now), (f"{size}-before", before)):
            write_run(place / name, [retrieval(values[n], task=f"Task{n:04}") for n in range(size)])


def do(work: str, place: Path, size: int) -> None:
    """Encodes or searches; prints nothing."""
    if work == "search":
        _search(size)
        return
    from encode import read_texts
    from host import distinct_texts

    from evaluation.encoding.encoder import Encoder
    from evaluation.encoding.settings import EncoderSettings, resolve_max_tokens
    from evaluation.models.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(place, name="random/two-layers", revision=None)
    max_tokens = resolve_max_tokens("auto", "cpu", checkpoint.embedding_dim)
    encoder = Encoder(checkpoint, EncoderSettings("transformers", "mean", 512, "float32", "cpu", max_tokens))
    encoder.encode(distinct_texts(" ".join(read_texts(None, None)).split(), WORDS[work], size))


def _search(size: int) -> None:
    import numpy as np

    from evaluation.search.exact import ExactSearch

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((min(BLOCK, size), WIDTH)).astype(np.float32)
    search = ExactSearch(rng.standard_normal((QUERIES, WIDTH)).astype(np.float32), k=100)
    for start in range(0, size, BLOCK):
        block = np.roll(vectors[: size - start], start // BLOCK, axis=1)  # other documents at no cost
        search.add(block, [f"document {start + row}" for row in range(len(block))])
    found = search.result()
    assert len(search.document_ids(found.positions)) == QUERIES


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["--build"]:
            build(sys.argv[2], Path(sys.argv[3]), [int(size) for size in sys.argv[4:]])
        case ["--do"]:
            do(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        case _:
            main()
