"""The report in a real browser: headless Chromium, driven through Playwright. Skips where there is none."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.synthetic_suite import HOSTILE_DOCUMENT, HOSTILE_QUERY, write_suite

from evaluation.analysis.report.chart_style import vega_bundle
from evaluation.analysis.report.report import write_report
from evaluation.system.inert_text import for_html

TASKS = ["NFCorpus", "AskUbuntuDupQuestions", "STSBenchmark", "Banking77Classification", "TwentyNewsgroupsClustering"]
MAX_BYTES, MAX_OPENING_S = 3_000_000, 2.0


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("there is no Chromium on this machine (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run = write_suite(folder / "small", TASKS, n_models=3, n_units=30, protocols=("e5", "none"))
    return write_report([run], folder / "report.html")


class Opened:
    """A page with everything that it said, asked for and did wrong."""

    def __init__(self, browser: Any, file: Path, *, charts: bool = True, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        if charts:
            self.wait_for_charts()

    def wait_for_charts(self) -> None:
        self.page.wait_for_function("document.documentElement.dataset.charts === 'drawn'", timeout=60_000)

    def tasks(self) -> list[str]:
        """Names of the rows that are shown."""
        found: list[str] = self.page.locator("#grid tbody tr:not(.off) .task").all_text_contents()
        return found

    def column(self, position: int) -> list[float]:
        cells = self.page.locator("#grid tbody tr:not(.off)").evaluate_all(
            "(rows, n) => rows.map((row) => row.querySelectorAll('td[data-tip] .score')[n].textContent)",
            position,
        )
        return [float(cell) for cell in cells]

    def copied(self, what: str) -> str:
        """What a copy button puts on the clipboard."""
        self.page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        self.page.locator(f"[data-copy={what}]").click()
        self.page.wait_for_function("document.querySelector('#copy-status').textContent !== ''")
        return str(self.page.evaluate("window.copied"))


@pytest.fixture(scope="module")
def opened(browser: Any, small_report: Path) -> Iterator[Opened]:
    found = Opened(browser, small_report)
    yield found
    found.context.close()


@pytest.fixture
def fresh(browser: Any, small_report: Path) -> Iterator[Opened]:
    """A page of one's own, whose charts are still being drawn."""
    found = Opened(browser, small_report, charts=False)
    yield found
    found.context.close()


def serious_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:160]}: {node['failureSummary'][:200]}"
        for fault in found
        if fault["impact"] in {"serious", "critical"}
        for node in fault["nodes"][:3]
    ]


# ------------------------------------------------------------------------------------------------------ it stands alone


def test_page_says_no_error_and_asks_for_nothing(opened: Opened, small_report: Path) -> None:
    assert opened.errors == []
    assert opened.requests == [small_report.as_uri()]


def test_every_chart_is_drawn(opened: Opened) -> None:
    names = opened.page.locator("[data-chart]").evaluate_all("(all) => all.map((place) => place.dataset.chart)")
    assert {"scores", "differences", "types", "queries", "lengths", "time", "speed"} <= set(names)
    marks = opened.page.locator("[data-chart]").evaluate_all(
        "(all) => all.map((place) => place.querySelectorAll('svg path, svg rect').length)"
    )
    assert min(marks) > 5, dict(zip(names, marks, strict=True))


def test_dataset_text_is_text_whatever_it_holds(opened: Opened) -> None:
    page = opened.page
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    assert page.evaluate("window.planted") is None
    assert page.locator("script").count() == 3, "the page's own two and its data"
    assert page.locator("main img, main [onerror], main [onload]").count() == 0
    shown = page.locator("#wins .query .text").first.text_content()
    assert shown.startswith(HOSTILE_QUERY.replace("\x07", "␇"))
    passage = page.locator("#wins .hits .text").first.text_content()
    assert passage.startswith(for_html(HOSTILE_DOCUMENT))
    assert page.locator("#audit .examples .text").first.text_content().endswith(for_html(HOSTILE_DOCUMENT))


def test_dataset_text_in_a_chart_tooltip_is_text(fresh: Opened) -> None:
    fresh.wait_for_charts()
    fresh.page.locator("[data-chart=queries]").scroll_into_view_if_needed()
    point = fresh.page.locator("[data-chart=queries] .mark-symbol path").first
    point.hover(force=True)
    fresh.page.wait_for_function("document.querySelector('#vg-tooltip-element.visible') !== null")
    assert "window.planted" in fresh.page.locator("#vg-tooltip-element").text_content()
    assert fresh.page.locator("#vg-tooltip-element :is(script, img)").count() == 0
    assert fresh.page.evaluate("window.planted") is None
    assert fresh.errors == []


def test_policy_stops_what_slips_through(fresh: Opened) -> None:
    fresh.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,x\" onerror=\"window.planted = 1\">')"
    )
    fresh.page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.planted = 2'; document.body.append(s)"
    )
    fresh.page.wait_for_timeout(200)
    assert fresh.page.evaluate("window.planted") is None
    assert any("Content Security Policy" in error for error in fresh.errors)


# ------------------------------------------------------------------------------------------------------ the table


def test_table_sorts_both_ways_and_back_by_name(fresh: Opened) -> None:
    head = fresh.page.locator("#grid thead th.number button").nth(1)
    before = fresh.tasks()
    head.click()
    assert fresh.column(1) == sorted(fresh.column(1), reverse=True)
    assert fresh.page.locator("#grid thead th.number").nth(1).get_attribute("aria-sort") == "descending"
    head.click()
    assert fresh.column(1) == sorted(fresh.column(1))
    fresh.page.locator("#grid thead th.pin button").click()
    assert fresh.tasks() == sorted(before, key=str.lower)


def test_table_sorts_by_keyboard(fresh: Opened) -> None:
    fresh.page.locator("#grid thead th.number button").nth(2).focus()
    fresh.page.keyboard.press("Enter")
    assert fresh.column(2) == sorted(fresh.column(2), reverse=True)


def test_table_filters_by_type_name_and_model(fresh: Opened) -> None:
    page = fresh.page
    page.locator("#type-filter").select_option("STS")
    assert fresh.tasks() == ["STSBenchmark"]
    assert page.locator("#grid tfoot tr.whole:not(.off)").count() == 0, "means over all tasks do not belong to a filter"
    page.locator("#type-filter").select_option("")
    page.locator("#task-filter").fill("banking")
    assert fresh.tasks() == ["Banking77Classification"]
    page.locator("#task-filter").fill("")
    fresh.wait_for_charts()
    page.locator("#model-filter input").nth(1).uncheck()
    assert page.locator("#grid thead th.number:not(.off)").count() == 2
    assert page.locator("#grid tbody tr").first.locator("td[data-tip]:not(.off)").count() == 2
    page.wait_for_function("document.querySelectorAll('[data-chart=time] svg .mark-rect path').length === 6")


def test_columns_are_pinned(fresh: Opened) -> None:
    fresh.page.set_viewport_size({"width": 620, "height": 700})
    box = fresh.page.locator("#scores .scroll")
    task, baseline = fresh.page.locator("#grid tbody th.pin").first, fresh.page.locator("#grid tbody td.pin2").first
    box.evaluate("(node) => { node.scrollLeft = 400; }")
    left = box.bounding_box()["x"]
    assert abs(task.bounding_box()["x"] - left) < 2
    assert baseline.bounding_box()["x"] - left < task.bounding_box()["width"] + 3


def test_hover_tells_the_difference_and_its_interval(fresh: Opened) -> None:
    fresh.page.locator("#grid tbody tr").first.locator("td[data-tip]").nth(2).hover()
    tip = fresh.page.locator("#tip").text_content()
    assert re.search(r"model-03: \d+\.\d\d", tip)
    assert re.search(r"[+-]\d+\.\d\d to model-01 \(95% [+-]\d+\.\d\d to [+-]\d+\.\d\d\)", tip)


# ------------------------------------------------------------------------------------------------------ copying


def test_copied_csv_is_what_is_shown(fresh: Opened) -> None:
    fresh.page.locator("#type-filter").select_option("Classification")
    rows = list(csv.reader(io.StringIO(fresh.copied("csv"))))
    assert rows[0] == ["Task", "Type", "model-01", "model-02", "model-03"]
    assert [row[0] for row in rows[1:]] == ["Banking77Classification"]
    assert [float(cell) for cell in rows[1][2:]] == [fresh.column(n)[0] for n in range(3)]


def test_copied_markdown_has_a_row_a_task(fresh: Opened) -> None:
    lines = fresh.copied("markdown").splitlines()
    assert lines[0] == "| Task | Type | model-01 | model-02 | model-03 |"
    assert lines[1] == "|---|---|---:|---:|---:|"
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:7]] == fresh.tasks()
    assert all(line.count("|") == 6 for line in lines)
    assert "**" in lines[2]


@pytest.mark.parametrize(
    "mode", ["score", *(pytest.param(mode, marks=pytest.mark.full) for mode in ("interval", "delta"))]
)
def test_copied_latex_compiles(fresh: Opened, tmp_path: Path, mode: str) -> None:
    fresh.page.locator("#cell-mode").select_option(mode)
    table = fresh.copied("latex")
    assert table.count(r"\\") == 1 + fresh.page.locator("#grid :is(tbody, tfoot) tr:not(.off)").count()
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip("there is no LaTeX on this machine (apt-get install texlive-latex-recommended)")
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    flags = ["-halt-on-error", "-interaction=nonstopmode"] if compiler.endswith("pdflatex") else []
    done = subprocess.run([compiler, *flags, "table.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


# ------------------------------------------------------------------------------------------------------ charts


def test_forest_plot_shows_the_chosen_model(fresh: Opened) -> None:
    fresh.wait_for_charts()
    page = fresh.page
    where = "[data-chart=differences] svg .mark-symbol path"
    before = page.locator(where).evaluate_all("(all) => all.map((one) => one.getAttribute('transform')).join()")
    page.locator("[data-which=differences]").select_option("model-03")
    page.wait_for_function(
        f"[...document.querySelectorAll('{where}')].map((one) => one.getAttribute('transform')).join() !== {before!r}"
    )
    assert fresh.errors == []


def test_scatter_plot_counts_what_it_shows(fresh: Opened) -> None:
    fresh.wait_for_charts()
    page = fresh.page
    page.locator("#query-task").select_option("AskUbuntuDupQuestions")
    page.locator("#query-second").select_option("model-03")
    page.wait_for_function("document.querySelector('#query-tally').textContent.includes('model-03')")
    counts = [int(n) for n in re.findall(r"(?:on|even on) (\d+)", page.locator("#query-tally").text_content())]
    assert sum(counts) == 30
    assert "model-03" in page.locator("[data-chart=queries] svg").text_content()


# ------------------------------------------------------------------------------------------------------ for everybody


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.full)])
def test_axe_finds_no_serious_fault(browser: Any, small_report: Path, scheme: str) -> None:
    found = Opened(browser, small_report, color_scheme=scheme)
    found.page.locator("details:first-of-type").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    faults = serious_faults(found.page)
    found.context.close()
    assert faults == []


def test_phone_needs_no_sideways_scrolling(browser: Any, small_report: Path) -> None:
    found = Opened(browser, small_report, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    found.page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    width = found.page.evaluate("document.documentElement.scrollWidth")
    found.context.close()
    assert width == 360


def test_dark_mode_is_dark_and_paper_is_white(browser: Any, small_report: Path) -> None:
    found = Opened(browser, small_report, color_scheme="dark")
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    assert found.page.evaluate(brightness) < 150
    label = (
        "getComputedStyle(document.querySelector('[data-chart=scores] svg text')).fill.match(/\\d+/g).map(Number)[0]"
    )
    assert found.page.evaluate(label) > 180, "charts follow the screen"
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert found.page.evaluate(brightness) == 3 * 255
    assert found.page.evaluate(label) < 60, "and the paper"
    found.context.close()


@pytest.mark.full
def test_prints_on_few_pages(browser: Any, small_report: Path, tmp_path: Path) -> None:
    found = Opened(browser, small_report)
    found.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True, print_background=True)
    found.context.close()
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes())) <= 10


def test_works_without_scripts(browser: Any, small_report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(small_report.as_uri())
    assert page.locator("#grid tbody tr").count() == len(TASKS)
    assert page.locator("noscript p").count() == 1
    assert not page.locator("#table-tools").is_visible()
    context.close()


# ------------------------------------------------------------------------------------------------------ at full size


@pytest.fixture(scope="session")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """56 tasks, of which one has twelve parts, and 12 models."""
    from evaluation.tasks.index import load_index

    folder = tmp_path_factory.mktemp("large")
    tasks = [task.name for task in load_index().benchmark("MTEB(eng, v1)")]
    assert len(tasks) == 56
    run = write_suite(folder / "suite", tasks, n_models=12, n_units=120)
    return write_report([run], folder / "report.html")


@pytest.mark.full
def test_large_suite_is_small_and_opens_quickly(browser: Any, large_report: Path) -> None:
    assert large_report.stat().st_size < MAX_BYTES
    context = browser.new_context()
    page = context.new_page()
    openings = []
    for _ in range(3):
        started = time.perf_counter()
        page.goto(large_report.as_uri())
        openings.append(time.perf_counter() - started)
    page.wait_for_function("document.documentElement.dataset.charts === 'drawn'", timeout=60_000)
    rows = page.locator("#grid tbody tr").count()
    context.close()
    assert rows == 56
    assert min(openings) < MAX_OPENING_S, f"{large_report.stat().st_size} bytes, opened in {openings} s"


@pytest.mark.full
def test_large_suite_is_accessible(browser: Any, large_report: Path) -> None:
    check_page(browser, large_report)


def check_page(browser: Any, file: Path) -> None:
    """No error, no request, no serious fault."""
    found = Opened(browser, file)
    faults = serious_faults(found.page)
    assert found.errors == []
    assert found.requests == [file.as_uri()]
    found.context.close()
    assert faults == []


def check_real_report(browser: Any, runs: Sequence[Path], folder: Path) -> None:
    """The report of real runs: a sound page, and every chart drawn."""
    file = write_report(runs, folder / "report.html", figures=folder / "figures")
    check_page(browser, file)
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert any(name.startswith("scores") and name.endswith(".svg") for name in figures)
    assert len([name for name in figures if name.endswith(".pdf")]) == len(figures) / 2


@pytest.mark.full
def test_report_of_the_quickstart_run(browser: Any, tmp_path: Path) -> None:
    from evaluation import load_config, run

    config = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    outcome = run(load_config(config, overrides=[f"output={tmp_path / 'results'}"]))
    assert outcome.failed == []
    check_real_report(browser, [outcome.folder], tmp_path)


@pytest.mark.full
def test_report_of_real_data(browser: Any, tmp_path: Path, shared_data: Path) -> None:
    from evaluation import load_config, run
    from evaluation.execution.runner import RunOptions

    config = Path(__file__).parents[2] / "configs" / "published-scores.yaml"
    loaded = load_config(config, overrides=[f"output={tmp_path / 'results'}", f"data_root={shared_data}"])
    outcome = run(loaded, RunOptions(only=("BornholmBitextMining", "STSBenchmark", "MBPPRetrieval")))
    assert outcome.failed == []
    check_real_report(browser, [outcome.folder], tmp_path)


def test_bundle_can_stand_in_a_page() -> None:
    assert "</script" not in vega_bundle().lower()
    assert "<!--" not in vega_bundle()
