"""The look of charts on a page and on paper, and how they become vector images. Knows no scores."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluation.errors import StoreError, UnwritableError
from evaluation.system.atomic_files import read_sealed_json, write_atomically, write_sealed_json, write_text
from evaluation.system.cache_folder import user_cache_dir

VEGA_LITE = "6.4"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
SERIES = (
    "#0072b2",
    "#c94f00",
    "#007a5a",
    "#a8518a",
    "#946c00",
    "#2a86c4",
    "#6b4c9a",
    "#6e6e6e",
    "#8c2d04",
    "#1b6b5a",
    "#c2185b",
    "#3d3d3d",
)
"""Colours that people with any colour-vision deficiency tell apart (after Okabe and Ito 2008); shapes differ too."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours and size of a chart.

    Attributes:
        series: Colours of models, used in turn.
        good, bad: Colours of what is better and worse than the baseline.
        width: Pixels, or "container" on a page.
    """

    series: tuple[str, ...]
    text: str
    faint: str
    grid: str
    accent: str
    good: str
    bad: str
    width: int | str

    def config(self) -> dict[str, Any]:
        """Returns Vega-Lite's config: fonts, axes, legends."""
        axis = {
            "labelColor": self.text,
            "titleColor": self.text,
            "gridColor": self.grid,
            "domainColor": self.grid,
            "tickColor": self.grid,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelLimit": 190,
        }
        return {
            "background": None,
            "font": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
            "view": {"stroke": None},
            "axis": axis,
            "legend": {
                "labelColor": self.text,
                "titleColor": self.text,
                "orient": "top",
                "direction": "horizontal",
                "columns": 4,
                "labelLimit": 160,
                "title": None,
                "symbolStrokeWidth": 1.5,
                "symbolOpacity": 1,
            },
            "text": {"color": self.text, "fontSize": 11},
        }


def in_turn(marks: Sequence[str], n: int) -> list[str]:
    """A colour or shape for each of n models, from the start again where they run out."""
    return [marks[position % len(marks)] for position in range(n)]


PAGE = Look(
    series=tuple(f"var(--c{number})" for number in range(1, 13)),
    text="var(--fg)",
    faint="var(--faint)",
    grid="var(--line)",
    accent="var(--accent)",
    good="var(--good)",
    bad="var(--bad)",
    width="container",
)
"""Its colours are variables of the page's style sheet, so charts follow dark mode and print without being redrawn."""

PAPER = Look(
    series=SERIES,
    text="#1b1b1f",
    faint="#8a8f98",
    grid="#dcdfe4",
    accent="#0072b2",
    good="#007a5a",
    bad="#c94f00",
    width=480,
)


def vega_bundle() -> str:
    """Returns Vega, Vega-Lite and Vega-Embed as one script for a page without a network.

    Making it takes seconds, so it is cached with its checksum; a damaged copy is made again.
    """
    import vl_convert

    file = user_cache_dir() / "report" / f"vega-{metadata.version('vl-convert-python')}-{VEGA_LITE}.json"
    with contextlib.suppress(FileNotFoundError, StoreError, KeyError):
        return str(read_sealed_json(file)["script"])
    script: str = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub is stricter than it is
    with contextlib.suppress(UnwritableError):  # then it is made again next time
        write_sealed_json(file, {"script": script})
    return script


def save_figure(spec: Mapping[str, Any], stem: Path) -> list[Path]:
    """Writes a chart as <stem>.svg and <stem>.pdf.

    Raises:
        UnwritableError: The folder can't be written.
    """
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(dict(spec), vl_version=VEGA_LITE)
    pdf: bytes = vl_convert.svg_to_pdf(svg)
    files = [stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.pdf")]
    write_text(files[0], svg)
    write_atomically(files[1], lambda path: path.write_bytes(pdf))
    return files
