"""What a checkpoint's own library says of it, re-saved real models, code of a repository's own, and failing models."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checkpoint_variations import XLMR, change_json, routed, sentence_model, static
from support.data import write_files
from support.resolved_models import resolve

from evaluation import load_config, run
from evaluation.encoding.encoder import Encoder
from evaluation.errors import ModelError
from evaluation.models.builtin import BUILTIN_MODELS, materialize
from evaluation.models.facts import UNLIMITED, CheckpointFacts, TextRole
from evaluation.models.reference import ReferenceSettings
from evaluation.models.reference_loading import load_reference

TEXTS = ["how much protein should a female eat", "a" * 40, "word " * 400, "Ünïcode CAFÉ", "日本語"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single_thread: None) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))


def facts_of(folder: Path, **settings: Any) -> CheckpointFacts:
    return load_reference(folder, "model", ReferenceSettings(torch.float32, "cpu", **settings)).facts


# --------------------------------------------------------------------------------------------------------------- facts


def test_facts_are_the_librarys(tmp_path: Path) -> None:
    declared = {"prompts": {"query": "q: ", "passage": "p: "}, "default_prompt_name": "query", "truncate_dim": 7}
    sentence_model(tmp_path / "m", max_seq_length=20, model={**declared, "similarity_fn_name": "dot"})
    facts = facts_of(tmp_path / "m")
    assert (facts.architecture, facts.modules) == ("BertModel", ("Transformer", "Pooling", "Normalize"))
    assert (facts.max_length, facts.max_positions, facts.embedding_dim, facts.truncate_dim) == (20, 32, 7, 7)
    assert (dict(facts.prompts), facts.default_prompt_name) == ({"query": "q: ", "passage": "p: "}, "query")
    assert (facts.similarity, facts.include_prompt, facts.routed, facts.plain) == ("dot", True, False, True)
    assert not facts.normalize, "the normalising module stands before the cut"
    assert CheckpointFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


def test_length_of_xlm_roberta_is_the_tokenizers(tmp_path: Path) -> None:
    """1,026 positions, of which 1,024 are for tokens."""
    sentence_model(tmp_path / "m", **{**XLMR, "max_position_embeddings": 1_026}, tokens={"model_max_length": 1_024})
    assert facts_of(tmp_path / "m").max_length == 1_024


def test_default_prompt_is_never_put_in_front_unasked(tmp_path: Path) -> None:
    sentence_model(tmp_path / "m", model={"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    reference = load_reference(tmp_path / "m", "model", ReferenceSettings(torch.float32, "cpu"))
    bare, prompted = reference.embed(["cat"], TextRole()), reference.embed(["cat"], TextRole("query: "))
    assert (bare - prompted).abs().max() > 1e-2
    assert torch.allclose(reference.embed(["query: cat"], TextRole()), prompted, atol=1e-6)


def test_static_embeddings_cut_no_text(tmp_path: Path) -> None:
    static(tmp_path / "m")
    assert facts_of(tmp_path / "m").max_length == UNLIMITED
    with pytest.raises(ModelError, match="max_length 16 can't be set: model reads every text to its end; leave it out"):
        facts_of(tmp_path / "m", max_length=16)


def test_pooling_can_be_set_only_where_there_is_one(tmp_path: Path) -> None:
    routed(tmp_path / "m")
    with pytest.raises(ModelError, match="pooling 'cls' can't be set: model does not have one pooling module"):
        facts_of(tmp_path / "m", pooling="cls")


# ------------------------------------------------------------------------------------------------ code of a repository


CODE = """
import torch
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig

    def forward(self, *arguments, **options):
        found = super().forward(*arguments, **options)
        found.last_hidden_state = 2.0 * found.last_hidden_state
        return found
"""


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    folder = tmp_path / "own-code"
    sentence_model(folder)
    (folder / "own.py").write_text(CODE, encoding="utf-8")
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    change_json(folder / "config.json", model_type="own", auto_map=auto_map, architectures=["OwnModel"])
    return folder


def test_trusted_code_of_a_repository_decides_the_vectors(own_code: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    found = resolve(own_code, tmp_path, trust_remote_code=True)
    model = SentenceTransformer(str(own_code), device="cpu", trust_remote_code=True)
    vectors = Encoder(found.checkpoint, found.settings).encode(["cat"]).vectors
    unit = vectors / np.linalg.norm(vectors)
    assert np.abs(unit - model.encode(["cat"])).max() < 1e-5
    raw = model.encode(["cat"], output_value="token_embeddings")[0].mean(dim=0).numpy()
    assert np.abs(vectors[0] - raw).max() < 1e-5 * np.abs(raw).max()
    assert found.identity["trust_remote_code"] is True


def test_code_that_is_not_trusted_is_not_run(own_code: Path, tmp_path: Path) -> None:
    words = "local/own-code has Python code of its own, which runs only with trust_remote_code: true"
    with pytest.raises(ModelError, match=words):
        resolve(own_code, tmp_path)


# ------------------------------------------------------------------------------------------------ re-saved real models


def builtin_folder(name: str) -> Path:
    if importlib.util.find_spec(BUILTIN_MODELS[name].root[0]) is None:
        pytest.skip("extra quickstart is not installed")
    return materialize(name)


def encoded(model: str | Path, folder: Path, texts: list[str]) -> Any:
    found = resolve(model, folder)
    assert found.settings.forward == "ours"
    return Encoder(found.checkpoint, found.settings).encode(texts, prefix="query: ").vectors


@pytest.mark.parametrize("library", ["sentence-transformers", "transformers"])
@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", pytest.param("multilingual-e5-small", marks=pytest.mark.full)])
def test_resaved_model_gives_the_builtin_vectors_to_the_last_bit(name: str, library: str, tmp_path: Path) -> None:
    source, folder = builtin_folder(name), tmp_path / "saved"
    if library == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        SentenceTransformer(str(source), device="cpu").save(str(folder), create_model_card=False)
    else:
        from transformers import AutoModel, AutoTokenizer

        AutoModel.from_pretrained(source).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    texts = [text for text in TEXTS if library == "sentence-transformers" or len(text) < 200]  # a plain folder: 512
    assert np.array_equal(encoded(folder, tmp_path, texts), encoded(f"builtin:{name}", tmp_path, texts))


# ------------------------------------------------------------------------------------------------------ failing models


def test_model_that_fails_leaves_the_others_their_scores(tmp_path: Path) -> None:
    """A padding token beyond the vocabulary makes torch assert; that is one model's failed job."""
    sentence_model(tmp_path / "good")
    sentence_model(tmp_path / "bad")
    change_json(tmp_path / "bad" / "config.json", pad_token_id=10_000)
    pairs = [{"sentence1": f"cat {n}", "sentence2": f"dog {n * 7 % 5}", "score": n % 6 / 1.0} for n in range(20)]
    write_files(tmp_path / "data", {"test.jsonl": pairs})
    models = [{"label": name, "model": str(tmp_path / name), "protocol": "none"} for name in ("bad", "good")]
    document = {
        "name": "t",
        "models": models,
        "tasks": [{"local": "Pairs", "type": "STS", "data": str(tmp_path / "data")}],
        "runtime": {"device": "cpu"},
        "output": str(tmp_path / "results"),
    }
    (tmp_path / "c.yaml").write_text(json.dumps(document), encoding="utf-8")
    outcome = run(load_config(tmp_path / "c.yaml"))
    bad, good = outcome.records
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.error is not None and bad.error.traceback is None
    assert "local/bad can't be loaded from" in bad.error.message
    assert good.audit.proof is not None and good.audit.proof.outcome == "fast"
