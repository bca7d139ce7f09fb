"""Decides which servers may receive a key, and what an endpoint's URL must not hold. Knows names only, never a key."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_SERVICES: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (service, re.compile(names, re.IGNORECASE), hosts)
    for service, names, hosts in (
        ("Hugging Face", r"HF_.*|HUGGING_?FACE_.*", ("huggingface.co", "hf.co", "hf.space", "huggingface.cloud")),
        ("OpenAI", r"OPENAI_.*", ("openai.com",)),
        ("Azure", r"AZURE_.*", ("azure.com", "microsoft.com")),
        ("AWS", r"AWS_.*", ("amazonaws.com", "aws.amazon.com", "api.aws")),
        ("Google", r"GOOGLE_.*|GEMINI_.*|GCP_.*", ("googleapis.com",)),
        ("GitHub", r"GITHUB_.*|GH_.*", ("github.com", "githubusercontent.com", "ghcr.io", "github.ai")),
        ("GitLab", r"GITLAB_.*|CI_JOB_TOKEN", ("gitlab.com",)),
        ("Cohere", r"COHERE_.*|CO_API_KEY", ("cohere.com", "cohere.ai")),
        ("Mistral", r"MISTRAL_.*", ("mistral.ai",)),
        ("Voyage", r"VOYAGE_.*", ("voyageai.com",)),
        ("Jina", r"JINA_.*", ("jina.ai",)),
        ("NVIDIA", r"NVIDIA_.*|NGC_.*", ("nvidia.com",)),
        ("Anthropic", r"ANTHROPIC_.*", ("anthropic.com",)),
        ("Weights & Biases", r"WANDB_.*", ("wandb.ai",)),
        ("PyPI", r"PYPI_.*|TWINE_.*", ("pypi.org",)),
        ("Docker", r"DOCKER_.*", ("docker.com", "docker.io")),
    )
)
"""Services, the environment variables that hold their keys, and their hosts, each with all hosts below it."""


def host_of(url: str) -> str:
    """Returns a URL's host in lower case; empty where it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def key_fault(variable: str, url: str, allowed_host: str | None) -> str | None:
    """Returns why a key may not go to a server; None if it may.

    Args:
        variable: The environment variable that holds the key.
        url: The server's address.
        allowed_host: The host that the config allows explicitly.
    """
    host = host_of(url)
    if allowed_host is not None and allowed_host.casefold() == host:
        return None
    for service, names, hosts in _SERVICES:
        if names.fullmatch(variable) and not any(host == own or host.endswith(f".{own}") for own in hosts):
            return (
                f"the variable {variable} holds a key of {service}, and {host or 'the host'} is not one of its hosts "
                f"({', '.join(hosts)}); put this server's key in a variable of its own, or add allow_key_to: {host}"
            )
    return None


def is_readable_on_the_way(url: str) -> bool:
    """Whether what is sent to a URL crosses a network unencrypted."""
    host = host_of(url)
    if urlsplit(url).scheme != "http" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return True


def url_fault(text: str, *, is_endpoint: bool) -> str | None:
    """Returns why a config may not hold a text, as a predicate that does not repeat the text; None if it may.

    Args:
        text: Any text of a config.
        is_endpoint: Whether it is an endpoint's URL, which needs no query.
    """
    remedy = "and a config is stored with its results; put the key in an environment variable and name the variable in "
    remedy += "endpoint.key_variable" if is_endpoint else "endpoint.key_variable, or log in with `hf auth login`"
    if any("@" in place for place in re.findall(r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#]*)", text)):
        return f"holds a login in a URL, {remedy}"
    if is_endpoint and ("?" in text or "#" in text):
        return f"holds a query, {remedy}"
    return None
