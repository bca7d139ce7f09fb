"""What is asked again and what is not: real exceptions of the Hub's client, and a server on loopback that fails."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx2 as httpx
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from evaluation.system import retries
from evaluation.system.retries import can_pass, with_retries


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/api/models/x")
    return kind("said", response=httpx.Response(status, request=request))


def caused(error: Exception, cause: BaseException) -> Exception:
    try:
        raise error from cause
    except Exception as found:
        return found


CAN_PASS: list[BaseException] = [
    *(answered(HfHubHTTPError, status) for status in (408, 429, 500, 502, 503, 504)),
    TimeoutError("timed out"),
    ConnectionResetError(104, "reset"),
    BrokenPipeError(),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("cut"),
    httpx.RemoteProtocolError("peer closed"),
    caused(LocalEntryNotFoundError("not cached"), httpx.ReadTimeout("slow")),
    caused(RuntimeError("a library's own"), answered(HfHubHTTPError, 503)),
]
CAN_NOT_PASS: list[BaseException] = [
    answered(RepositoryNotFoundError, 404),
    answered(RepositoryNotFoundError, 401),
    answered(RevisionNotFoundError, 404),
    answered(GatedRepoError, 403),
    OfflineModeIsEnabled("offline"),
    caused(LocalEntryNotFoundError("not cached"), OfflineModeIsEnabled("offline")),
    httpx.ConnectError("[Errno -2] Name or service not known"),
    ConnectionRefusedError(111, "refused"),
    FileNotFoundError(2, "no such file"),
    ValueError("a bad split"),
]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", taken.append)
    return taken


def failing(errors: list[BaseException]) -> Callable[[], str]:
    def ask() -> str:
        if errors:
            raise errors.pop(0)
        return "answer"

    return ask


@pytest.mark.parametrize("error", CAN_PASS, ids=repr)
def test_what_can_pass_is_asked_again(error: BaseException, pauses: list[float]) -> None:
    assert can_pass(error)
    assert with_retries(failing([error]), "data") == "answer"
    assert pauses == [2.0]


@pytest.mark.parametrize("error", CAN_NOT_PASS, ids=repr)
def test_what_can_not_pass_is_not_asked_again(error: BaseException, pauses: list[float]) -> None:
    assert not can_pass(error)
    with pytest.raises(type(error)):
        with_retries(failing([error]), "data")
    assert pauses == []


def test_pauses_grow_and_the_last_error_is_raised(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    errors: list[BaseException] = [TimeoutError(f"number {number}") for number in range(4)]
    with pytest.raises(TimeoutError, match="number 3"):
        with_retries(failing(errors), "dataset x/y")
    assert pauses == [2.0, 8.0, 30.0]
    assert caplog.messages[0] == "dataset x/y: TimeoutError; trying again in 2 s."


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_server_that_never_answers_can_pass_and_one_that_refuses_can_not(silent_server: str) -> None:
    with pytest.raises(httpx.HTTPError) as caught:
        httpx.get(silent_server, timeout=0.05)
    assert can_pass(caught.value)
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(httpx.HTTPError) as caught:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
    assert not can_pass(caught.value)
