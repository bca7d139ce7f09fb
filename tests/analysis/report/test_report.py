"""The report as a file: what stands in it, and that nothing in it can act."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.synthetic_suite import HOSTILE_QUERY, write_suite

from evaluation.analysis.comparison.stored_types import StoredComparison, StoredRow
from evaluation.analysis.report.contents import Report, gather
from evaluation.analysis.report.page import (
    breakable,
    content_policy,
    duration,
    inline_json,
    metric_name,
    query_data,
    render,
)
from evaluation.analysis.report.report import write_report
from evaluation.analysis.report.sizes import Measured, SizedScore, Sizes
from evaluation.analysis.statistics.loss_verdicts import LossVerdict
from evaluation.errors import UsageError
from evaluation.records.job_record import PeakMemory

TASKS = ["NFCorpus", "STSBenchmark"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("runs") / "harbours", TASKS, n_models=2, n_units=20)


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return gather([run])


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render(report)


class Elements(HTMLParser):
    """All elements with their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.found:
        assert not {"src", "srcset", "data", "action"} & set(attributes), (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), attributes
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?https?:", page)


def test_no_element_or_handler_comes_from_data(page: str) -> None:
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 3
    assert not {"img", "svg", "iframe", "object", "embed"} & {tag for tag, _ in elements.found}
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert HOSTILE_QUERY.replace("\x07", "␇") in elements.text


def test_policy_names_the_scripts_by_their_hash(page: str) -> None:
    scripts = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert len(scripts) == 2
    assert f'content="{content_policy(scripts)}"'.replace("'", "&#39;") in page
    assert "unsafe-inline" not in content_policy(scripts).split("style-src")[0]


def test_answer_completeness_and_protocol_stand_on_top(page: str) -> None:
    top = re.search(r'<p class="answer">(.*?)</p>', page, re.DOTALL)
    assert top is not None
    assert "model-02" in top[1]
    assert "over all 2 tasks" in top[1]
    assert "protocol e5" in top[1]


def test_audit_marks_the_prefix(page: str) -> None:
    assert '<mark><span class="sr">prefix: </span>passage: </mark>' in page


def test_provenance_names_commit_hashes_and_command(page: str) -> None:
    assert "0123456789abcdef0123456789abcdef01234567" in page
    assert "&amp;&amp; run-benchmark reproduce-harbours.yaml --output reproduced" in page
    assert "configs/harbours.yaml" in page


def test_what_was_measured_of_a_model_stands_below_its_sizes(report: Report) -> None:
    peak = PeakMemory(where="process", bytes=1300 * 2**20, at_most=True)
    measured = (Measured("e5", 118_000_000, 80.0, 9000.0, peak), Measured("bare", None, None, None, peak))
    text = Elements(render(replace(report, sizes=Sizes((), measured)))).text
    _, _, rows = text.partition("Peak memory\n")
    assert rows.split("\n")[:2] == ["e5about 118 million809,000at most 1,300 MiB", "bareunknowncachedcachedcached"]


def test_the_verdict_on_each_stored_form_and_the_claim_stand_beside_its_bytes(report: Report) -> None:
    own = StoredRow("e5", "e5", "float32", "NFCorpus", 50.0, None)
    verdict = LossVerdict("inconclusive", -0.005, -0.0125, 0.0025, 0.2, 80, 299)
    cut = replace(own, label="e5@int8", stored="int8", score=49.5, verdict=verdict, change=-0.5)
    mean = replace(cut, task=None, verdict=replace(verdict, outcome="ruled out"), note="without STSBenchmark")
    stored = StoredComparison((own, cut, mean), 1.0, True, ("e5: the smallest form is int8.",))
    scores = [SizedScore("NFCorpus", row.label, "e5", row.stored, 50.0, None, 384, 384) for row in (own, cut)]
    shown = Sizes((scores[0], replace(scores[1], loss=cut)), (), (mean,))
    comparison = replace(report.comparison, stored=stored)
    text = Elements(render(replace(report, comparison=comparison, sizes=shown))).text
    section = text.rpartition("Bytes and scores\n")[2].strip()
    assert section.startswith("e5: the smallest form is int8.")
    assert "Loss over 1 point" in section
    assert "e5@int8inconclusive: 299 units would decide, not 80-0.50 [-1.25, +0.25]384" in section
    assert "Mean over tested taskse5@int8ruled out (without STSBenchmark)-0.50 [-1.25, +0.25]\n" in section
    assert "NFCorpuse5384" in section


def test_texts_that_were_not_stored_are_said_to_be_missing(tmp_path: Path) -> None:
    run = write_suite(tmp_path / "bare", ["NFCorpus"], n_models=2, n_units=10, store_texts=False)
    text = render(gather([run]))
    assert "No texts are stored for this task (runtime.store_texts: false)." in text


def test_single_model_has_a_report(tmp_path: Path) -> None:
    run = write_suite(tmp_path / "alone", ["NFCorpus"], n_models=1, n_units=10)
    text = render(gather([run]))
    assert "model-01 scores" in text
    assert 'id="wins"' not in text


def test_two_runs_stand_in_one_report(run: Path, tmp_path: Path) -> None:
    other = write_suite(tmp_path / "second", TASKS, n_models=1, n_units=20)
    text = render(gather([run, other]))
    assert "Run harbours" in text
    assert "Run second" in text


def test_baseline_can_be_chosen_and_an_unknown_one_is_refused(run: Path) -> None:
    assert gather([run], baseline="model-02").comparison.baseline == "model-02"
    assert gather([run]).comparison.baseline == "model-01"
    with pytest.raises(UsageError, match="modle-02"):
        gather([run], baseline="modle-02")


def test_figures_are_written_one_a_model_and_pair(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "report.html", figures=tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = {"scores", "types", "speed", "time", "differences-model-02", "lengths-model-01", "lengths-model-02"}
    assert {f"{stem}.{kind}" for stem in stems for kind in ("svg", "pdf")} <= names
    assert "queries-NFCorpus-model-01-model-02.svg" in names


def test_scatter_data_of_many_queries_is_a_sample(tmp_path: Path) -> None:
    run = write_suite(tmp_path / "many", ["NFCorpus"], n_models=1, n_units=400)
    found = query_data(gather([run]).scored)["NFCorpus"]
    assert (found["total"], len(found["queries"]), len(found["scores"]["model-01"])) == (400, 300, 300)


def test_json_can_not_end_its_element() -> None:
    assert inline_json({"a": "</script><!-- & "}) == '{"a":"\\u003c/script\\u003e\\u003c!-- \\u0026 "}'


def test_strings_in_json_are_inert() -> None:
    assert inline_json({"a\x1b": ["\u202e", 1, None]}) == '{"a␛":["\\\\u202e",1,null]}'


def test_names_for_people() -> None:
    assert [metric_name(name) for name in ("ndcg_at_10", "cosine_spearman", "max_ap")] == [
        "nDCG@10",
        "cosine spearman",
        "max AP",
    ]
    assert [duration(seconds) for seconds in (None, 0, 3.21, 600, 9000)] == ["", "0 s", "3.2 s", "10.0 min", "2.5 h"]
    assert breakable("TownDesk<b>Retrieval") == "Town<wbr>Desk&lt;b&gt;Retrieval"
