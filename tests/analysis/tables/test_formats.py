"""Tables as people and programs read them: what is best, what is marked, and that text stays text."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from support.fake_comparisons import column
from support.fake_runs import query_record

from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.comparison.published import PublishedMatch
from evaluation.analysis.comparison.types import Aggregate, AggregateCell, Cell, Comparison, ComparisonOptions, Row
from evaluation.analysis.statistics.intervals import Interval
from evaluation.analysis.statistics.paired_tests import Difference
from evaluation.analysis.statistics.suite_tests import SuiteDifference
from evaluation.analysis.tables.comparison_table import Layout, comparison_tables
from evaluation.analysis.tables.csv_json import CSV_COLUMNS, comparison_csv, comparison_json, comparison_rows
from evaluation.analysis.tables.formats import render_latex, render_markdown
from evaluation.analysis.tables.terminal import print_tables, render_plain

HOSTILE = "=1+1|a_b & 50% #1 ${x}~^\\ <script>alert('1')</script> \"q\" `c` *b* [l](http://e.org) --\nnext 中é"
Write = Callable[..., Path]


def example() -> Comparison:
    """Three columns with everything that a table can show."""
    difference = Difference(2.5, Interval(1.0, 4.0, "t"), 0.001, 0.9, 40)
    match = PublishedMatch(50.0, "model card", "e5", 2.5, "differs", ("weights: ours are rounded to 4 bits",))
    first = Row(
        "T_1",
        "STS",
        "cosine_spearman",
        (
            Cell(52.5, Interval(50.0, 55.0, "BCa"), 2.5, difference, 0.002, True, True, published=(match,)),
            Cell(50.0, Interval(47.5, 52.5, "BCa")),
            Cell(51.0, None, 1.0, marks=("dataset",), note="no samples are stored, so no interval"),
        ),
    )
    second = Row("T2", "Retrieval", "ndcg_at_10", (Cell(note="not run"), Cell(-0.004), Cell(80.0, None, 80.004)))
    mean = Aggregate(
        "Mean over 2 tasks",
        "mean",
        (
            AggregateCell(52.5, 2, ("T2",)),
            AggregateCell(24.998, 2),
            AggregateCell(
                65.5,
                2,
                (),
                40.502,
                SuiteDifference(40.5, Interval(1.0, 80.0, "percentile"), 0.01, 1.0, 2),
                significant=True,
            ),
        ),
    )
    ranks = Aggregate("Rank (Borda)", "borda", (AggregateCell(3, 2, ("T2",)), AggregateCell(2, 2), AggregateCell(1, 2)))
    columns = (column("a"), column("b"), replace(column("c", protocol="none"), limited=True))
    options = ComparisonOptions(published=True)
    return Comparison("r", columns, (first, second), (mean, ranks), None, "b", True, options, ("A note.",))


def hostile() -> Comparison:
    comparison = example()
    row = replace(comparison.rows[0], task=HOSTILE)
    columns = (replace(column(HOSTILE), run=HOSTILE), *comparison.columns[1:])
    return replace(comparison, name=HOSTILE, columns=columns, rows=(row,), notes=(HOSTILE, "{trained} " + HOSTILE))


class Cells(HTMLParser):
    """Rows of cells of the tables in a page, and all of its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).rstrip("\n")


def as_page(markdown: str) -> str:
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"linkify": False}).enable("table").render(markdown))


# ---------------------------------------------------------------------------------------------------------- the table


def test_best_second_delta_and_marks_by_hand() -> None:
    table, published = comparison_tables(example())
    header = [cell.text for cell in table.header]
    assert header == ["Task", "Type", "a [e5]", "vs b", "b [e5]", "c [none, limited]", "vs b"]
    first = table.rows[0].cells
    assert [cell.text for cell in first] == ["T_1", "STS", "52.50", "+2.50", "50.00", "51.00", "+1.00"]
    assert [cell.bold for cell in first] == [False, False, True, False, False, False, False]
    assert [cell.underline for cell in first] == [False, False, False, False, False, True, False]
    assert first[3].detail == "[+1.00, +4.00]"
    assert (first[2].marks, first[3].marks, first[5].marks) == (("trained",), ("significant",), ("dataset",))
    second = table.rows[1].cells
    assert [cell.text for cell in second[2:]] == ["-", "-", "0.00", "80.00", "+80.00"]
    assert (second[5].bold, second[4].underline) == (True, True)
    mean, ranks = (row.cells for row in table.rows[2:4])
    assert table.rows[2].rule
    assert (mean[2].text, mean[2].marks, mean[2].bold) == ("52.50", ("incomplete",), False)
    assert (mean[5].bold, mean[4].underline) == (True, True)
    assert (mean[6].text, mean[6].detail, mean[6].marks) == ("+40.50", "[+1.00, +80.00]", ("significant",))
    assert [ranks[at].text for at in (2, 4, 5)] == ["3", "2", "1"]
    assert (ranks[5].bold, ranks[4].underline) == (True, True)
    assert table.notes[-1] == "A note."
    verdict = [cell.text for cell in published.rows[0].cells]
    assert verdict[:4] == ["T_1", "a", "differs", "e5"]
    assert verdict[-3:] == ["52.50", "50.00", "+2.50"]


def test_two_firsts_leave_no_second() -> None:
    comparison = example()
    row = replace(comparison.rows[0], cells=(Cell(50.001), Cell(50.004), Cell(40.0)))
    (table, _) = comparison_tables(replace(comparison, rows=(row,)))
    shown = [table.rows[0].cells[at] for at in (2, 4, 5)]
    assert [(cell.bold, cell.underline) for cell in shown] == [(True, False), (True, False), (False, False)]


def test_intervals_of_scores_stand_where_there_is_no_baseline() -> None:
    alone = replace(example(), baseline=None)
    assert comparison_tables(alone)[0].rows[0].cells[2].detail == "[50.00, 55.00]"
    assert comparison_tables(alone, Layout(intervals=False))[0].rows[0].cells[2].detail == ""


def test_models_as_rows_say_the_same() -> None:
    table = comparison_tables(example(), Layout(models_as_rows=True))[0]
    assert [cell.text for cell in table.header] == ["Model", "T_1", "T2", "Mean over 2 tasks", "Rank (Borda)"]
    first = table.rows[0].cells
    assert [cell.text for cell in first] == ["a [e5]", "52.50", "-", "52.50", "3"]
    assert (first[1].detail, first[1].marks) == ("+2.50 [+1.00, +4.00]", ("trained", "significant"))
    assert table.rows[2].cells[3].bold


def test_mean_over_fewer_tasks_than_the_others_says_over_how_many() -> None:
    table = comparison_tables(example(), Layout(models_as_rows=True))[0]
    assert [(row.cells[3].text, row.cells[3].detail) for row in table.rows] == [
        ("52.50", "(over 1)"),
        ("25.00", ""),
        ("65.50", "+40.50 [+1.00, +80.00]"),
    ]
    assert [row.cells[4].detail for row in table.rows] == ["", "", ""]  # ranks


def test_summary_leaves_single_tasks_out() -> None:
    table = comparison_tables(example(), Layout(summary=True))[0]
    assert [row.cells[0].text for row in table.rows] == ["Mean over 2 tasks", "Rank (Borda)"]


def test_speed_stands_beside_the_scores(query_run: Write) -> None:
    comparison = compare(query_run("r", {"a": {"T1": [0.5]}}), options=ComparisonOptions(intervals=False))
    (table,) = comparison_tables(comparison)
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["T1", "Retrieval", "50.00"],
        ["Tokens/s", "", "2,000"],
        ["Hours", "", "0.5"],
    ]
    (scores,) = comparison_tables(comparison, Layout(speed=False))
    assert [row.cells[0].text for row in scores.rows] == ["T1"]


# ------------------------------------------------------------------------------------------------------------ formats


def test_terminal_shows_bold_and_underlined_numbers_and_text_as_text() -> None:
    stream = io.StringIO()
    print_tables(comparison_tables(hostile()), Console(file=stream, force_terminal=True, width=2000, color_system=None))
    text = stream.getvalue()
    plain = render_plain(comparison_tables(hostile()))
    assert "[l](http://e.org)" in plain and "<script>" in plain and "*b*" in plain
    assert "\x1b" not in plain
    assert "trained" not in plain.replace("{trained}", "") and "° " in plain
    assert "52.50°" in re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_narrow_terminal_loses_neither_label_nor_number() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60, color_system=None)
    print_tables(comparison_tables(example())[:1], console)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "…" not in text
    shown = re.findall(r"[^\s│┃]+", text)
    assert {"52.50°", "+2.50*", "50.00", "51.00ᵈ", "+80.00", "[none,"} <= set(shown)
    assert "limited" in text
    assert text.count("Wider than the terminal: compare-results takes --transpose") == 1


def test_a_table_that_fits_and_a_file_have_no_hint_at_narrower_tables() -> None:
    stream = io.StringIO()
    print_tables(comparison_tables(example()), Console(file=stream, force_terminal=True, width=300, color_system=None))
    assert "Wider" not in stream.getvalue() + render_plain(comparison_tables(example()))


def test_nothing_moves_the_cursor() -> None:
    comparison = replace(example(), name="x\x1b[2Jy\rz")
    assert "\x1b" not in render_plain(comparison_tables(comparison))
    assert r"x\x1b[2Jy z" in render_plain(comparison_tables(comparison))


def test_markdown_renders_to_the_same_cells() -> None:
    tables = comparison_tables(example())
    page = as_page(render_markdown(tables))
    found = Cells(page)
    assert found.rows[1][:3] == ["T_1", "STS", "52.50°"]
    assert found.rows[1][3] == "+2.50* [+1.00, +4.00]"
    assert [len(row) for row in found.rows] == [7] * 5 + [9] * 2
    assert "<strong>52.50</strong>" in page and "<ins>51.00</ins>" in page


def test_hostile_text_stays_text_in_markdown() -> None:
    markdown = render_markdown(comparison_tables(hostile()))
    found = Cells(as_page(markdown))
    wanted = HOSTILE.replace("\n", " ")
    assert found.rows[1][0] == wanted
    assert found.rows[0][2] == f"{wanted} [e5]"
    assert {*found.tags} <= {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ins", "sub", "br"}
    assert {len(row) for row in found.rows} == {7, 9}


def frame_of(comparison: Comparison) -> pd.DataFrame:
    """The comparison's rows; pandas reads a column without any value as numbers."""
    frame = pd.DataFrame(comparison_rows(comparison), columns=list(CSV_COLUMNS))
    empty = [name for name in CSV_COLUMNS if frame[name].isna().all()]
    return frame.astype(dict.fromkeys(empty, "float64"))


def test_csv_loads_back_to_the_same_frame() -> None:
    comparison = example()
    text = comparison_csv(comparison)
    frame = pd.read_csv(io.StringIO(text), float_precision="round_trip")
    pd.testing.assert_frame_equal(frame, frame_of(comparison), check_exact=True)
    assert len(frame) == 4 * 3
    first = frame.iloc[0]
    assert (first["score"], first["delta_high"], first["trained"], first["verdict"]) == (52.5, 4.0, "yes", "differs")
    assert frame["score"].isna().sum() == 1


def test_csv_of_a_run_loads_back_to_the_same_frame(query_run: Write) -> None:
    run = query_run("r", {"a": {"T1": [0.123456789, 0.7], "T2": None}, "b": {"T1": [0.1, 0.9], "T2": [0.3]}})
    comparison = compare(run, baseline="a", options=ComparisonOptions(intervals=False))
    frame = pd.read_csv(io.StringIO(comparison_csv(comparison)), float_precision="round_trip")
    pd.testing.assert_frame_equal(frame, frame_of(comparison), check_exact=True)


def test_csv_holds_no_formula() -> None:
    for row in csv.DictReader(io.StringIO(comparison_csv(hostile()))):
        numbers = {"score", "low", "high", "delta", "delta_low", "delta_high", "p", "p_adjusted", "published_delta"}
        texts = {name: value for name, value in row.items() if name not in numbers}
        assert not [value for value in texts.values() if value and value[0] in "=+-@\t\r"]
    first = next(csv.DictReader(io.StringIO(comparison_csv(hostile()))))
    assert first["task"] == f"'{HOSTILE}"


def test_json_holds_everything() -> None:
    content = json.loads(comparison_json(example()))
    assert content["rows"][0]["cells"]["a"]["difference"]["interval"] == {"low": 1.0, "high": 4.0, "method": "t"}
    assert content["rows"][1]["cells"]["a"]["score"] is None
    assert content["aggregates"][0]["cells"]["a"]["missing"] == ["T2"]
    assert content["columns"][2]["limited"] is True
    assert json.loads(comparison_json(hostile()))["rows"][0]["task"] == HOSTILE


# -------------------------------------------------------------------------------------------------------------- LaTeX


@pytest.fixture
def compile_latex(tmp_path: Path) -> Callable[[str, str], str]:
    """A function: preamble and body of an article -> the text of its PDF, or the log where no tool reads PDFs."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("there is no pdflatex (Debian: apt-get install --no-install-recommends texlive-latex-recommended)")

    def build(preamble: str, body: str) -> str:
        document = f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
        (tmp_path / "table.tex").write_text(document, encoding="utf-8")
        command = [program, "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-3000:]
        reader = shutil.which("pdftotext")
        if reader is None:
            return done.stdout
        subprocess.run([reader, "-layout", "table.pdf"], cwd=tmp_path, check=True)
        return (tmp_path / "table.txt").read_text(encoding="utf-8")

    return build


@pytest.mark.parametrize("preamble", ["", r"\usepackage{booktabs}", r"\usepackage{booktabs,graphicx}"])
def test_latex_compiles_in_a_plain_article(compile_latex: Callable[[str, str], str], preamble: str) -> None:
    text = compile_latex(preamble, render_latex(comparison_tables(example())))
    if "pdfTeX" not in text:
        assert "52.50" in text and "+2.50" in text


def test_hostile_text_stays_text_in_latex(compile_latex: Callable[[str, str], str]) -> None:
    source = render_latex(comparison_tables(hostile()))
    assert r"$\{x\}" in source.replace(r"\$", "$")
    compile_latex(r"\usepackage{booktabs}", source)
    compile_latex("", render_latex(comparison_tables(hostile(), Layout(models_as_rows=True))))


def test_latex_rows_are_numbers_with_minus_and_bold() -> None:
    comparison = replace(
        example(), rows=(replace(example().rows[0], cells=(Cell(1.0, None, -2.0), Cell(3.0), Cell(2.0))),)
    )
    source = render_latex(comparison_tables(comparison))
    assert r"T\_1 & STS & 1.00 & $-$2.00 & \textbf{3.00} & \underline{2.00}" in source
    assert source.count("Bold: the best of a row; underlined: the second best.") == 1
    assert re.search(r"[ \[]-\d", source) is None


def test_caption_and_label_are_those_of_the_first_table(compile_latex: Callable[[str, str], str]) -> None:
    tables = comparison_tables(example())
    assert r"\caption{r}" in render_latex(tables) and r"\label" not in render_latex(tables)
    source = render_latex(tables, caption=r"Scores in $\%$ \emph{of all}", label="tab:my_scores")
    assert re.findall(r"\\caption.*", source) == [
        r"\caption{Scores in $\%$ \emph{of all}\label{tab:my_scores}}",
        r"\caption{Published scores}",
    ]
    text = compile_latex("", r"See table~\ref{tab:my_scores}." + source)
    if "pdfTeX" not in text:
        assert "Table 1: Scores in % of all" in text


@pytest.mark.parametrize("layout", [Layout(), Layout(models_as_rows=True, summary=True)])
def test_published_suite_compiles(compile_latex: Callable[[str, str], str], layout: Layout) -> None:
    options = ComparisonOptions(published=True, models=("*card",), benchmark="MTEB(eng, v1)")
    compile_latex(
        r"\usepackage{booktabs}", render_latex(comparison_tables(compare([], mixed=True, options=options), layout))
    )


def test_run_without_any_score_still_makes_tables(write_run: Write) -> None:
    run = write_run("r", [(query_record("a", "T1", None), None)])
    comparison = compare(run, options=ComparisonOptions(published=True))
    tables = comparison_tables(comparison)
    assert [cell.text for cell in tables[0].rows[0].cells] == ["T1", "Retrieval", "-"]
    assert "There are no published scores" in render_markdown(tables)
    assert "a has no score on T1 (failed: the model broke)." in render_plain(tables)
