"""PEFT adapters: applied and merged as peft itself does it, whether the base weights lie beside them or elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checkpoint_variations import plain, pooling, write_json
from support.resolved_models import resolve

from evaluation.encoding.encoder import Encoder

peft: Any = pytest.importorskip("peft")
TEXTS = ["cat", "a longer text", "Dog 42."]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single_thread: None) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


def save_adapter(base: Path, folder: Path) -> None:
    """A LoRA adapter of the base model, with weights that matter."""
    from transformers import AutoModel

    torch.manual_seed(1)
    options = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModel.from_pretrained(base), options)
    model.save_pretrained(folder)


@torch.inference_mode()
def by_peft(base: Path, adapter: Path) -> Any:
    from transformers import AutoModel, AutoTokenizer

    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).merge_and_unload().eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    batches = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    return np.stack([model(**batch).last_hidden_state[0].mean(dim=0).numpy() for batch in batches])


@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_adapter_beside_its_base_is_applied(tmp_path: Path, library: str) -> None:
    base, folder = tmp_path / "base", tmp_path / "model"
    plain(base)
    save_adapter(base, tmp_path / "adapter")
    shutil.copytree(base, folder)
    for file in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(file, folder)
    if library == "sentence-transformers":
        (folder / "1_Pooling").mkdir()
        pooling().save(str(folder / "1_Pooling"))
        kinds = {"": "Transformer", "1_Pooling": "Pooling"}
        listed = [
            {"idx": row, "name": str(row), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for row, (path, kind) in enumerate(kinds.items())
        ]
        write_json(folder / "modules.json", listed)
    expected, bare = by_peft(base, tmp_path / "adapter"), resolve(base, tmp_path)
    assert np.abs(Encoder(bare.checkpoint, bare.settings).encode(TEXTS).vectors - expected).max() > 1e-3
    (base / "model.safetensors").unlink()  # the weights beside the adapter count, and no others
    found = resolve(folder, tmp_path)
    vectors = Encoder(found.checkpoint, found.settings).encode(TEXTS).vectors
    assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()
    assert found.settings.forward == "library"
    assert found.identity["weights"] != bare.identity["weights"]
