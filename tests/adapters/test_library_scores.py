"""Checkpoints as users have them: a task scores what mteb gives for the folder that sentence-transformers loads.

Each folder is built and saved by sentence-transformers. The other side knows nothing of ours: mteb's own wrapper loads
the folder with sentence-transformers and scores a task object whose dataset is set by hand.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

mteb = pytest.importorskip("mteb")

from support.checkpoint_variations import (  # noqa: E402
    dense,
    lower_casing,
    normalize,
    pooling,
    routed,
    sentence_model,
    tokenizers_disagree,
)
from support.mteb_cases import CASES, mteb_scores, same, stored_scores  # noqa: E402

from evaluation import run  # noqa: E402

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]

PROMPTS = {"prompts": {"query": "ask ", "document": "tell ", "STS": "match "}}
LAYOUTS = {
    "maximum length 16": partial(sentence_model, max_seq_length=16),
    "prompts": partial(sentence_model, model=PROMPTS),
    "prompts not pooled": partial(
        sentence_model, parts=[partial(pooling, include_prompt=False), normalize], model=PROMPTS
    ),
    "default prompt": partial(sentence_model, model={"prompts": {"clue": "hint "}, "default_prompt_name": "clue"}),
    "truncated dimension": partial(sentence_model, model={"truncate_dim": 6}),
    "tokenizer files disagree": partial(tokenizers_disagree, do_lower_case=False, strip_accents=True),
    "router": routed,
    "normalised before dense": partial(sentence_model, parts=[pooling, normalize, dense]),
    "do_lower_case": partial(lower_casing, already=False),
    "root of length": partial(sentence_model, parts=[partial(pooling, "mean_sqrt_len_tokens")]),
}


@pytest.fixture
def short_texts(text_pool: list[str]) -> list[str]:
    """Texts that differ within the tiny models' few positions, where each letter is a token."""
    found = dict.fromkeys(text[start : start + 26].strip() for text in text_pool for start in (0, 40, 80))
    halves = [len(" ".join(text.split()[: (len(text.split()) + 1) // 2])) for text in found]
    return [text for text, half in zip(found, halves, strict=True) if len(text) >= 18 and 4 <= half <= 14]


def library_model(folder: Path) -> Any:
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    found = SentenceTransformerEncoderWrapper(str(folder), device="cpu")
    if hasattr(found.model[0], "auto_model"):
        found.model.max_seq_length = min(found.model.max_seq_length, 32)  # positions, beyond which the library fails
    return found


TYPES = ["Retrieval", "STS", "PairClassification"]
"""The last two have dot products and Euclidean distances among their scores, which see the vectors' lengths."""


@pytest.mark.parametrize("task_type", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_score_is_that_of_the_library(
    layout: str, task_type: str, short_texts: list[str], write_data: Any, make_config: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    LAYOUTS[layout](folder)
    case = CASES[task_type](short_texts)
    task = {**case.task, "data": write_data("data", case.files)}
    protocol = "declared" if "prompt" in layout else "none"
    (record,) = run(make_config([task], folder, protocol)).records
    assert record.state == "done", record.error

    done = mteb.evaluate(library_model(folder), case.reference, cache=None, show_progress_bar=False)
    found, expected = stored_scores(record.scores), mteb_scores(done.task_results[0].scores)
    assert found.keys() == expected.keys()
    different = {key: (found[key], value) for key, value in expected.items() if not same(found[key], value)}
    assert different == {}, "path: (ours, the library's)"
