"""Simulates the gate and the intervals: false alarms, power, coverage. Prints the figures of docs/statistics.md.

Each figure comes with its simulation error (one standard error). Gates are simulated from the means and variances of
normal examples, tested as the package tests many examples (Student's t, the package's correction); intervals and
languages run through the package's own functions on drawn examples. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import stdtr

from evaluation.analysis.statistics.corrections import holm_in_families
from evaluation.analysis.statistics.paired_tests import compare_units, score_interval
from evaluation.analysis.statistics.sign_flips import Resampling
from evaluation.analysis.statistics.units import UnitPart, Units

LAYOUTS = ((1, 7), (3, 7), (3, 15), (1, 56), (12, 56))
MAX_DROP, NEGLIGIBLE = 0.01, 0.001
N_EXAMPLES, SPREAD = 100, 0.2
"""Examples per task, and the standard deviation of one example's difference."""


def difference_sums(
    rng: Generator, sets: int, models: int, tasks: int, group: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sets, models, tasks) mean differences of equal models and their standard errors, from normal examples.

    Args:
        rng: Draws.
        sets: Simulated gates.
        models: Per gate.
        tasks: Per model.
        group: Tasks that share half of the variance of each example, such as tasks on the same documents.
    """
    shape = (sets, models, tasks)
    # Means and variances of normal examples, drawn from their own distributions.
    own = rng.normal(0, SPREAD / np.sqrt(N_EXAMPLES), shape)
    if group > 1:
        n_groups = -(-tasks // group)
        shared = np.repeat(rng.normal(0, SPREAD / np.sqrt(N_EXAMPLES), (sets, models, n_groups)), group, axis=2)
        own = np.sqrt(0.5) * own + np.sqrt(0.5) * shared[..., :tasks]
    errors = SPREAD * np.sqrt(rng.chisquare(N_EXAMPLES - 1, shape) / (N_EXAMPLES - 1) / N_EXAMPLES)
    return own, errors


def failed_gates(means: NDArray[np.float64], errors: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """(sets, 2) whether a task and whether a mean fails each gate."""
    df = N_EXAMPLES - 1
    n_tasks = means.shape[2]
    task_p = stdtr(df, means / errors)
    variance = (errors**2).sum(axis=2)
    suite, suite_error = means.mean(axis=2), np.sqrt(variance) / n_tasks
    suite_p = stdtr(variance**2 / (errors**4 / df).sum(axis=2), suite / suite_error)
    failed = np.zeros((len(means), 2), bool)
    for at in range(len(means)):
        if task_p[at].min() * 2 > alpha and suite_p[at].min() * 2 > alpha:
            continue  # no correction makes p smaller
        tasks, suites = holm_in_families([task_p[at].ravel().tolist(), suite_p[at].ravel().tolist()])
        failed[at, 0] = np.any((np.array(tasks) < alpha) & (means[at].ravel() < -MAX_DROP))
        failed[at, 1] = np.any((np.array(suites) < alpha) & (suite[at] < -NEGLIGIBLE))
    return failed


def simulate_gates(rng: Generator, sets: int) -> dict[str, list[float]]:
    """False alarms of equal models, and power where one model loses on all tasks or on one."""
    found = {}
    for models, tasks in LAYOUTS:
        name = f"{models} x {tasks}"
        for alpha in (0.05, 0.01):
            for group, how in ((1, "independent"), (4, "groups of 4")):
                failed = failed_gates(*difference_sums(rng, sets, models, tasks, group), alpha).any(axis=1)
                found[f"false alarms, {name}, alpha {alpha:g}, {how}"] = share(failed)
        for drop in (0.003, 0.01, 0.025):
            for where, which in (("all tasks", slice(None)), ("one task", 0)):
                means, errors = difference_sums(rng, sets, models, tasks, 1)
                means[:, 0, which] -= drop
                found[f"power, {name}, -{100 * drop:g} on {where}"] = share(
                    failed_gates(means, errors, 0.05).any(axis=1)
                )
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
        scores, dense, sparse = [], [], []
        for _ in range(sets):
            both = np.clip(rng.normal(0.55, 0.25, n) + rng.normal(0, 0.15, (2, n)), 0, 1)
            interval = score_interval(as_units(both[0]))
            assert interval is not None
            scores.append(interval.low <= CLIPPED_MEAN <= interval.high)
            first = (rng.random(n) < 0.6).astype(float)
            turned = np.where(rng.random(n) < 0.05, 1 - first, first)
            for pair, into, truth in ((both, dense, 0.0), ((first, turned), sparse, 0.05 * (0.6 - 0.4))):
                difference = compare_units(as_units(pair[0]), as_units(pair[1]), resampling=Resampling(2_000)).interval
                into.append(None if difference is None else difference.low <= truth <= difference.high)
        found[f"coverage, score, n {n}"] = share(np.array(scores))
        for name, covered in (("difference", dense), ("difference, 5 % changed", sparse)):
            printed = np.array([one for one in covered if one is not None], bool)
            withheld = 1 - len(printed) / len(covered)
            found[f"coverage, {name}, n {n} (withheld {withheld:.0%})"] = share(printed)
    return found


CLIPPED_MEAN = float(np.clip(np.random.default_rng(1).normal(0.55, np.hypot(0.25, 0.15), 20_000_000), 0, 1).mean())
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
    if not len(hits):
        return [float("nan"), float("nan")]
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
