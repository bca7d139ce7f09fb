"""The texts around each chart of a report: title, caption, and a description for readers who can't see it."""

from __future__ import annotations

from typing import NamedTuple


class ChartText(NamedTuple):
    """Texts of one chart; names in braces are filled in."""

    title: str
    caption: str
    description: str


CHART_TEXTS = {
    "scores": ChartText(
        "Scores by task",
        "Main score of each task in points; {intervals}.",
        "Dot plot of the scores of {models} on {tasks}. The comparison table holds the same numbers.",
    ),
    "differences": ChartText(
        "Differences to {baseline}",
        "Sorted; the lines are {percent} intervals of the paired difference. Triangles mark tasks whose difference is "
        "significant after Holm's correction over all tasks (two-sided, {alpha:g}).",
        "Forest plot of the differences to {baseline}. The comparison table shows the numbers when set to differences.",
    ),
    "types": ChartText(
        "Means by task type",
        "Mean score over the tasks of a type, for models that have a score on all of them.",
        "Bar chart of mean scores by task type and model, made from the comparison table.",
    ),
    "speed": ChartText(
        "Quality against speed",
        "Mean score over the tasks that all models have, against tokens encoded per second on the run's hardware. The "
        "dashed line joins the models that no other model beats in both.{cached}",
        "Scatter plot of mean score against encoding speed. The table of models under Provenance has the speeds.",
    ),
    "sizes": ChartText(
        "Score against bytes per vector",
        "What a score costs in storage: points are the forms in which a model's vectors may be stored, vertical lines "
        "their {percent} intervals; a line joins each model's best form at each size. A dashed level line is BM25, "
        "which ranks by words and stores no vectors.",
        "Scatter plot of scores against the bytes of a stored vector. The table below the charts has the numbers.",
    ),
    "published": ChartText(
        "Here against published",
        "Each point is a score that others have published too; on the dashed line both agree.",
        "Scatter plot of the scores of these runs against published scores; the comparison table's tooltips name them.",
    ),
    "series": ChartText(
        "Score by step",
        "The thick line is the mean over the tasks that all have; its bars are {percent} intervals of the paired "
        "difference to the best checkpoint. Thin lines are tasks, with intervals of their own. {found}",
        "Line chart of the scores of {n_checkpoints} checkpoints by step. The comparison table holds the same numbers.",
    ),
    "queries": ChartText(
        "Query by query",
        "Each circle stands for the queries of a task on which two models reach the same pair of scores; its area "
        "grows with their number. Above the dashed line the second model is better.",
        "Scatter plot of the scores per query of two models on one task. The caption says how often each is better.",
    ),
    "lengths": ChartText(
        "Text lengths",
        "Share of a side's distinct texts by number of tokens before truncation; the last column is the share that was "
        "truncated at the model's maximum length.",
        "Heat map of token lengths by task and side. Each task's audit has its longest text and the share truncated.",
    ),
    "time": ChartText(
        "Time by phase",
        "Loading data, encoding texts (reading cached vectors included) and scoring, summed over all tasks.",
        "Stacked bars of time by phase and model. The table of models under Provenance has the numbers.",
    ),
}
