"""A second config with the name of another: its run folder is refused where scores of the first would be hidden."""

from __future__ import annotations

import pytest

from evaluation.errors import UsageError
from evaluation.execution.runner import run


@pytest.mark.usefixtures("single_thread")
def test_a_config_does_not_hide_the_scores_of_another_of_its_name(make_config, write_data, tmp_path, tiny_checkpoint):
    rows = [{"sentence1": f"a {n}", "sentence2": "b", "score": n} for n in range(4)]
    first, second = ({"local": name, "type": "STS", "data": write_data(name, {"test.jsonl": rows})} for name in "AB")
    run(make_config([first], tiny_checkpoint, "none"))
    kept = (tmp_path / "config.yaml").rename(tmp_path / "kept.yaml")
    run(make_config([second], tiny_checkpoint, "none"))  # that file, edited
    again = make_config([first], tiny_checkpoint, "none")
    run(again)  # the same file, edited
    moved = again.read_from(kept, {})
    run(moved.model_copy(update={"tasks": make_config([first, second], tiny_checkpoint, "none").tasks}))  # shows both
    with pytest.raises(UsageError, match=r"holds the run of .*kept.yaml.* would hide its scores \(tiny none on B\)"):
        run(make_config([first], tiny_checkpoint, "none"))
