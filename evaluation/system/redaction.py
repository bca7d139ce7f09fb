"""Keeps secrets out of everything that is written or shown. Knows nothing of where texts go.

All text leaves through four gates that call this module: files (`system/atomic_files.py`), tables of records
(`records/parquet_tables.py`), standard output and error (`commands/display.py`), and log lines (`commands/console.py`).

Secrets are the values of environment variables that are named like one (HF_TOKEN) or that a config names as a key, the
logins and queries of URLs in the environment and of those that a config must not hold, and the Hub's token file. They
are found as they are and in the forms in which servers and libraries repeat them: escaped for URLs, JSON, HTML or
Python, and within base64.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit

MIN_SECRET_LENGTH = 8
"""Shorter values stay, because they would be found in ordinary text."""
HIDDEN = "[secret]"
_SECRET_NAMES = re.compile(
    r"TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_SECRET_SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}"
    r"|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[\w.~%!$&*+,;=:-]+(?=@)"  # the login of a URL
    r"|(?P<name>[?&](?:[\w.-]*(?:token|secret|password|signature|credential|api_?key|access_?key)|sig|key)=)"
    r"[^&\s\"'<>]{8,}",
    re.IGNORECASE,
)
_named: set[str] = set()
_given: set[str] = set()


def add_secret_variable(name: str) -> None:
    """Treats the value of an environment variable as a secret from now on, whatever the variable is called."""
    _named.add(name)


def add_url_secrets(text: str) -> None:
    """Treats the logins and query values of a text's URLs as secrets from now on."""
    for url in _URL.findall(text):
        _given.update(_url_secrets(url))


def _url_secrets(url: str) -> Iterator[str]:
    """Yields what a URL may hold of secrets: its login, and the values of its query, as written and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as an unclosed bracket in the host
        parts = urlsplit("")
    login = parts.netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    queried = (pair.partition("=")[2] for pair in parts.query.split("&"))
    for value in (login, password or user, *queried):
        yield from {value, unquote_plus(value)} - {""}


def hide(text: str) -> str:
    """Returns text without the secrets that are known now."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """Returns a function: text -> the text without the secrets that are known now, or what has the shape of one."""
    forms = secret_forms()

    def redact(text: str) -> str:
        for form in forms:
            text = text.replace(form, HIDDEN)
        return _SECRET_SHAPES.sub(lambda found: f"{found['name'] or ''}{HIDDEN}", text)

    return redact


def secret_forms() -> list[str]:
    """Returns all forms of the secrets that are known now, the longest first."""
    forms = {form for value in _values() if len(value) >= MIN_SECRET_LENGTH for form in _forms(value)}
    return sorted(forms, key=len, reverse=True)


def _values() -> Iterator[str]:
    yield from _given
    for name, value in os.environ.items():
        if name in _named or (_SECRET_NAMES.search(name) and not name.upper().endswith(("_PATH", "_FILE"))):
            yield value
            yield value.strip()
        for url in _URL.findall(value) if "://" in value else ():
            yield from _url_secrets(url)
    with contextlib.suppress(OSError, ValueError):
        yield _hub_token_file().read_text(encoding="utf-8").strip()


def _hub_token_file() -> Path:
    """Returns the file in which `hf auth login` keeps the token, where huggingface_hub looks for it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()


def _forms(value: str) -> Iterator[str]:
    """Yields a secret as it is, as it is escaped, and the part of its base64 that does not depend on its neighbours."""
    yield value
    yield from (quote(value, safe=""), quote(value), quote_plus(value))
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
    yield from (html.escape(value), html.escape(value, quote=False), html.escape(value).replace("&#x27;", "&#39;"))
    content = value.encode("utf-8", "surrogateescape")
    for shift in range(3):  # a group of base64 holds three bytes, and the secret may begin at any of them
        first, last = -(-shift * 8 // 6), (shift + len(content)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(shift) + content).decode()[first:last]
