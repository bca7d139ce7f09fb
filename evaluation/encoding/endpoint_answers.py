"""Reads what an embedding server answers: its vectors, or its words about what went wrong. Sends nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EncodingError, ModelError
from evaluation.system.limited_reading import parse_json
from evaluation.system.redaction import hide

_MOST_WORDS = 300


class Answer(NamedTuple):
    """vectors (N, D) float32 in the order of the request, and the tokens that the server counted in it, if it did."""

    vectors: NDArray[np.float32]
    tokens: int | None


def read_answer(content: dict[str, Any] | list[Any], n_texts: int, url: str) -> Answer:
    """Returns the vectors of an answer that was sent as a success.

    Args:
        content: The answer's JSON.
        n_texts: Texts in the request.
        url: For messages.

    Raises:
        ModelError: It reports an error, or does not have the form of OpenAI's interface.
        EncodingError: It lacks vectors, or vectors can't be matched with their texts.
    """
    if isinstance(content, dict) and "data" not in content and (words := _words_in(content)):
        raise ModelError(f"the endpoint {url} reports an error, although it answers HTTP 200: {words}.")
    try:
        if not isinstance(content, dict):
            raise TypeError("a list")
        rows = {row["index"]: row["embedding"] for row in content["data"]}
        _check_order([row["index"] for row in content["data"]], n_texts, url)
        vectors = [_vector(rows[position], position, url) for position in range(n_texts)]
        tokens = (content.get("usage") or {}).get("prompt_tokens")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the endpoint {url} did not return embeddings as OpenAI's interface has them "
            f"({type(error).__name__}: {error}); it says {hide(json.dumps(content))[:_MOST_WORDS]}. Check "
            "endpoint.url and the server."
        ) from error
    check_widths({len(vector) for vector in vectors}, url)
    return Answer(np.stack(vectors), tokens if type(tokens) is int else None)


def check_widths(widths: set[int], url: str) -> None:
    """Checks that all vectors have the same width.

    Raises:
        EncodingError: They do not.
    """
    if len(widths) > 1:
        told = " and ".join(map(str, sorted(widths)))
        raise EncodingError(
            f"the endpoint {url} gave vectors of different sizes, {told}: several models seem to answer at this "
            "address. Serve one of them."
        )


def quantization_notice(vectors: NDArray[np.float32], url: str) -> str | None:
    """Returns a sentence where a server's vectors, (N, D), are whole numbers: int8 codes or bits; else None."""
    if (vectors % 1).any():
        return None
    return (
        f"the endpoint {url} delivers whole numbers, such as int8 codes or bits: its vectors are quantized already, "
        "and bytes per vector are counted as if they were float32."
    )


def server_words(content: bytes) -> str:
    """Returns what a server says of a failure, in one line; of an answer that is not JSON, its first line."""
    text = hide(content.decode("utf-8", "replace"))  # before it is cut, or half a key could stay
    try:
        found = _words_in(parse_json(text))
    except ValueError:
        found = ""
    lines = (found or text).strip().splitlines()
    return lines[0][:_MOST_WORDS].rstrip(". ") if lines else "no reason given"


def _words_in(content: Any) -> str:
    """Returns the message in the forms that servers use: error, message, detail, and lists of these."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "; ".join(filter(None, map(_words_in, content)))
    if not isinstance(content, Mapping):
        return ""
    place = content.get("loc")
    where = f"{'.'.join(map(str, place))}: " if isinstance(place, list) else ""
    found = (_words_in(content.get(name)) for name in ("error", "message", "msg", "detail"))
    words = next(filter(None, found), "")
    return where + words if words else ""


def _check_order(indices: Sequence[object], n_texts: int, url: str) -> None:
    """Checks that vectors can be matched with their texts for certain.

    Raises:
        EncodingError: The indices are not the integers from 0 to `n_texts` - 1, each once.
    """
    if len(indices) != n_texts:
        raise EncodingError(f"the endpoint {url} gave {len(indices)} vectors for {n_texts} texts.")
    if any(type(index) is not int for index in indices) or set(indices) != set(range(n_texts)):
        shown = ", ".join(map(repr, indices[:5]))
        raise EncodingError(
            f"the endpoint {url} numbered the vectors of {n_texts} texts {shown}{', ...' * (n_texts > 5)}; `index` "
            f"must be each integer from 0 to {n_texts - 1} once, or vectors go to the wrong texts. Fix the server."
        )


def _vector(embedding: Any, position: int, url: str) -> NDArray[np.float32]:
    if embedding is None or (isinstance(embedding, list) and None in embedding):
        raise EncodingError(
            f"the endpoint {url} gave null in place of the vector of text {position + 1} of a request, or of one of "
            "its numbers; no score is made of it. Look for the reason in the server's log."
        )
    if isinstance(embedding, str):
        vector = np.frombuffer(base64.b64decode(embedding, validate=True), np.dtype("<f4")).astype(np.float32)
    else:
        vector = np.asarray(embedding, np.float32)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"an embedding of shape {vector.shape}")
    return vector
