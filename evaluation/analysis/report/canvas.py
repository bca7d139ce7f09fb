"""What all charts of a report share: the models' colours and shapes, the look, and how a chart becomes Vega-Lite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.report.chart_data import Rows
from evaluation.analysis.report.chart_style import PAPER, SHAPES, Look, in_turn
from evaluation.analysis.report.chart_texts import CHART_TEXTS


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and what a page says around it.

    Attributes:
        name: Stem of the figure's file, and key of its texts in chart_texts.py.
        description: What the chart shows, in words, for readers who can't see it.
        spec: The Vega-Lite specification.
        choices: Values of its parameter `which`, the first one shown; empty where there is nothing to choose.
    """

    name: str
    title: str
    caption: str
    description: str
    spec: dict[str, Any]
    choices: tuple[str, ...] = ()

    @property
    def choice_of(self) -> str:
        """What is chosen."""
        return "Task" if self.name == "sizes" else "Model"


class Canvas:
    """Gives the charts of one comparison their common look.

    Args:
        look: For a page or for paper.
    """

    def __init__(self, comparison: Comparison, look: Look = PAPER) -> None:
        self.comparison, self.look = comparison, look
        self.labels = [column.label for column in comparison.columns]
        self.percent = f"{comparison.options.confidence:.0%}"
        self._colours = alt.Scale(domain=self.labels, range=in_turn(look.series, len(self.labels)))
        self._shapes = alt.Scale(domain=self.labels, range=in_turn(SHAPES, len(self.labels)))

    def colour(self, **options: Any) -> alt.Color:
        """A model's colour."""
        return alt.Color("model:N", scale=self._colours, sort=self.labels, **options)

    def shape(self, **options: Any) -> alt.Shape:
        """A model's shape."""
        return alt.Shape("model:N", scale=self._shapes, sort=self.labels, **options)

    def of_shown_models(self, rows: Rows) -> alt.Chart:
        """A chart of rows, reduced to the models that the page's parameter `shown` holds."""
        return alt.Chart(values(rows)).transform_filter("indexof(shown, datum.model) >= 0")

    def chart(self, name: str, drawn: Any, height: int, *, choices: tuple[str, ...] = (), **fill: object) -> Chart:
        """A drawn chart with its texts.

        Args:
            name: Key of `CHART_TEXTS`.
            drawn: An Altair chart.
            height: Pixels.
            choices: See `Chart`.
            fill: What the texts leave open.
        """
        spec: dict[str, Any] = drawn.properties(width=self.look.width, height=height).to_dict()
        if "indexof(shown" in str(spec):
            spec.setdefault("params", []).append({"name": "shown", "value": self.labels})
        spec["config"] = self.look.config()
        spec["autosize"] = {"type": "fit-x" if self.look.width == "container" else "pad", "contains": "padding"}
        title, caption, description = (text.format(**fill) for text in CHART_TEXTS[name])
        return Chart(name, title, caption, description, spec, choices)


def values(rows: Rows) -> alt.InlineData:
    """Rows as a chart's data."""
    return alt.InlineData(values=rows)


def tips(*fields: tuple[str, str] | tuple[str, str, str]) -> list[alt.Tooltip]:
    """What a hover shows: a field with its type, a title, and a number's format."""
    return [alt.Tooltip(name, title=title, format=rest[0] if rest else alt.Undefined) for name, title, *rest in fields]


def task_axis(sort: Sequence[str] | alt.EncodingSortField) -> alt.Y:
    """Tasks from top to bottom."""
    return alt.Y("task:N", sort=sort, title=None, axis=alt.Axis(grid=True, tickBand="extent"))
