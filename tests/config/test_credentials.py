"""A config holds no credentials: what would be stored with the results is refused by name, and not repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation import load_config
from evaluation.errors import ConfigError
from evaluation.system.redaction import hide

SECRET = "quiet-river-stone"


def config(folder: Path, **model: Any) -> Path:
    document = {"name": "t", "models": [{"label": "a", "model": "m", **model}], "tasks": [{"mteb": "Banking77"}]}
    file = folder / "c.yaml"
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("url", "what"),
    [
        (f"http://user:{SECRET}@host/v1", "holds a login in a URL"),
        (f"http://{SECRET}@host/v1", "holds a login in a URL"),
        (f"http://host/v1?api-version={SECRET}", "holds a query"),
        (f"ftp://user:{SECRET}@host/v1", "holds a login in a URL"),
    ],
)
def test_credentials_in_an_endpoint_are_refused_with_the_remedy_and_not_repeated(
    tmp_path: Path, url: str, what: str
) -> None:
    file = config(tmp_path, backend="openai", endpoint={"url": url})
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    (sentence,) = refused.value.problems
    assert sentence.startswith(f"{file}, line 9: models[0].endpoint.url {what}")
    assert "put the key in an environment variable and name the variable in endpoint.key_variable" in sentence
    assert SECRET not in sentence
    assert hide(f"a library says {SECRET}") == "a library says [secret]"


def test_login_is_refused_in_any_text_of_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\[0\].model holds a login in a URL") as refused:
        load_config(config(tmp_path, model=f"https://user:{SECRET}@huggingface.co/x/y"))
    assert SECRET not in str(refused.value)


def test_override_is_refused_likewise_and_named(tmp_path: Path) -> None:
    file = config(tmp_path, backend="openai", endpoint={"url": "http://host/v1"})
    with pytest.raises(ConfigError, match="holds a login") as refused:
        load_config(file, overrides=[f"models.0.endpoint.url=http://user:{SECRET}-2@host/v1"])
    assert f"{SECRET}-2" not in hide(str(refused.value))
    with pytest.raises(ConfigError, match="'7' is not an index") as refused:
        load_config(file, overrides=[f"models.7.endpoint.url=http://host/v1?x={SECRET}-3"])
    assert f"{SECRET}-3" not in hide(str(refused.value))


def test_ordinary_addresses_in_texts_are_no_credentials(tmp_path: Path) -> None:
    file = config(tmp_path, backend="openai", endpoint={"url": "https://host:8000/v1", "key_variable": "THE_KEY"})
    instruction = "protocols={p: {base: instruct, instruction: 'Answer mail to a@b.c as on https://x.y/@z?q=1'}}"
    assert load_config(file, overrides=[instruction]).models[0].endpoint is not None


def test_key_of_a_service_is_refused_for_another_host_unless_the_config_allows_it(tmp_path: Path) -> None:
    elsewhere = {"url": "http://gpu-7:8000/v1", "key_variable": "HF_TOKEN"}
    with pytest.raises(ConfigError, match="gpu-7 is not one of its hosts .* or add allow_key_to: gpu-7"):
        load_config(config(tmp_path, backend="openai", endpoint=elsewhere))
    load_config(config(tmp_path, backend="openai", endpoint={**elsewhere, "allow_key_to": "gpu-7"}))
