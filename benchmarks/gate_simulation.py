"""Simulates the gate and the intervals: false alarms, power, coverage. Prints the figures of docs/statistics.md.

Each figure comes with its simulation error (one standard error). Gates are simulated from
normal examples, tested as the package tests many of them (Student's t, then the package's correction); intervals and
languages run through the package's own functions. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit, stdtr

from evaluation.analysis.statistics.corrections import holm_in_families
from evaluation.analysis.statistics.paired_tests import compare_units, score_interval
from evaluation.analysis.statistics.sign_flips import Resampling
from evaluation.analysis.statistics.units import UnitPart, Units

LAYOUTS = ((1, 7), (3, 7), (3, 15), (1, 56), (12, 56))
MAX_DROP, NEGLIGIBLE = 0.01, 0.001
N_EXAMPLES, SPREAD = 100, 0.2
"""Examples per task, and the standard deviation of one example's difference."""


def simulated_gate(
    rng: Generator, models: int, tasks: int, group: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Mean differences (models, tasks) of equal models, their standard errors, and (2, models) of the means over tasks.

    The last are the variance of each mean and the sum of its squared parts, which gives its degrees of freedom.

    Args:
        rng: Draws.
        models: Of the gate.
        tasks: Per model.
        group: Tasks on the same sentences, which share half of the variance of each; their mean counts them once.
    """
    values = rng.normal(0, SPREAD, (models, tasks, N_EXAMPLES))
    n_groups = -(-tasks // group)
    if group > 1:
        shared = np.repeat(rng.normal(0, SPREAD, (models, n_groups, N_EXAMPLES)), group, axis=1)[:, :tasks]
        values = np.sqrt(0.5) * (values + shared)
    residuals = values - values.mean(axis=2, keepdims=True)
    scale = N_EXAMPLES * (N_EXAMPLES - 1)
    errors = np.sqrt((residuals**2).sum(axis=2) / scale)
    starts = np.arange(0, tasks, group)
    of_groups = np.add.reduceat(residuals, starts, axis=1)  # (models, groups, examples)
    variances = (of_groups**2).sum(axis=2) / scale / tasks**2
    return values.mean(axis=2), errors, np.stack([variances.sum(axis=1), (variances**2).sum(axis=1)])


def fails(means: NDArray[Any], errors: NDArray[Any], of_means: NDArray[Any], alpha: float) -> bool:
    """Whether a task or a mean fails the gate."""
    df = N_EXAMPLES - 1
    suite, (variance, squares) = means.mean(axis=1), of_means
    task_p = stdtr(df, means / errors).ravel()
    suite_p = stdtr(variance**2 * df / squares, suite / np.sqrt(variance))
    tasks, suites = (np.array(own) for own in holm_in_families([task_p.tolist(), suite_p.tolist()]))
    return bool(
        np.any((tasks < alpha) & (means.ravel() < -MAX_DROP)) or np.any((suites < alpha) & (suite < -NEGLIGIBLE))
    )


def simulate_gates(rng: Generator, sets: int) -> dict[str, list[float]]:
    """False alarms of equal models, and power where one model loses on all tasks or on one."""
    found: dict[str, list[float]] = {}
    for models, tasks in LAYOUTS:
        failed: dict[str, list[bool]] = {}
        for group, how in ((1, "independent"), (4, "groups of 4")):
            for _ in range(sets):
                means, errors, of_means = simulated_gate(rng, models, tasks, group)
                for alpha in (0.05, 0.01):
                    failed.setdefault(f"false alarms, alpha {alpha:g}, {how}", []).append(
                        fails(means, errors, of_means, alpha)
                    )
                if group > 1:
                    continue
                for drop in (0.003, 0.01, 0.025):
                    for where, which in (("all tasks", slice(None)), ("one task", slice(1))):
                        lower = means.copy()
                        lower[0, which] -= drop
                        failed.setdefault(f"power, -{100 * drop:g} on {where}", []).append(
                            fails(lower, errors, of_means, 0.05)
                        )
        found |= {f"{models} x {tasks}: {name}": share(np.array(own)) for name, own in failed.items()}
    return found


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
        for _ in range(sets // 4):
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
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for simulate in (simulate_gates, simulate_intervals, simulate_languages):
        started = time.process_time()
        own = simulate(np.random.default_rng(options.seed), options.sets)
        for name, (rate, error) in own.items():
            print(f"{name:60} {rate:7.1%}  +- {error:.1%}", flush=True)
        print(f"({time.process_time() - started:.0f} CPU seconds)", file=sys.stderr)
        found |= own
    print(json.dumps({"sets": options.sets, **found}))


if __name__ == "__main__":
    main()
