"""Finds out whether an embedding server puts a prefix of its own before texts that carry the protocol's prefix."""

from __future__ import annotations

from evaluation.encoding.endpoint_answers import Answer
from evaluation.encoding.endpoint_batches import BatchSender
from evaluation.encoding.endpoint_store import PROBES, cosines

_ONE_LETTER, _SENTENCE = PROBES[0], PROBES[1]
_EQUAL_COSINE = 1 - 1e-6
_MOST_TOKENS = 4
"""Of one letter: begin and end of the text, and at most two pieces."""


def doubling_notice(sender: BatchSender, prefix: str) -> str | None:
    """Returns a sentence if the server seems to add a prefix itself; None if it does not.

    Args:
        prefix: The protocol's, which is put before texts.
    """
    url = sender.client.url
    bare = sender.send_as([_SENTENCE], None)
    if bare is None:
        return None
    with_prefix = sender.send_as([prefix + _SENTENCE], None)
    if with_prefix is not None and _are_equal(bare, with_prefix):
        return f"The endpoint {url} gives the same vector with and without {prefix!r}: it handles prefixes itself."
    sides = {name: sender.send_as([_SENTENCE], name) for name in ("query", "passage")}
    query, passage = sides["query"], sides["passage"]
    if query is not None and passage is not None and not _are_equal(query, passage):
        for name, answer in (("query", query), ("passage", passage)):
            if _are_equal(bare, answer):
                return (
                    f"The endpoint {url} puts its {name} prefix before every text itself, so that texts reach the "
                    f"model with two prefixes, the second one {prefix!r}. Set endpoint.prefix: input_type."
                )
    letter = sender.send_as([_ONE_LETTER], None)
    if letter is not None and letter.tokens is not None and letter.tokens > _MOST_TOKENS:
        return (
            f"The endpoint {url} counts {letter.tokens} tokens in the text {_ONE_LETTER!r}: it seems to put a prefix "
            f"of its own before texts, besides {prefix!r}. Turn that off on the server, or choose protocol none."
        )
    return None


def _are_equal(answer: Answer, other: Answer) -> bool:
    """Whether two requests with one text each reached the model as the same text."""
    same_width = answer.vectors.shape == other.vectors.shape
    return same_width and bool(cosines(answer.vectors, other.vectors)[0] >= _EQUAL_COSINE)
