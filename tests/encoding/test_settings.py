"""What `auto` becomes on which machine, and devices that are not there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.errors import ModelError


@pytest.mark.parametrize(
    ("dtype", "device", "declared", "expected"),
    [
        ("auto", "cpu", "float32", "float32"),
        ("auto", "cpu", "bfloat16", "float32"),
        ("auto", "mps", "float16", "float32"),
        ("auto", "cuda:1", "float32", "float16"),
        ("auto", "cuda:1", None, "float16"),
        ("auto", "cuda", "bfloat16", "bfloat16"),
        ("float32", "cuda", "bfloat16", "float32"),
        ("bfloat16", "cpu", "float32", "bfloat16"),
    ],
)
def test_precision_follows_from_device_and_checkpoint(
    dtype: str, device: str, declared: str | None, expected: str
) -> None:
    assert resolve_dtype(dtype, device, declared) == expected


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"), (True, True, "cuda")],
)
def test_auto_takes_the_best_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def test_missing_device_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ModelError, match=f"device '{device}' was asked for"):
            resolve_device(device)


def test_device_number_that_is_not_there_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(ModelError, match="cuda:7"):
        resolve_device("cuda:7")


def test_given_token_budget_is_kept() -> None:
    assert resolve_max_tokens(700, "cpu", 384) == resolve_max_tokens(700, "cuda", 384) == 700


def test_token_budget_of_a_processor_fits_its_caches() -> None:
    assert resolve_max_tokens("auto", "cpu", 384) == resolve_max_tokens("auto", "mps", 1_024) == 2_048


@pytest.mark.parametrize(("gib", "expected"), [(80, 131_072), (8, 65_536), (0.1, 2_048)])
def test_token_budget_of_a_gpu_follows_its_memory(monkeypatch: pytest.MonkeyPatch, gib: float, expected: int) -> None:
    """8 GiB: a quarter of 2**33 bytes by 32 * 1024 bytes a token are 65,536 tokens."""
    memory = SimpleNamespace(total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert resolve_max_tokens("auto", "cuda", 1_024) == expected


def test_token_budget_of_a_model_of_unknown_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=8 * 2**30))
    assert resolve_max_tokens("auto", "cuda", 0) == 65_536


def test_dtype_is_torch_s() -> None:
    chosen = EncoderSettings("transformers", "mean", 512, "bfloat16", "cpu", 4_096)
    assert chosen.torch_dtype is torch.bfloat16
