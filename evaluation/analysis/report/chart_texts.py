"""What a report says around each chart: title, caption, and a description for those who can't see it."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Texts of one chart; names in braces are filled in."""

    title: str
    caption: str
    description: str


WORDS = {
    "scores": Words(
        "Scores by task",
        "Main score of each task in points; {intervals}.",
        "Dot plot of the scores of {n_models} models on {n_tasks} tasks. The comparison table holds the same numbers.",
    ),
    "differences": Words(
        "Differences to {baseline}",
        "Sorted; lines are {percent} intervals of the paired difference. Triangles mark tasks whose difference is "
        "significant after Holm's correction over all tasks (two-sided, {alpha:g}).",
        "Forest plot of the differences to {baseline}. The comparison table, set to differences, has the numbers.",
    ),
    "types": Words(
        "Means by task type",
        "Mean score of the tasks of a type, for models that have all of them.",
        "Bar chart of mean scores by task type and model, made from the comparison table.",
    ),
    "speed": Words(
        "Quality against speed",
        "Mean over the tasks that all models have, against tokens encoded a second on this run's hardware; the broken "
        "line joins models that no other beats in both.{cached}",
        "Scatter plot of mean score against encoding speed. The table of models under Provenance has the speeds.",
    ),
    "published": Words(
        "Here against published",
        "Each point is a task of a model that others have scored too; on the broken line both agree.",
        "Scatter plot of scores here against published scores; the comparison table's hovers name them.",
    ),
    "queries": Words(
        "Query by query",
        "Each circle is the queries of a task on which two models reach the same pair of scores; its area grows with "
        "their number. Above the broken line the second model is better.",
        "Scatter plot of the per-query scores of two models on one task. The line below it counts who is better.",
    ),
    "lengths": Words(
        "Text lengths",
        "Share of a side's distinct texts by number of tokens, before truncation; the last column is the share that "
        "was cut at the model's maximum length.",
        "Heat map of token lengths by task and side. Each task's audit has its longest text and the share cut.",
    ),
    "time": Words(
        "Time by phase",
        "Loading data, encoding texts (reading cached vectors included) and scoring, summed over all tasks.",
        "Stacked bars of time by phase and model. The table of models under Provenance has the numbers.",
    ),
}
