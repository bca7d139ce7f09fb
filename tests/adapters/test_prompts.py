"""Protocols `declared` and `instruct`: our tokenizer receives the strings that mteb's own wrappers send, type by type.

The reference is mteb.evaluate with mteb's wrapper of the model: sentence-transformers loads the folder and mteb picks
the prompts. Both sides read the same task object, made from local data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import save_declaring
from support.typed_data import CORPUS, DATA, QUICK

mteb = pytest.importorskip("mteb")

from mteb.models.instruct_wrapper import InstructSentenceTransformerModel  # noqa: E402
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper  # noqa: E402
from transformers import PreTrainedTokenizerBase  # noqa: E402

from evaluation.jobs import build_jobs  # noqa: E402
from evaluation.tasks.loading import load_task, make_task  # noqa: E402

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]

# Tasks of mteb's own with a prompt in their metadata, or with names that a checkpoint declares prompts for.
NAMED = {
    "SciFact": ("Retrieval", "test"),
    "AskUbuntuDupQuestions": ("Reranking", "test"),
    "Banking77Classification": ("Classification", "test"),
    "TwentyNewsgroupsClustering": ("Clustering, legacy", "test"),
    "SICK-NL-STS": ("STS", "test"),
    "TwitterSemEval2015": ("PairClassification", "test"),
    "TERRa.V2": ("PairClassification", "dev"),  # its first texts are documents, its second ones queries
    "BornholmBitextMining": ("BitextMining", "test"),
}
TASKS = [*NAMED, *(name for name in DATA if name != "Clustering, legacy")]

DECLARED: dict[str, dict[str, Any]] = {
    "sides": {"prompts": {"query": "Q: ", "document": "D: "}},
    "names and types": {
        "prompts": {
            "query": "Q: ",
            "document": "D: ",
            "SciFact-query": "claim: ",
            "SciFact": "not for queries: ",
            "Banking77Classification": "intent: ",
            "Banking77Classification-query": "no side here: ",
            "Reranking-document": "candidate: ",
            "InstructionRetrieval": "both: ",
            "STS": "sts: ",
            "Clustering-query": "no side here: ",
            "PairClassification": "pair: ",
            "web_search": "never: ",
        }
    },
    "default name": {
        "prompts": {"query": "Q: ", "symmetric": "S: ", "Regression": ""},
        "default_prompt_name": "symmetric",
    },
    "passage": {"prompts": {"query": "Q: ", "passage": "P: "}},
}


@contextmanager
def texts_at_transformers() -> Iterator[list[str]]:
    """Collects the strings that the tokenizers of transformers are called with."""
    strings: list[str] = []
    original = PreTrainedTokenizerBase.__call__

    def listening(self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        strings.extend([text] if isinstance(text, str) else text)
        return original(self, text, *args, **kwargs)

    PreTrainedTokenizerBase.__call__ = listening  # type: ignore[method-assign]
    try:
        yield strings
    finally:
        PreTrainedTokenizerBase.__call__ = original  # type: ignore[method-assign]


def task_named(name: str, write_data: Callable[..., Path]) -> dict[str, Any]:
    kind, split = NAMED.get(name, (name, "test"))
    files = {file.replace("test.", f"{split}."): rows for file, rows in DATA[kind].items()}
    chosen = {"mteb": name} if name in NAMED else {"local": f"Own {name}", "type": name}
    return {**chosen, "data": write_data("data", files), "options": QUICK.get(kind, {})}


def texts_of_mteb(job: Any, wrapper: Any) -> list[str]:
    task = make_task(job.task, seed=job.seed)
    load_task(task, job.task, None)
    with texts_at_transformers() as strings:
        mteb.evaluate(wrapper, task, cache=None, show_progress_bar=False)
    return strings


def assert_same_strings(task: dict[str, Any], folder: Path, protocol: str, wrapper: Any, fixtures: Any) -> set[str]:
    make_config, run_job, arrived = fixtures
    run_job(task, folder, protocol)
    (job,) = build_jobs(make_config([task], folder, protocol))
    expected = set(texts_of_mteb(job, wrapper))
    # sentence-transformers measures the prompt alone, and mteb encodes documents that are nobody's candidates.
    expected -= {job.rules.query_prefix, job.rules.passage_prefix, job.rules.text_prefix}
    if job.task.type in {"Reranking", "InstructionReranking"}:
        expected -= {text for text in expected if text.endswith(CORPUS[2]["text"])}
    assert len(expected) > 3
    assert set(arrived) == expected
    return expected


@pytest.fixture
def fixtures(make_config, run_job, arrived):
    return make_config, run_job, arrived


@pytest.fixture(scope="module")
def declaring(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function: key of DECLARED -> the tiny checkpoint, saved by sentence-transformers with these prompts."""
    folder = tmp_path_factory.mktemp("declaring")
    return cache(lambda name: save_declaring(tiny_checkpoint, folder / name, **DECLARED[name]))


@pytest.mark.parametrize(
    ("prompts", "name"),
    [
        *(("names and types", name) for name in TASKS),
        *(("sides", name) for name in ("Retrieval", "Reranking", "TERRa.V2", "STS")),
        *(("default name", name) for name in ("Retrieval", "STS", "Classification", "Regression")),
        ("passage", "Retrieval"),
    ],
)
def test_declared_prompts_arrive_as_mteb_sends_them(name, prompts, declaring, write_data, fixtures):
    folder = declaring(prompts)
    wrapper = SentenceTransformerEncoderWrapper(str(folder), device="cpu")
    assert_same_strings(task_named(name, write_data), folder, "declared", wrapper, fixtures)


@pytest.mark.parametrize(
    ("prompts", "name", "beginnings"),
    [
        ("sides", "SciFact", {"Q: ", "D: "}),
        ("names and types", "SciFact", {"claim: ", "not for queries: "}),
        ("names and types", "Banking77Classification", {"intent: "}),
        ("names and types", "STS", {"sts: "}),
        ("default name", "STS", {"S: "}),
        ("passage", "Retrieval", {"Q: ", ""}),
    ],
)
def test_declared_prompts_by_hand(prompts, name, beginnings, declaring, write_data, run_job):
    result = run_job(task_named(name, write_data), declaring(prompts), "declared")
    assert {side.prefix for side in result.audit.sides.values()} == beginnings


# ----------------------------------------------------------------------------------------------------------- instruct


@pytest.fixture(scope="module")
def tiny_xlm_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in the shape of multilingual-e5-large-instruct: XLM-R, its tokenizer, mean, normalised."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from evaluation.errors import EvaluationError
    from evaluation.models.builtin import materialize

    try:
        source = materialize("multilingual-e5-small")
    except EvaluationError as error:
        pytest.skip(f"no tokenizer of XLM-R: {error}")
    folder = tmp_path_factory.mktemp("instruct")
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=250_037, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=130, type_vocab_size=1, pad_token_id=1,
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(folder / "plain")
    for file in source.glob("*token*"):
        shutil.copy(file, folder / "plain")
    transformer = Transformer(str(folder / "plain"), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(8, "mean"), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "saved"))
    return folder / "saved"


@pytest.fixture(scope="module")
def instruct_wrapper(tiny_xlm_roberta: Path) -> Any:
    """mteb's wrapper with the arguments that its registry gives both models, but in float32."""
    arguments = dict(mteb.get_model_meta("intfloat/multilingual-e5-large-instruct").loader_kwargs)
    mistral = mteb.get_model_meta("intfloat/e5-mistral-7b-instruct").loader_kwargs
    for name in ("instruction_template", "apply_instruction_to_passages"):
        assert arguments[name] == mistral[name]
    arguments.pop("model_kwargs")
    return InstructSentenceTransformerModel(str(tiny_xlm_roberta), revision="", device="cpu", **arguments)


@pytest.mark.parametrize("name", TASKS)
def test_instructions_arrive_as_mteb_sends_them(name, tiny_xlm_roberta, instruct_wrapper, write_data, fixtures):
    task = task_named(name, write_data)
    arrived = assert_same_strings(task, tiny_xlm_roberta, "instruct", instruct_wrapper, fixtures)
    assert any(text.startswith("Instruct: ") for text in arrived)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        (
            "SciFact",
            {
                "query": "Given a scientific claim, retrieve documents that support or refute the claim",
                "passage": None,
            },
        ),
        ("Retrieval", {"query": "Retrieve text based on user query.", "passage": None}),
        ("Reranking", {"query": "Retrieve text based on user query.", "passage": None}),
        ("STS", {"text": "Retrieve semantically similar text."}),
        ("Banking77Classification", {"text": "Given a online banking query, find the corresponding intents"}),
        (
            "TERRa.V2",
            {"passage": None, "query": "Given a premise, retrieve a hypothesis that is entailed by the premise"},
        ),
    ],
)
def test_instructions_by_hand(name, prefixes, tiny_checkpoint, write_data, run_job):
    result = run_job(task_named(name, write_data), tiny_checkpoint, "instruct")
    expected = {side: "" if text is None else f"Instruct: {text}\nQuery: " for side, text in prefixes.items()}
    assert {side: entry.prefix for side, entry in result.audit.sides.items()} == expected


def test_instruction_of_the_config_replaces_mtebs(tiny_checkpoint, write_data, run_job):
    own = {
        "mine": {
            "base": "instruct",
            "instruction": "Find what matches",
            "types": {"Retrieval": {"instruction": "Find the document", "passage_prefix": "doc: "}},
        }
    }
    result = run_job(task_named("Retrieval", write_data), tiny_checkpoint, "mine", own)
    prefixes = {side: entry.prefix for side, entry in result.audit.sides.items()}
    assert prefixes == {"query": "Instruct: Find the document\nQuery: ", "passage": "doc: "}
    result = run_job(task_named("STS", write_data), tiny_checkpoint, "mine", own)
    assert result.audit.sides["text"].prefix == "Instruct: Find what matches\nQuery: "
    assert result.audit.rules.protocol == "mine"
