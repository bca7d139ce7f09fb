"""Terminals that can't show all of Unicode: known signs are spelt, others are escapes, and nothing fails."""

from __future__ import annotations

import pytest

from evaluation.system.plain_output import PLAIN


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "12.5^12 +/-0.5 a-b ... \\u4e2d"),
        ("cp1252", "12.5\xb9\xb2 \xb10.5 a\u2013b \u2026 \\u4e2d"),
        ("utf-8", "12.5¹² ±0.5 a–b … 中"),
    ],
)
def test_what_each_encoding_shows(encoding, shown):
    assert "12.5¹² ±0.5 a–b … 中".encode(encoding, PLAIN).decode(encoding) == shown


def test_a_superscript_that_cp1252_lacks_is_spelt():
    assert "1⁴⁵".encode("cp1252", PLAIN) == b"1^45"
