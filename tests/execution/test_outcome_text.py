"""What a notebook and a Python prompt show of a run's outcome and of a comparison: one line, and a table."""

from __future__ import annotations

from pathlib import Path

from support.fake_runs import job_record

import evaluation
from evaluation.execution.reporting import RunOutcome


def test_outcome_is_one_line_and_a_table() -> None:
    record = job_record("E5 <small>", "SciFact", type="Retrieval", protocol="e5", metric="ndcg_at_10")
    outcome = RunOutcome(Path("results/x"), [record], 1)
    assert repr(outcome) == "RunOutcome(1 of 1 jobs have a score; 1 ran now: results/x)"
    page = outcome._repr_html_()
    assert "E5 &lt;small&gt;" in page and f"{100 * record.main_score:.2f} ndcg_at_10" in page
    assert page.count("<tr>") == 2


def test_comparison_is_one_line_and_a_table(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "model,source,revision,protocol,task,task_type,split,subset,metric,main_score\n"
        "org/a,s,,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.5\n"
        "org/<b>,s,,e5,SciFact,Retrieval,test,default,ndcg_at_10,0.75\n",
        encoding="utf-8",
    )
    comparison = evaluation.compare(tmp_path / "mine.csv")
    assert len(repr(comparison)) < 200 and "SciFact" not in repr(comparison)
    page = comparison._repr_html_()
    assert "<th>SciFact</th><td>50.00</td><td>75.00</td>" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
