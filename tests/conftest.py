"""What most tests share: random tiny checkpoints, real texts, local data written to disk, configs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["TQDM_DISABLE"] = "1"

import pytest

pytest_plugins = ["support.tiny_bert", "support.typed_data", "support.query_run_folders"]

REPOSITORY = Path(__file__).parents[1]
QUICKSTART = REPOSITORY / "configs" / "quickstart"
NOT_TEXT = {"_id", "title", "label", "score", "relevance", "query-id", "corpus-ids"}


@pytest.fixture
def single_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for torch, BLAS and OpenMP: small problems are faster so. Tests marked `full` keep all threads."""
    import torch
    from threadpoolctl import threadpool_limits

    if request.node.get_closest_marker("full"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets in the layout of local data; not part of the repository."""
    folder = Path(os.environ.get("E5_EVALUATION_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"there is no data in {folder}; set E5_EVALUATION_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def text_pool() -> list[str]:
    """All texts of the quickstart data, each once, in file order: neighbours are on the same kind of subject."""
    pool: dict[str, None] = {}
    for file in sorted(QUICKSTART.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            for name, value in json.loads(line).items():
                if name not in NOT_TEXT:
                    pool |= dict.fromkeys(value if isinstance(value, list) else [value])
    return list(pool)


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="session")
def wordpiece_tokenizer() -> Path:
    """The uncased WordPiece tokenizer.json that comes with the built-in MiniLM."""
    from evaluation.errors import EvaluationError
    from evaluation.models.builtin import materialize

    try:
        return materialize("all-MiniLM-L6-v2") / "tokenizer.json"
    except EvaluationError as error:
        pytest.skip(f"no tokenizer for a tiny model: {error}")


@pytest.fixture(scope="session")
def save_bert(wordpiece_tokenizer: Path) -> Callable[..., Path]:
    """A function that writes a random BERT checkpoint which transformers and sentence-transformers both load."""

    def save(
        folder: Path, *, normalize: bool = True, similarity: str = "cosine", max_length: int = 64, **sizes: int
    ) -> Path:
        import torch
        from transformers import BertConfig, BertModel

        torch.manual_seed(20_260_101)
        BertModel(BertConfig(vocab_size=30_522, **sizes)).save_pretrained(folder)
        shutil.copy(wordpiece_tokenizer, folder / "tokenizer.json")
        modules = {"": "Transformer", "1_Pooling": "Pooling"} | ({"2_Normalize": "Normalize"} if normalize else {})
        files: dict[str, Any] = {
            "modules.json": [
                {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for number, (path, kind) in enumerate(modules.items())
            ],
            "1_Pooling/config.json": {
                "word_embedding_dimension": sizes["hidden_size"],
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
            },
            "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
            "config_sentence_transformers.json": {"similarity_fn_name": similarity},
            "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": max_length},
        }
        for path in modules:
            (folder / path).mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return save


TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="session")
def tiny_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, mean pooling, a Normalize module, 64 tokens, cosine."""
    return save_bert(tmp_path_factory.mktemp("models") / "tiny", **TINY)


@pytest.fixture(scope="session")
def raw_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without a Normalize module."""
    return save_bert(tmp_path_factory.mktemp("models") / "raw", normalize=False, **TINY)


@pytest.fixture(scope="session")
def dot_checkpoint(save_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without a Normalize module, compared by dot product."""
    return save_bert(tmp_path_factory.mktemp("models") / "dot", normalize=False, similarity="dot", **TINY)


@pytest.fixture(scope="session")
def open_encoder() -> Callable[..., Any]:
    """A function: checkpoint folder or builtin:<name>, backend, cache -> a new Encoder in float32 on the CPU."""
    from evaluation.encoding.encoder import Encoder
    from evaluation.encoding.settings import EncoderSettings
    from evaluation.models.checkpoint import locate

    def load(model: Path | str, backend: str = "transformers", *, cache: Any = None) -> Encoder:
        checkpoint = locate(str(model), None, Path())
        settings = EncoderSettings(
            backend=backend,
            pooling=checkpoint.pooling,
            max_length=checkpoint.max_length,
            dtype="float32",
            device="cpu",
            max_tokens=4096,
        )
        return Encoder(checkpoint, settings, cache=cache)

    return load


@pytest.fixture(scope="session")
def load_encoder(open_encoder: Callable[..., Any]) -> Callable[..., Any]:
    """The same for small models, each loaded once in the session."""
    return cache(open_encoder)


# ----------------------------------------------------------------------------------------------------- data and configs


@pytest.fixture
def write_data(tmp_path: Path) -> Callable[[str, Mapping[str, Sequence[Any]]], Path]:
    """A function: folder name, {file: rows} -> folder. Rows are mappings in .jsonl and tuples in .tsv."""

    def write(name: str, files: Mapping[str, Sequence[Any]]) -> Path:
        folder = tmp_path / name
        for file, rows in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".tsv":
                lines = ["\t".join(map(str, row)) for row in [("query-id", "corpus-id", "score"), *rows]]
            else:
                lines = [json.dumps(row) for row in rows]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Any]:
    """A function: tasks of a config, model and protocol -> RunConfig, in float32 on the CPU, stored below tmp_path."""
    from evaluation import load_config

    def make(
        tasks: Sequence[Mapping[str, Any]], model: Path | str, *protocols: str, own: Mapping[str, Any] | None = None
    ) -> Any:
        listed = [{name: str(value) if name == "data" else value for name, value in task.items()} for task in tasks]
        document = {
            "name": "test",
            "models": [
                {"label": f"tiny {protocol}", "model": str(model), "protocol": protocol, "dtype": "float32"}
                for protocol in protocols
            ],
            "tasks": listed,
            "protocols": own or {},
            "runtime": {"device": "cpu", "cache": False},
            "output": str(tmp_path / "results"),
        }
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(document), encoding="utf-8")
        return load_config(file)

    return make


@pytest.fixture
def run_job(make_config: Callable[..., Any], load_encoder: Callable[..., Any]) -> Callable[..., Any]:
    """A function: one task of a config, model and protocol -> JobResult, through the task's own adapter."""
    from evaluation.jobs import build_plan

    def run(task: Mapping[str, Any], model: Path | str, protocol: str, own: Mapping[str, Any] | None = None) -> Any:
        (job,) = build_plan(make_config([task], model, protocol, own=own))
        if job.task.via == "beir":
            from evaluation.adapters.beir_adapter import run_beir_job as run_adapter
        else:
            from evaluation.adapters.mteb_job import run_mteb_job as run_adapter
        return run_adapter(job, load_encoder(model), store_texts=False)

    return run
