"""Opens sessions with an embedding server in which texts and key go to the configured host only."""

from __future__ import annotations

import logging
import os
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests

from evaluation.config.endpoint_keys import host_of, is_readable_on_the_way
from evaluation.config.model_config import EndpointConfig
from evaluation.errors import ModelError
from evaluation.system.redaction import MIN_SECRET_LENGTH, add_secret_variable

_LOG = logging.getLogger(__name__)
_KEEPS_THE_REQUEST = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})


def endpoint_session(endpoint: EndpointConfig) -> requests.Session:
    """Returns a session that sends the key, if the endpoint has one, and follows redirects within the host only.

    Raises:
        ModelError: The key's variable is not set, or the key can't be sent.
    """
    session = _SameHostSession(endpoint.url)
    if endpoint.key_variable is not None:
        session.headers["Authorization"] = f"Bearer {_read_key(endpoint, endpoint.key_variable)}"
    return session


def _read_key(endpoint: EndpointConfig, variable: str) -> str:
    """Returns the key from the environment. It is sent only, and hidden wherever a server or library repeats it."""
    add_secret_variable(variable)
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(f"the endpoint {endpoint.url} needs the key in {variable}, which is not set.")
    if not (key.isascii() and key.isprintable()):
        raise ModelError(f"the key in {variable} holds characters that an HTTP header can't carry; set it again.")
    if len(key) < MIN_SECRET_LENGTH:
        _LOG.warning(
            "the key in %s has fewer than %d characters, so it is not hidden where a server repeats it; "
            "use a longer key if it is a secret.",
            variable,
            MIN_SECRET_LENGTH,
        )
    elif is_readable_on_the_way(endpoint.url):
        _LOG.warning(
            "the key in %s goes to %s unencrypted; set endpoint.url to an https:// address.",
            variable,
            host_of(endpoint.url),
        )
    return key


class _SameHostSession(requests.Session):
    """Refuses to take requests, which hold texts and the key, to another host, and takes no login from ~/.netrc."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.auth = lambda request: request  # without any, requests sends what ~/.netrc holds for the host

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Returns where a redirect within the host leads; None where the answer is not a redirect.

        Raises:
            ModelError: The redirect leads to another host or port, or drops the request's body.
        """
        target: str | None = super().get_redirect_target(resp)
        if target is None:
            return None
        there, here = urlsplit(urljoin(resp.url, target)), urlsplit(resp.url)
        place = f"{there.scheme}://{there.hostname}{f':{there.port}' if there.port else ''}"
        if (there.scheme, there.hostname, there.port) != (here.scheme, here.hostname, here.port):
            raise ModelError(
                f"the endpoint {self._url} redirects to another server, {place}, but texts and keys are sent only to "
                "the one that the config names; set endpoint.url to that server if you trust it."
            )
        if resp.status_code not in _KEEPS_THE_REQUEST:
            raise ModelError(
                f"the endpoint {self._url} redirects (HTTP {resp.status_code}) to {place}{there.path}, which would "
                "lose the texts; correct endpoint.url."
            )
        return target
