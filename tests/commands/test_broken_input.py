"""What users get wrong: each broken config or data folder is exit code 2 and a sentence that names file and line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from evaluation.commands.run_benchmark.command import main
from evaluation.config.loading import load_config
from evaluation.jobs import build_jobs
from evaluation.tasks.local.folders import read_local_data

pytestmark = pytest.mark.usefixtures("logging_as_before")

HEAD = """\
name: broken
models:
  - {label: minilm, model: "builtin:all-MiniLM-L6-v2"}
tasks:
"""
STS12 = "  - {mteb: STS12}\n"
GOOD = HEAD + STS12


def local(kind: str, more: str = "") -> str:
    """A config, whose fifth line is one task on the folder data/."""
    return HEAD + f"  - {{local: Mine, type: {kind}, data: data{more}}}\n"


def model(change: str) -> str:
    return GOOD.replace('label: minilm, model: "builtin:all-MiniLM-L6-v2"', change)


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


CORPUS = jsonl({"_id": "d1", "text": "They purr."}, {"_id": "d2", "title": "Dogs", "text": "They bark."})
QUERIES = jsonl({"_id": "q1", "text": "purring"}, {"_id": "q2", "text": "never judged"})
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\n"
BEIR = {"data/corpus.jsonl": CORPUS, "data/queries.jsonl": QUERIES, "data/qrels/test.tsv": QRELS}
STS = jsonl({"sentence1": "a", "sentence2": "b", "score": 1.0}, {"sentence1": "a", "sentence2": "c", "score": 2})
LABELLED = jsonl({"text": "a", "label": "x"}, {"text": "b", "label": "y"})


@dataclass(frozen=True)
class Case:
    """A broken input: what it is called, what lies on the disk, how the command is called, what it must say."""

    id: str
    config: str | bytes | None
    says: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def beir_case(id_: str, file: str, content: str | bytes, *says: str, kind: str = "Retrieval") -> Case:
    """One file of a good folder replaced."""
    return Case(id_, local(kind), ("c.yaml, line 5: ", f"data/{file}", *says), {**BEIR, f"data/{file}": content})


def table_case(id_: str, kind: str, content: str, *says: str, **others: str) -> Case:
    files = {"data/test.jsonl": content, **{f"data/{name}.jsonl": text for name, text in others.items()}}
    return Case(id_, local(kind), ("c.yaml, line 5: ", "data", *says), files)


CONFIG_CASES = [
    Case("typo in a key", GOOD + "limt: {queries: 3}\n", ("c.yaml, line 6", "unknown key 'limt'", "nearest: 'limit'")),
    Case(
        "typo in a task's key",
        HEAD + "  - {mteb: STS12, split: [test]}\n",
        ("line 5", "unknown key 'split'", "'splits'"),
    ),
    Case("key given twice", GOOD + "name: again\n", ("line 6", "'name' is given twice", "line 1")),
    Case("unknown task", HEAD + "  - {mteb: STSBenchmrk}\n", ("line 5", "no task 'STSBenchmrk'", "STSBenchmark")),
    Case("unknown benchmark", HEAD + '  - {mteb_benchmark: "MTEB(english)"}\n', ("line 5", "no benchmark", "nearest")),
    Case("unknown BEIR dataset", HEAD + "  - {beir: scifacts}\n", ("line 5", "no dataset 'scifacts'", "scifact)")),
    Case(
        "unknown protocol", model("label: a, model: x/y, protocol: e55"), ("line 3", "unknown protocol 'e55'", "'e5'")
    ),
    Case("unknown base protocol", GOOD + "protocols: {p: {base: e6}}\n", ("line 6", "e6", "'e5'")),
    Case("unknown type", local("Retrival"), ("line 5", "'Retrieval'")),
    Case("unknown backend", model("label: a, model: x/y, backend: onnx"), ("line 3", "onnx", "sentence-transformers")),
    Case("folder of data missing", local("STS"), ("line 5", "data: there is no such folder")),
    Case(
        "folder of a task's data missing", HEAD + "  - {mteb: STS12, data: sts}\n", ("line 5", "sts: there is no such")
    ),
    Case("folder of data is a file", local("STS"), ("line 5", "data: is not a folder"), {"data": "text"}),
    Case("folder of data is empty", local("STS"), ("line 5", "no data of type STS"), {"data/README": "text"}),
    Case("model folder missing", model("label: a, model: ./models/a"), ("line 3", "there is no folder", "models/a")),
    Case(
        "model folder without config.json",
        model("label: a, model: ./m"),
        ("line 3", "neither config.json nor modules.json"),
        {"m/x": ""},
    ),
    Case(
        "unknown builtin",
        model('label: a, model: "builtin:e5"'),
        ("line 3", "unknown builtin", "multilingual-e5-small"),
    ),
    Case("label twice", model("label: a, model: x/y}\n  - {label: A, model: x/z"), ("line 4", "'A' is used twice")),
    Case("label that leads out", model("label: ../x, model: x/y"), ("line 3", '"../x"', "names a folder")),
    Case(
        "label that is an absolute path", model("label: /tmp/x, model: x/y"), ("line 3", '"/tmp/x"', "names a folder")
    ),
    Case("empty label", model('label: "", model: x/y'), ("line 3", "names a folder")),
    Case("name with a slash", GOOD.replace("broken", "a/b"), ("line 1", '"a/b"', "names a folder")),
    Case("name that leads out", GOOD.replace("broken", '".."'), ("line 1", "names a folder")),
    Case(
        "name of a local task with a slash", local("STS").replace("Mine", "a/b"), ("line 5", '"a/b"', "names a folder")
    ),
    Case(
        "local task with the name of mteb's",
        local("STS").replace("Mine", "STS12"),
        ("line 5", "choose another"),
        {"data/test.jsonl": STS},
    ),
    Case("no models", "name: x\ntasks:\n" + STS12, ("c.yaml", "has no key 'models'")),
    Case("empty list of models", "name: x\nmodels: []\ntasks:\n" + STS12, ("line 2", "must not be empty")),
    Case(
        "models that are no list",
        "name: x\nmodels: {label: a, model: b}\ntasks:\n" + STS12,
        ("line 2", "it must be a list"),
    ),
    Case("no tasks", GOOD.partition("tasks:")[0], ("c.yaml", "has no key 'tasks'")),
    Case("model without a label", model("model: x/y"), ("line 3", "has no key 'label'")),
    Case("length in words", model("label: a, model: x/y, max_length: long"), ("line 3", '"long"', "whole number")),
    Case("length of zero", model("label: a, model: x/y, max_length: 0"), ("line 3", "max_length is 0")),
    Case("splits as a text", HEAD + "  - {mteb: STS12, splits: test}\n", ("line 5", '"test"', "it must be a list")),
    Case("unknown split", HEAD + "  - {mteb: STS12, splits: [tset]}\n", ("line 5", "no split 'tset'", "test")),
    Case("unknown subset", HEAD + "  - {mteb: STS17, subsets: [en-xx]}\n", ("line 5", "no subset 'en-xx'", "en-en")),
    Case("two kinds of task in one entry", HEAD + "  - {mteb: STS12, beir: scifact}\n", ("line 5", "exactly one of")),
    Case("task without a kind", HEAD + "  - {type: STS, data: data}\n", ("line 5", "exactly one of")),
    Case("task that is a text", HEAD + "  - STS12\n", ("line 5", "exactly one of", '"STS12"')),
    Case(
        "one task twice, with different splits",
        GOOD + "  - {mteb: STS12, splits: [train]}\n",
        ("line 6", "chosen twice"),
    ),
    Case(
        "filters that nothing passes",
        HEAD + '  - {mteb_benchmark: "MTEB(eng, v2)", only: [Nothing*]}\n',
        ("line 5", "no task of", "passes the filters"),
    ),
    Case("image task", HEAD + "  - {mteb: ABOI2VRetrieval}\n", ("line 5", "ABOI2VRetrieval", "text encoder")),
    Case(
        "aggregate with data",
        HEAD + "  - {mteb: CQADupstackRetrieval, data: data}\n",
        ("line 5", "mean of 12 tasks"),
        BEIR,
    ),
    Case(
        "unknown option of a task's class",
        HEAD + "  - {mteb: Banking77Classification, options: {n_experimnts: 2}}\n",
        ("Banking77Classification", "'n_experimnts'", "n_experiments"),
    ),
    Case(
        "option of the wrong type",
        HEAD + "  - {mteb: Banking77Classification, options: {n_experiments: two}}\n",
        ("Banking77Classification", "'n_experiments'", "int"),
    ),
    Case("negative limit", GOOD + "limit: {queries: -1}\n", ("line 6", "limit.queries is -1")),
    Case("limit that is a number", GOOD + "limit: 10\n", ("line 6", "limit is 10")),
    Case("unknown device", GOOD + "runtime: {device: gpu}\n", ("line 6", '"gpu"', "cuda")),
    Case("null byte in a data path", HEAD + '  - {local: Mine, type: STS, data: "a\\0b"}\n', ("c.yaml, line 5",)),
    Case("null byte in a model path", model('label: a, model: "./a\\0b"'), ("c.yaml, line 3",)),
    Case("null byte in the output", GOOD + 'output: "a\\0b"\n', ("c.yaml, line 6",)),
    Case("empty file", "", ("c.yaml", "empty")),
    Case("not YAML", GOOD + "limit: [\n", ("c.yaml, line", "not valid YAML")),
    Case(
        "tag that would run code",
        GOOD + "output: !!python/object/apply:os.mkdir [made]\n",
        ("line 6", "not valid YAML"),
    ),
    Case("list at the top", "- a\n- b\n", ("c.yaml", "a config is a mapping", "a list")),
    Case("config that is not UTF-8", GOOD.encode() + b"output: caf\xe9\n", ("c.yaml, line 6", "not valid UTF-8")),
    Case("config that holds itself", GOOD + "protocols: &all {p: *all}\n", ("c.yaml",)),
    Case("config that is a folder", None, ("c.yaml", "this is a folder"), {"c.yaml/x": ""}),
    Case("config that is missing", None, ("c.yaml", "there is no such file")),
]

ARGUMENT_CASES = [
    Case("set without a value", GOOD, ("--set 'runtime.device'", "key=value"), {}, ("--set", "runtime.device")),
    Case("set of an unknown key", GOOD, ("unknown key 'divice'", "'device'"), {}, ("--set", "runtime.divice=cpu")),
    Case("set beyond a list", GOOD, ("--set", "not an index"), {}, ("--set", "models.7.dtype=float32")),
    Case("only that matches nothing", GOOD, ("no task matches Nothing*", "STS12"), {}, ("--only", "Nothing*")),
    Case("model that is unknown", GOOD, ("--model 'other'", "minilm"), {}, ("--model", "other")),
    Case("unknown option", GOOD, ("--frsh",), {}, ("--frsh",)),
]

DATA_CASES = [
    beir_case("no judged query", "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq9\td1\t1\n", "no judged query"),
    beir_case("no judgement", "qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "no judged query"),
    beir_case("empty corpus", "corpus.jsonl", "", "is empty"),
    beir_case("empty queries", "queries.jsonl", "\n\n", "is empty"),
    beir_case("document id twice", "corpus.jsonl", CORPUS + CORPUS, "line 3", '"d1" already appears in line 1'),
    beir_case("query id twice", "queries.jsonl", QUERIES + QUERIES, "line 3", '"q1" already appears in line 1'),
    beir_case("malformed JSON line", "corpus.jsonl", CORPUS + '{"_id": "d3", \n', "line 3", "not valid JSON"),
    beir_case("JSON line that is no object", "corpus.jsonl", CORPUS + '["d3"]\n', "line 3", "must be a JSON object"),
    beir_case("not UTF-8", "corpus.jsonl", CORPUS.encode() + b'{"_id": "d3", "text": "\xe9"}\n', "line 3", "not UTF-8"),
    beir_case("missing text key", "corpus.jsonl", CORPUS + '{"_id": "d3"}\n', "line 3", '"text" is missing'),
    beir_case(
        "text that is null", "queries.jsonl", QUERIES + '{"_id": "q3", "text": null}\n', "line 3", '"text" is null'
    ),
    beir_case("score that is a fraction", "qrels/test.tsv", QRELS + "q1\td2\t0.5\n", "line 3", "whole number"),
    beir_case("score that is no number", "qrels/test.tsv", QRELS + "q1\td2\thigh\n", "line 3", "a whole number"),
    beir_case("qrels with spaces", "qrels/test.tsv", "q1 d1 1\n", "line 1", "separated by tabs"),
    beir_case("two scores for one pair", "qrels/test.tsv", QRELS + "q1\td1\t2\n", "line 3", "but 1 in line 2"),
    beir_case(
        "candidate out of the corpus",
        "top_ranked/test.jsonl",
        jsonl({"query-id": "q1", "corpus-ids": ["d9"]}),
        "line 1",
        '"d9" is not in corpus.jsonl',
        kind="Reranking",
    ),
    Case("missing qrels split", local("Retrieval", ", splits: [dev]"), ("line 5", "dev.tsv is missing"), BEIR),
    Case("no queries", local("Retrieval"), ("line 5", "queries.jsonl"), {"data/corpus.jsonl": CORPUS}),
    Case("reranking without candidates", local("Reranking"), ("line 5", "top_ranked"), BEIR),
    Case("missing instructions", local("InstructionRetrieval"), ("line 5", "instructions.jsonl (or"), BEIR),
    Case(
        "split that leads out",
        local("STS", ", splits: [../x]"),
        ("line 5", '"../x"', "name of a split"),
        {"data/test.jsonl": STS},
    ),
    Case(
        "subset that leads out",
        local("STS", ", subsets: [..]"),
        ("line 5", '".."', "name of a subset"),
        {"data/test.jsonl": STS},
    ),
    Case(
        "unknown subset of a folder",
        local("STS", ", subsets: [de]"),
        ("line 5", 'no subset "de"'),
        {"data/en/test.jsonl": STS},
    ),
    table_case("no training split", "Classification", LABELLED, "no train split"),
    table_case(
        "labels of two kinds", "Classification", LABELLED, "train.jsonl", train=jsonl({"text": "a", "label": 1})
    ),
    table_case(
        "score in words",
        "STS",
        STS + jsonl({"sentence1": "a", "sentence2": "b", "score": "high"}),
        "test.jsonl, line 3",
        "finite number",
    ),
    table_case(
        "score that is not finite",
        "STS",
        STS + '{"sentence1": "a", "sentence2": "b", "score": NaN}\n',
        "test.jsonl, line 3",
        "finite number",
    ),
    table_case("columns of another type", "STS", LABELLED, "test.jsonl, line 1", "sentence1"),
    table_case(
        "label of a pair that is 2",
        "PairClassification",
        jsonl({"sentence1": "a", "sentence2": "b", "label": 2}),
        "test.jsonl, line 1",
        "0 or 1",
    ),
    table_case(
        "summaries and scores of two lengths",
        "Summarization",
        jsonl({"text": "a", "human_summaries": ["b"], "machine_summaries": ["c", "d"], "relevance": [1.0]}),
        "test.jsonl, line 1",
        "the same length",
    ),
]

CASES = [*CONFIG_CASES, *ARGUMENT_CASES, *DATA_CASES]
AS_SUBPROCESSES = {"typo in a key", "malformed JSON line", "label that leads out", "unknown option"}


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    error: str


def lay_out(folder: Path, case: Case) -> list[str]:
    """Write a case's files; the command's arguments."""
    config = {} if case.config is None else {"c.yaml": case.config}
    for name, content in {**case.files, **config}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return ["c.yaml", *case.arguments]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """The command's entry point, in this process."""
    monkeypatch.setattr(sys, "argv", ["run-benchmark", *arguments])
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return Said(code if isinstance(code, int) else 0 if code is None else 1, capsys.readouterr().err)


def check(said: Said, case: Case, folder: Path, before: set[Path]) -> None:
    assert said.code == 2, said.error
    assert "Traceback" not in said.error
    for part in case.says:
        assert part in said.error
    assert said.error.startswith(("run-benchmark: ", "Usage: "))
    assert "run-benchmark: failed." not in said.error
    made = {path.relative_to(folder).as_posix() for path in set(folder.rglob("*")) - before}
    assert made == set(), "nothing is written for a command that can't run"


def test_cases_have_different_ids() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_broken_input_is_a_sentence_and_exit_code_2(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = lay_out(tmp_path, case)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    check(call(arguments, monkeypatch, capsys), case, tmp_path, before)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.id in AS_SUBPROCESSES],
    ids=lambda case: case.id,
)
def test_broken_input_of_the_installed_command_is_the_same(case: Case, tmp_path: Path) -> None:
    arguments = lay_out(tmp_path, case)
    before = set(tmp_path.rglob("*"))
    command = [sys.executable, "-c", "from evaluation.commands.run_benchmark.command import main; main()", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""
    check(Said(done.returncode, done.stderr), case, tmp_path, before)


def test_missing_config_argument_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call([], monkeypatch, capsys)
    assert said.code == 2
    assert "CONFIG" in said.error


def test_all_faults_of_a_config_are_counted_and_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = model("label: a, model: ./nowhere") + "  - {mteb: STSX}\n  - {local: L, type: STS, data: data}\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    said = call(["c.yaml", "--model", "b"], monkeypatch, capsys)
    assert said.code == 2
    reading, first, *sentences = said.error.splitlines()
    assert reading == "run-benchmark: reading c.yaml ..."
    assert first == "run-benchmark: 4 faults:"
    assert len(sentences) == 4


@pytest.mark.parametrize("output", ["123", "yes", "a: b", "a #b", "1.50", "null"])
def test_output_folder_is_taken_as_it_is_written(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option's value is no YAML: the folder `123` is a folder."""
    from evaluation.commands.run_benchmark import command as run_benchmark

    class Stop(Exception):
        pass

    seen: list[str] = []

    def look(config: object, *options: object) -> None:
        seen.append(config.output)  # type: ignore[attr-defined]
        raise Stop

    monkeypatch.setattr("evaluation.execution.runner.run", look)
    (tmp_path / "c.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["run-benchmark", str(tmp_path / "c.yaml"), "--output", output])
    with suppress(Stop, SystemExit):
        run_benchmark.main()
    assert seen == [output], capsys.readouterr().err


def test_output_that_is_a_file_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "results").write_text("a file", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    said = call(["c.yaml"], monkeypatch, capsys)
    assert said.code == 2
    assert "Traceback" not in said.error
    assert "results" in said.error


# ----------------------------------------------------------------------------------------------------- what is no fault


def test_unjudged_queries_are_no_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, Case("good", local("Retrieval"), (), BEIR))
    (job,) = build_jobs(load_config(tmp_path / "c.yaml"))
    assert (job.task.name, job.task.splits) == ("Mine", ("test",))
    data = read_local_data(tmp_path / "data", "Retrieval")
    assert data.counts == {"queries without judgements": 1}
    assert data.subsets["default"]["test"].query_ids == ["q1"]  # type: ignore[union-attr]


def test_judgements_of_unknown_documents_are_counted_and_no_fault(tmp_path: Path) -> None:
    files = {**BEIR, "data/qrels/test.tsv": QRELS + "q1\td9\t1\nq9\td1\t1\n"}
    lay_out(tmp_path, Case("good", local("Retrieval"), (), files))
    assert len(build_jobs(load_config(tmp_path / "c.yaml"))) == 1
    counts = read_local_data(tmp_path / "data", "Retrieval").counts
    assert counts["judgements of unknown documents"] == counts["judgements of unknown queries"] == 1
