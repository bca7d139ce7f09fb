"""What most tests share: real texts, encoders, local data written to disk, configs; support/ has the rest."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["TQDM_DISABLE"] = "1"

import pytest
from support.data import write_files
from support.threads import one_thread

pytest_plugins = ["support.tiny_models", "support.typed_data", "support.fake_runs"]

REPOSITORY = Path(__file__).parents[1]
QUICKSTART = REPOSITORY / "configs" / "quickstart"
NOT_TEXT = {"_id", "title", "label", "score", "relevance", "query-id", "corpus-ids"}


@pytest.fixture
def single_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for a test; tests marked `full` keep all threads."""
    if request.node.get_closest_marker("full"):
        yield
        return
    with one_thread():
        yield


@pytest.fixture(scope="module")
def single_thread_module() -> Iterator[None]:
    """One thread for all tests of a module and its fixtures."""
    with one_thread():
        yield


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Takes back what the command does for good: it sends the libraries' logs to a file."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)


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
        return write_files(tmp_path / name, files)

    return write


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., Any]:
    """A function: models and tasks of a config -> RunConfig, in float32 on the CPU, stored below tmp_path."""
    from evaluation import load_config

    def make(
        models: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]], own: Mapping[str, Any] | None = None
    ) -> Any:
        document = {
            "name": "test",
            "models": [{"dtype": "float32", **model} for model in models],
            "tasks": tasks,
            "protocols": own or {},
            "runtime": {"device": "cpu", "cache": False},
            "output": tmp_path / "results",
        }
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(document, default=str), encoding="utf-8")
        return load_config(file)

    return make


@pytest.fixture
def make_config(config_of: Callable[..., Any]) -> Callable[..., Any]:
    """A function: tasks of a config, model and protocols -> RunConfig."""

    def make(
        tasks: Sequence[Mapping[str, Any]], model: Path | str, *protocols: str, own: Mapping[str, Any] | None = None
    ) -> Any:
        models = [{"label": f"tiny {protocol}", "model": model, "protocol": protocol} for protocol in protocols]
        return config_of(models, tasks, own)

    return make


@pytest.fixture
def run_job(make_config: Callable[..., Any], load_encoder: Callable[..., Any]) -> Callable[..., Any]:
    """A function: one task of a config, model and protocol -> JobResult, through the task's own adapter."""
    from evaluation.jobs import build_jobs

    def run(task: Mapping[str, Any], model: Path | str, protocol: str, own: Mapping[str, Any] | None = None) -> Any:
        (job,) = build_jobs(make_config([task], model, protocol, own=own))
        if job.task.via == "beir":
            from evaluation.adapters.beir_adapter import run_beir_job as run_adapter
        else:
            from evaluation.adapters.mteb_job import run_mteb_job as run_adapter
        return run_adapter(job, load_encoder(model), store_texts=False)

    return run
