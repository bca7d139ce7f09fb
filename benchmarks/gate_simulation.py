"""Simulates the gate, all pairs of models and the intervals: false alarms, power, coverage.

Prints the figures of docs/statistics.md, each with its simulation error (one standard error). All of them run through
the package's own functions; gates from two snapshots to the verdict. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit

from evaluation.analysis.gate import family
from evaluation.analysis.gate.matching import Case
from evaluation.analysis.gate.rule import GateRule
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.gate.verdicts import judge
from evaluation.analysis.statistics.contributions import contributions, estimate, stacked
from evaluation.analysis.statistics.paired_tests import Difference, compare_units, score_interval
from evaluation.analysis.statistics.rank_tests import corrected_pairs
from evaluation.analysis.statistics.sign_flips import Resampling
from evaluation.analysis.statistics.suite_tests import TaskErrors, mean_differences
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.analysis.task_scores import ScoredJob
from evaluation.errors import ComparisonError

N_EXAMPLES, SPREAD = 100, 0.2
"""Examples per task, and the standard deviation of one example's difference."""
DRAWS = 1_000
"""Patterns of signs per test: p that they do not resolve come from Student's t, as with the package's 10,000."""


def simulated_gate(rng: Generator, models: int, tasks: int, group: int) -> tuple[Snapshot, Snapshot]:
    """A baseline and a run of equal models.

    Args:
        rng: Draws.
        models: Of the gate.
        tasks: Per model.
        group: Tasks on the same sentences, which share half of the variance of their differences.
    """
    before, now = [], []
    for model in range(models):
        for task in range(tasks):
            if task % group == 0:
                shared = rng.normal(0, SPREAD, N_EXAMPLES)
            own = rng.normal(0, SPREAD, N_EXAMPLES)
            change = own if group == 1 else np.sqrt(0.5) * (own + shared)
            ids = tuple(f"{task // group}-{row}" for row in range(N_EXAMPLES))
            for jobs, values in ((before, np.full(N_EXAMPLES, 0.5)), (now, 0.5 + change)):
                part = UnitPart("test", "default", ids, {"value": values})
                units = Units(f"T{task}", "Retrieval", "metric", "mean", "query", (part,))
                jobs.append(
                    ScoredJob(f"m{model}", f"T{task}", "Retrieval", "metric", None, score(units), "", {}, units)
                )
    return Snapshot("run", tuple(before), {}, {}), Snapshot("run", tuple(now), {}, {})


def as_job(label: str, units: Units) -> ScoredJob:
    return ScoredJob(label, units.task, units.type, units.metric, None, score(units), "", {}, units)


def lowered(run: Snapshot, drop: float, tasks: frozenset[str] | None) -> Snapshot:
    """The run with its first model worse on some tasks; None: on all."""
    jobs = []
    for job in run.jobs:
        if job.label == "m0" and (tasks is None or job.task in tasks) and job.units is not None:
            (part,) = job.units.parts
            part = UnitPart(part.split, part.subset, part.ids, {"value": part.arrays["value"] - drop})
            jobs.append(as_job(job.label, Units(job.task, job.type, job.metric, "mean", "query", (part,))))
        else:
            jobs.append(job)
    return Snapshot(run.name, tuple(jobs), run.models, run.versions)


class RememberedTests:
    """Gates of one simulated set share the tests of the tasks that are the same in them."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Case, Difference | ComparisonError]] = {}
        self._test = family._compare
        family._compare = self

    def __call__(self, cases: Sequence[Case], n_resamples: int) -> list[Difference | ComparisonError]:
        """Tests those cases that are not known yet."""
        keys = []
        for case in cases:
            assert case.units is not None
            keys.append((id(case.units[0]), id(case.units[1])))
        new = [(key, case) for key, case in zip(keys, cases, strict=True) if key not in self._found]
        if new:
            tested = self._test([case for _, case in new], n_resamples)
            self._found |= {key: (case, own) for (key, case), own in zip(new, tested, strict=True)}
        return [self._found[key][1] for key in keys]

    def forget(self) -> None:
        """Makes room for the next set, whose units may take over the addresses of this one's."""
        self._found.clear()


def simulate_gates(rng: Generator, sets: int, layouts: list[tuple[int, int]], power: bool) -> dict[str, list[float]]:
    """False alarms of equal models, and power where one model loses on all tasks or on one."""
    found: dict[str, list[float]] = {}
    tests = RememberedTests()

    def fails(before: Snapshot, now: Snapshot, alpha: float) -> bool:
        return not judge(before, now, GateRule(alpha=alpha), n_resamples=DRAWS).passed

    for models, tasks in layouts:
        failed: dict[str, list[bool]] = {}
        for _ in range(sets):
            for group, how in ((1, "independent"), (4, "groups of 4")):
                tests.forget()
                before, now = simulated_gate(rng, models, tasks, group)
                for alpha in (0.05, 0.01):
                    failed.setdefault(f"false alarms, alpha {alpha:g}, {how}", []).append(fails(before, now, alpha))
                for drop in (0.003, 0.01, 0.025) if power and group == 1 else ():
                    for where, which in (("all tasks", None), ("one task", frozenset({"T0"}))):
                        failed.setdefault(f"power, -{100 * drop:g} on {where}", []).append(
                            fails(before, lowered(now, drop, which), 0.05)
                        )
        found |= {f"{models} x {tasks}: {name}": share(np.array(own)) for name, own in failed.items()}
    return found


def simulate_pairs(rng: Generator, sets: int) -> dict[str, list[float]]:
    """How often nine equal models on seven tasks give at least one "X is better than Y"."""
    k, first = 9, np.triu_indices(9, 1)
    separated = []
    for _ in range(sets):
        errors = []
        for task in range(7):
            hard = rng.normal(0.5, SPREAD, N_EXAMPLES)
            models = [contributions(as_units(hard + rng.normal(0, SPREAD, N_EXAMPLES))) for _ in range(k)]
            together = stacked(models)
            own = estimate(together[first[0]] - together[first[1]])
            errors.append(TaskErrors(own.point, own.error, own.df, own.n_changed, own.residuals, task + 1))
        p = np.full((k, k), np.nan)
        p[first] = [pair.p_two_sided for pair in mean_differences(errors)]
        separated.append(bool(np.nanmin(corrected_pairs(p)) < 0.05))
    return {"nine equal models: any pair separated": share(np.array(separated))}


# -------------------------------------------------------------------------------------------------------- intervals


def as_units(*parts: NDArray[np.float64]) -> Units:
    """A task of means whose subsets share ids where they have one size."""
    made = tuple(
        UnitPart("test", f"s{at}", tuple(map(str, range(len(part)))), {"value": part}) for at, part in enumerate(parts)
    )
    return Units("Task", "Retrieval", "metric", "mean", "query", made)


def simulate_intervals(rng: Generator, sets: int) -> dict[str, list[float]]:
    """Coverage of 95 % intervals, and how often they are withheld."""
    found = {}
    for n in (10, 50, 300):
        scores: list[bool] = []
        dense: list[bool | None] = []
        sparse: list[bool | None] = []
        for _ in range(sets):
            both = expit(rng.normal(0.5, 1.5, n) + rng.normal(0, 1.0, (2, n)))
            interval = score_interval(as_units(both[0]))
            assert interval is not None
            scores.append(interval.low <= TRUE_SCORE <= interval.high)
            first = (rng.random(n) < 0.6).astype(float)
            turned = np.where(rng.random(n) < 0.05, 1 - first, first)
            for pair, into, truth in ((both, dense, 0.0), ((first, turned), sparse, 0.05 * (0.6 - 0.4))):
                difference = compare_units(as_units(pair[0]), as_units(pair[1]), resampling=Resampling(2_000)).interval
                into.append(None if difference is None else difference.low <= truth <= difference.high)
        found[f"coverage, score, n {n}"] = share(np.array(scores))
        for name, covered in (("difference", dense), ("difference, 5 % changed", sparse)):
            printed = np.array([one for one in covered if one is not None], bool)
            withheld = 1 - len(printed) / len(covered)
            if not len(printed):
                continue  # no interval at all
            found[f"coverage, {name}, n {n} (withheld {withheld:.0%})"] = share(printed)
    return found


TRUE_SCORE = float(expit(np.random.default_rng(1).normal(0.5, np.hypot(1.5, 1.0), 5_000_000)).mean())
"""The true score of the simulated queries."""


def simulate_languages(rng: Generator, sets: int) -> dict[str, list[float]]:
    """False drops at 5 % where each sentence is as hard in every language, clustered by sentence."""
    found = {}
    for languages in (8, 50):
        drops = []
        for _ in range(sets):
            shared = rng.normal(size=(2, 60, 1))
            right = (shared + 0.7 * rng.normal(size=(2, 60, languages)) < 0.5).astype(float)
            first, second = (as_units(*(side[:, at] for at in range(languages))) for side in right)
            p = compare_units(first, second, resampling=Resampling(2_000)).p_drop
            assert p is not None
            drops.append(p <= 0.05)
        found[f"false drops, {languages} languages"] = share(np.array(drops))
    return found


def share(hits: NDArray[np.bool_]) -> list[float]:
    """A share and its standard error."""
    rate = float(hits.mean())
    return [round(rate, 4), round(float(np.sqrt(max(rate * (1 - rate), 1e-9) / len(hits))), 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layouts", nargs="*", default=["1x7", "3x7", "3x15", "1x56", "12x56"], help="models x tasks")
    parser.add_argument("--no-power", action="store_true", help="false alarms of gates only")
    parser.add_argument("--only", choices=("gates", "pairs", "intervals", "languages"))
    options = parser.parse_args()
    layouts = [(int(models), int(tasks)) for models, _, tasks in (own.partition("x") for own in options.layouts)]
    simulations: dict[str, Any] = {
        "gates": lambda rng, sets: simulate_gates(rng, sets, layouts, not options.no_power),
        "pairs": simulate_pairs,
        "intervals": simulate_intervals,
        "languages": simulate_languages,
    }
    found: dict[str, list[float]] = {}
    for name, simulate in simulations.items():
        if options.only not in (None, name):
            continue
        started = time.process_time()
        own = simulate(np.random.default_rng(options.seed), options.sets)
        for what, (rate, error) in own.items():
            print(f"{what:60} {rate:7.1%}  +- {error:.1%}", flush=True)
        print(f"({time.process_time() - started:.0f} CPU seconds)", file=sys.stderr)
        found |= own
    print(json.dumps({"sets": options.sets, **found}))


if __name__ == "__main__":
    main()
