"""A key goes to the server it was made for and nowhere else: redirects, ~/.netrc, plain http, short keys."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evaluation.config.endpoint_keys import is_readable_on_the_way, key_fault
from evaluation.config.model_config import EndpointConfig
from evaluation.encoding.endpoint_sessions import endpoint_session
from evaluation.errors import ModelError
from evaluation.system.redaction import hide

KEY = "quiet-river-stone-42"


class Place:
    """A server that redirects as told and notes the path, key and body of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, bytes]] = []
        self.redirects: dict[str, tuple[int, str]] = {}
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                place.seen.append((self.path, self.headers["Authorization"], body))
                status, target = place.redirects.get(self.path, (200, ""))
                self.send_response(status)
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *arguments: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Place]]:
    monkeypatch.setenv("THE_KEY", KEY)
    both = Place(), Place()
    yield both
    for place in both:
        place.server.shutdown()


def endpoint(url: str, **more: Any) -> EndpointConfig:
    return EndpointConfig.model_validate({"url": url, "key_variable": "THE_KEY", **more})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_neither_texts_nor_key_follow_a_redirect_to_another_server(places: tuple[Place, Place], status: int) -> None:
    own, other = places
    own.redirects["/v1"] = status, f"{other.url}/v1?sig=0123456789"
    with pytest.raises(ModelError, match="redirects to another server") as refused:
        endpoint_session(endpoint(own.url)).post(f"{own.url}/v1", data=b"texts")
    assert other.seen == []
    assert "0123456789" not in str(refused.value)


def test_redirect_within_the_server_keeps_texts_and_key(places: tuple[Place, Place]) -> None:
    own, _ = places
    own.redirects["/v1"] = 308, "/v2"
    assert endpoint_session(endpoint(own.url)).post(f"{own.url}/v1", data=b"texts").status_code == 200
    assert own.seen == [(path, f"Bearer {KEY}", b"texts") for path in ("/v1", "/v2")]


def test_redirect_that_would_drop_the_texts_is_refused(places: tuple[Place, Place]) -> None:
    own, _ = places
    own.redirects["/v1"] = 302, "/v2"
    with pytest.raises(ModelError, match=r"HTTP 302\) to http://127.0.0.1:\d+/v2, which would lose the texts"):
        endpoint_session(endpoint(own.url)).post(f"{own.url}/v1", data=b"texts")
    assert len(own.seen) == 1


def test_login_in_netrc_replaces_no_key(
    places: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = places
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password elsewhere\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    endpoint_session(endpoint(own.url)).post(f"{own.url}/v1", data=b"")
    endpoint_session(endpoint(own.url, key_variable=None)).post(f"{own.url}/v1", data=b"")
    assert [key for _, key, _ in own.seen] == [f"Bearer {KEY}", None]


def test_key_is_hidden_whatever_its_variable_is_called(places: tuple[Place, Place]) -> None:
    endpoint_session(endpoint(places[0].url))
    assert hide(f"the server says: Authorization: {KEY}") == "the server says: Authorization: [secret]"


def test_short_key_and_plain_http_are_warnings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("THE_KEY", "EMPTY")
    endpoint_session(endpoint("http://127.0.0.1:8000/v1"))
    monkeypatch.setenv("THE_KEY", KEY)
    endpoint_session(endpoint("http://gpu-7.lab:8000/v1"))
    endpoint_session(endpoint("https://gpu-7.lab/v1"))
    endpoint_session(endpoint("http://localhost:8000/v1"))
    short, plain = (record.getMessage() for record in caplog.records)
    assert short.startswith("the key in THE_KEY has fewer than 8 characters, so it is not hidden")
    assert plain == "the key in THE_KEY goes to gpu-7.lab unencrypted; set endpoint.url to an https:// address."
    assert hide("EMPTY") == "EMPTY"


@pytest.mark.parametrize(
    ("value", "says"), [("", "is not set"), ("a\nb: c", "can't carry"), ("schlüssel", "can't carry")]
)
def test_unusable_key_is_a_sentence(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.setenv("THE_KEY", value)
    with pytest.raises(ModelError, match=says) as refused:
        endpoint_session(endpoint("https://host/v1"))
    assert not value or value not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "url", "allowed", "fits"),
    [
        ("HF_TOKEN", "https://x.endpoints.huggingface.cloud/v1", None, True),
        ("HF_TOKEN", "https://router.huggingface.co/v1", None, True),
        ("HF_TOKEN", "https://huggingface.co.evil.example/v1", None, False),
        ("HF_TOKEN", "https://evilhuggingface.co/v1", None, False),
        ("HF_TOKEN", "https://huggingface.co@evil.example/v1", None, False),
        ("HF_TOKEN", "http://127.0.0.1:8000/v1", None, False),
        ("HF_TOKEN", "http://GPU-7.lab:8000/v1", "gpu-7.lab", True),
        ("HF_TOKEN", "http://gpu-7.lab:8000/v1", "gpu-8.lab", False),
        ("hf_token", "http://gpu-7.lab:8000/v1", None, False),
        ("AWS_SESSION_TOKEN", "https://host/v1", None, False),
        ("AWS_SECRET_ACCESS_KEY", "https://bedrock.eu-west-1.amazonaws.com/v1", None, True),
        ("GITHUB_TOKEN", "https://host/v1", None, False),
        ("GITHUB_TOKEN", "https://models.github.ai/inference", None, True),
        ("OPENAI_API_KEY", "http://localhost:8000/v1", None, False),
        ("OPENAI_API_KEY", "https://api.openai.com/v1", None, True),
        ("MY_KEY", "http://anything/v1", None, True),
    ],
)
def test_key_of_a_service_goes_to_its_hosts_only(variable: str, url: str, allowed: str | None, fits: bool) -> None:
    assert (key_fault(variable, url, allowed) is None) == fits


@pytest.mark.parametrize(
    ("url", "readable"),
    [
        ("http://gpu-7/v1", True),
        ("http://10.0.0.7/v1", True),
        ("http://127.0.0.2:80/v1", False),
        ("http://[::1]:80/v1", False),
        ("http://localhost/v1", False),
        ("https://gpu-7/v1", False),
    ],
)
def test_only_plain_http_to_other_machines_is_readable(url: str, readable: bool) -> None:
    assert is_readable_on_the_way(url) == readable
