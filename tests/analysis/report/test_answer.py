"""The first sentence of a report."""

from __future__ import annotations

from dataclasses import replace

from support.fake_comparisons import column, comparison

from evaluation.analysis.report.answer import answer


def said(made: object) -> str:
    found = answer(made)  # type: ignore[arg-type]
    return found.lead + found.rest


def test_clear_winner_by_how_much_how_sure_over_what() -> None:
    made = comparison({"old": [50.0, 40.0], "new": [56.0, 44.0]}, suite={"new": (2.0, 8.0, 0.0004)})
    assert said(made) == (
        "new is better than old by 5.00 points: 50.00 against 45.00 points on average over all 2 tasks, protocol e5 "
        "(+5.00 on these tasks, 95% interval +2.00 to +8.00, p = 0.0004)."
    )


def test_baseline_that_wins_is_compared_with_the_runner_up_and_signs_turn() -> None:
    made = comparison({"old": [56.0, 44.0], "new": [50.0, 40.0]}, suite={"new": (-8.0, -2.0, 0.01)})
    assert said(made).startswith("old is better than new by 5.00 points: 50.00 against 45.00")
    assert "(+5.00 on these tasks, 95% interval +2.00 to +8.00, p = 0.0100)" in said(made)


def test_too_close_to_call_is_said_so() -> None:
    made = comparison({"old": [50.0, 40.0], "new": [50.5, 40.5]}, suite={"new": (-1.0, 2.0, 0.4)})
    assert said(made).startswith("new is 0.50 points ahead of old, which chance could explain: 45.50 against 45.00")


def test_without_samples_nothing_is_claimed() -> None:
    made = comparison({"old": [50.0, 40.0], "new": [56.0, 44.0]})
    assert said(made).startswith("new is 5.00 points ahead of old: ")
    assert "its certainty is unknown" in said(made)


def test_third_model_is_named_with_its_mean() -> None:
    made = comparison({"a": [50.0, 40.0], "b": [56.0, 44.0], "c": [30.0, 20.0]}, suite={"b": (2.0, 8.0, 0.001)})
    assert said(made).endswith("; then c 25.00.")


def test_single_model_is_told_without_a_comparison() -> None:
    assert (
        said(comparison({"only": [50.0, 40.0]})) == "only scores 45.00 points on average over all 2 tasks, protocol e5."
    )


def test_single_task_is_its_own_mean() -> None:
    made = replace(comparison({"old": [50.0], "new": [56.0]}, p_adjusted={"new": [0.01]}), aggregates=())
    assert said(made) == (
        "new is better than old by 6.00 points: 56.00 against 50.00 points on Task0, protocol e5 "
        "(+6.00, 95% interval +5.00 to +7.00, p = 0.0100)."
    )


def test_incomplete_model_never_wins_and_is_named() -> None:
    made = comparison({"whole": [50.0, 40.0], "other": [51.0, 39.0], "part": [90.0, None]})
    assert "part" not in said(made)
    assert "Not complete: no score for part on Task1." in answer(made).cautions


def test_task_that_no_model_has_stands_in_nobodys_way() -> None:
    made = comparison({"old": [50.0, None, 40.0], "new": [56.0, None, 44.0]})
    assert said(made).startswith(
        "new is 5.00 points ahead of old: 50.00 against 45.00 points on average over 2 of the 3"
    )


def test_different_protocols_are_told_and_cautioned() -> None:
    columns = [column("a"), column("b", protocol="none")]
    made = comparison({"a": [50.0, 40.0], "b": [51.0, 39.5]}, columns=columns)
    assert "under protocols e5 (a) and none (b)" in said(made)
    assert any("different protocols" in caution for caution in answer(made).cautions)


def test_limited_run_is_cautioned() -> None:
    made = comparison({"a": [50.0, 40.0]}, columns=[replace(column("a"), limited=True)])
    assert any("not for reporting" in caution for caution in answer(made).cautions)


def test_tally_counts_significant_tasks_only() -> None:
    made = comparison(
        {"old": [50.0, 40.0, 30.0], "new": [56.0, 44.0, 29.0]},
        suite={"new": (1.0, 5.0, 0.01)},
        p_adjusted={"new": [0.001, 0.3, 0.04]},
    )
    assert answer(made).tally.startswith(
        "Task by task, new is significantly better than old on 1, significantly worse on 1, and undecided on 1 of 3"
    )


def test_tally_turns_where_the_baseline_leads() -> None:
    made = comparison(
        {"old": [56.0, 44.0], "new": [50.0, 40.0]}, suite={"new": (-8, -2, 0.01)}, p_adjusted={"new": [0.001, 0.2]}
    )
    assert "old is significantly better than new on 1, significantly worse on 0" in answer(made).tally


def test_no_score_at_all_is_an_answer() -> None:
    assert said(comparison({"a": [None, None]})) == "No model has a score on any of the 2 tasks."


def test_models_without_a_common_task_are_not_ranked() -> None:
    made = comparison({"old": [50.0, None], "new": [None, 90.0]})
    assert said(made) == "The models have no tasks in common, so that their means say nothing."


def test_one_model_is_said_to_lack_tasks() -> None:
    assert "over 2 of the 3 tasks" in said(comparison({"only": [50.0, 40.0, None]}))
