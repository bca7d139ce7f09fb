"""A model in memory that has mteb's encode scores exactly as in `mteb.evaluate`; its state is its identity."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from mteb.models import SentenceTransformerEncoderWrapper
from mteb.models.model_meta import ModelMeta
from mteb.similarity_functions import dot_score, pairwise_dot_score
from support.mteb_cases import CASES, mteb_scores, stored_scores

from evaluation import NamedModel, compare, run
from evaluation.analysis.report.input_audit import audit_tasks
from evaluation.errors import UsageError
from evaluation.execution.runner import RunOptions
from evaluation.models.own_encoder import own_encoder

ONLY = RunOptions(models=("mine",))


class WordHashes:
    """Sums a fixed random vector per word; queries and documents differ, and similarity is the dot product."""

    def __init__(self, seed: int = 0) -> None:
        self.table = np.random.default_rng(seed).normal(size=(97, 16)).astype(np.float32)
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": "mine/words"})

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **kwargs: Any
    ) -> np.ndarray:
        assert kwargs == {"batch_size": 32, "show_progress_bar": False}, kwargs
        shift = 0 if prompt_type is None else len(prompt_type.value)
        texts = [text for batch in inputs for text in batch["text"]]
        rows = [[(zlib.crc32(word.encode()) + shift) % 97 for word in text.split()] for text in texts]
        return np.stack([self.table[row].sum(axis=0) for row in rows])

    def similarity(self, first: Any, second: Any) -> Any:
        return dot_score(first, second)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        return pairwise_dot_score(first, second)


def named(seed: int = 0) -> NamedModel:
    return NamedModel(WordHashes(seed), identity=f"words {seed}")


@pytest.mark.filterwarnings("ignore")  # mteb's and sklearn's own, about labels
@pytest.mark.parametrize(
    "name", ["STS", "Retrieval", "Classification", pytest.param("Reranking", marks=pytest.mark.full)]
)
def test_scores_equal_mteb_evaluate(
    name: str, text_pool: list[str], tiny_checkpoint: Path, write_data: Any, make_config: Any
) -> None:
    case = CASES[name](text_pool)
    config = make_config([{**case.task, "data": write_data("data", case.files)}], tiny_checkpoint, "none")
    (record,) = run(config, ONLY, models={"mine": named()}).records
    assert record.error is None, record.error
    done = mteb.evaluate(WordHashes(), case.reference, cache=None, show_progress_bar=False)
    expected = mteb_scores(done.task_results[0].scores)
    found = stored_scores(record.scores)
    assert {key: found[key] for key in expected} == expected  # the same code on the same arrays: no tolerance
    assert 0.05 < expected["/test/default/main_score"] < 0.999


def test_scores_resume_by_identity_and_say_what_is_known(
    text_pool: list[str], tiny_checkpoint: Path, write_data: Any, make_config: Any
) -> None:
    case = CASES["STS"](text_pool)
    config = make_config([{**case.task, "data": write_data("data", case.files)}], tiny_checkpoint, "none")
    run(config, RunOptions(models=("tiny none",)))
    first = run(config, models={"mine": named()})
    assert first.n_executed == 1
    assert run(config, ONLY, models={"mine": named()}).n_executed == 0
    (other,) = run(config, ONLY, models={"mine": named(seed=1)}).records
    (record,) = [record for record in first.records if record.label == "mine"]
    assert other.fingerprint != record.fingerprint
    assert other.main_score != record.main_score
    assert record.protocol == "own-encode"
    assert record.provenance.model is not None
    assert record.provenance.model.revision.endswith("-in-memory")
    (audit,) = audit_tasks([record])
    (side,) = audit.sides
    assert (side.prefix, side.n_texts) == ("", record.audit.sides["text"].texts)
    assert "the model's own encode" in side.settings[0]
    with pytest.raises(Exception, match="protocol"):  # no rule of ours made this score, so it compares with mixed only
        compare(config.run_folder, baseline="tiny none")
    assert len(compare(config.run_folder, baseline="tiny none", mixed=True).columns) == 2


class Pooled(torch.nn.Module):
    """A module with an encode of its own, with its transformer and tokenizer, as people write it."""

    def __init__(self, net: Any, tokenizer: Any, scale: float = 1.0) -> None:
        super().__init__()
        self.net, self.tokenizer, self.scale = net, tokenizer, scale

    def encode(self, inputs: Any, *, task_metadata: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class WithHandle(Pooled):
    """Holds something whose content is not known."""

    def __init__(self, net: Any, tokenizer: Any) -> None:
        super().__init__(net, tokenizer)
        self.handle = object()


@pytest.fixture
def pooled(bert_folder: Path) -> Callable[..., Pooled]:
    """A function: kind, settings -> a model from the tiny checkpoint."""
    from transformers import AutoTokenizer, BertModel

    def make(kind: type[Pooled] = Pooled, **settings: Any) -> Pooled:
        net = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
        return kind(net, AutoTokenizer.from_pretrained(bert_folder), **settings)

    return make


def test_identity_is_the_content_of_the_state(pooled: Callable[..., Pooled]) -> None:
    model, same = pooled(), pooled()
    before = own_encoder("mine", model).identity
    model.tokenizer(["a b c"], padding=True, truncation=True, max_length=8)  # leaves traces in the tokenizer
    assert own_encoder("mine", model).identity == own_encoder("other", same).identity == before
    changed = [pooled(scale=2.0), pooled(), pooled()]
    next(changed[1].net.parameters()).data[0, 0] += 1e-3
    changed[2].tokenizer.add_tokens(["xyzzy"])
    identities = [own_encoder("mine", one).identity for one in changed]
    assert len({before, *identities}) == 4


def test_identity_of_mtebs_own_wrapper_is_its_state(tiny_checkpoint: Path) -> None:
    def wrapped(**prompts: str) -> Any:
        return SentenceTransformerEncoderWrapper(str(tiny_checkpoint), device="cpu", model_prompts=prompts)

    identity = own_encoder("mine", wrapped(query="q: ")).identity
    assert own_encoder("mine", wrapped(query="q: ")).identity == identity
    assert own_encoder("mine", wrapped(query="other: ")).identity != identity


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pooled: pooled(WithHandle), r"its attribute handle \(a object\) holds is not known; .* NamedModel\("),
        (lambda _: type("NoState", (WordHashes,), {})(), r"models\['mine'\] can't be identified by its state"),
        (lambda _: NamedModel(WordHashes(), ""), "identity is empty"),
        (lambda _: NamedModel(object(), "x"), "is a object; a model in memory must be a SentenceTransformer"),
    ],
)
def test_what_cannot_be_identified_is_a_sentence(make: Any, message: str, pooled: Callable[..., Pooled]) -> None:
    with pytest.raises(UsageError, match=message):
        own_encoder("mine", make(pooled))
