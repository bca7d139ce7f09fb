"""Reading a config: defaults, overrides, every fault at once with its line; the schema and configs that ship."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from evaluation.config import schema as config_schema
from evaluation.config.loading import load_config
from evaluation.config.run_config import RunConfig
from evaluation.config.task_config import BeirTask, BenchmarkTasks, LocalTask, MtebTask
from evaluation.errors import ConfigError
from evaluation.jobs import build_jobs

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))

MINIMAL = """\
name: small
models:
  - label: e5
    model: intfloat/e5-small
tasks:
  - mteb: STS12
"""
STORED = MINIMAL.replace("tasks:", "    stored:\n      - int8\n      - FORM\ntasks:")
WHOLE = """\
name: whole run
models:
  - {label: a, model: ./models/a, revision: "12ab", protocol: own, backend: sentence-transformers, max_length: 256,
     pooling: cls, dtype: bfloat16, trust_remote_code: true}
  - {label: b, model: "builtin:all-MiniLM-L6-v2"}
tasks:
  - {mteb: STS12, data: sts, splits: [test], subsets: [default], options: {fast: true}}
  - {mteb_benchmark: "MTEB(eng, v2)", types: [STS, Retrieval], languages: [eng], only: ["STS*"], exclude: [STS13]}
  - {beir: scifact, data: ../scifact, splits: [test, dev]}
  - {local: Tickets, type: Clustering, data: tickets, main_score: v_measure, max_documents: 100}
protocols:
  own:
    base: e5
    query_prefix: "Q: "
    normalize: never
    types: {STS: {text_prefix: "S: "}}
    tasks: {SciFact: {join_title: false, ignore_identical_ids: true}}
    allow_prefixed_text: true
limit: {documents: 100, queries: 10, examples: 50}
runtime: {device: "cuda:1", executor: local, max_tokens: 8192, seed: 7, store_texts: false}
data_root: data
output: somewhere
"""


def load(folder: Path, text: str, *overrides: str) -> RunConfig:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, overrides=overrides)


def faults(folder: Path, text: str, *overrides: str) -> list[str]:
    """The sentences, without the folder's path."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def fault(folder: Path, text: str, *overrides: str) -> str:
    (only,) = faults(folder, text, *overrides)
    assert "\n" not in only
    return only


# -------------------------------------------------------------------------------------------------------- good configs


def test_small_config_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    model, runtime = config.models[0], config.runtime
    assert (model.revision, model.protocol, model.backend, model.dtype) == (None, None, "transformers", "auto")
    assert (model.max_length, model.pooling, model.trust_remote_code) == (None, None, False)
    assert config.tasks == (MtebTask(mteb="STS12", data=None, splits=None, subsets=None, options={}),)
    assert (runtime.device, runtime.max_tokens, runtime.seed, runtime.store_texts) == ("auto", "auto", 42, True)
    assert (config.protocols, config.limit, config.data_root, config.output) == ({}, None, None, "results")
    assert config.run_folder == Path("results/small")


def test_every_key_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    assert [type(task) for task in config.tasks] == [MtebTask, BenchmarkTasks, BeirTask, LocalTask]
    given = yaml.safe_load(WHOLE)
    dumped = json.loads(config.model_dump_json(exclude_unset=True))
    assert dumped == given


def test_config_is_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    parts = ((config, "name"), (config.models[0], "label"), (config.runtime, "seed"), (config.tasks[0], "mteb"))
    for part, name in parts:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, "x")
    assert isinstance(config.models, tuple)
    assert isinstance(config.tasks, tuple)


def test_input_paths_are_relative_to_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load(tmp_path, MINIMAL)
    assert config.base_dir == tmp_path.resolve()
    assert config.resolve_path("models/a") == tmp_path.resolve() / "models/a"
    assert config.resolve_path("../a") == tmp_path.resolve().parent / "a"
    assert config.resolve_path("/somewhere/a") == Path("/somewhere/a")
    assert config.resolve_path("~/a") == Path("~/a").expanduser()


def test_relative_path_of_the_config_file_itself_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    config = load_config("c.yaml")
    monkeypatch.chdir("/")
    assert config.resolve_path("data") == tmp_path.resolve() / "data"


def test_data_is_relative_to_data_root(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    assert load(tmp_path, MINIMAL).resolve_data("sts") == root / "sts"
    assert load(tmp_path, MINIMAL, "data_root=../all").resolve_data("sts") == root.parent / "all/sts"
    assert load(tmp_path, MINIMAL, "data_root=/all").resolve_data("sts") == Path("/all/sts")
    assert load(tmp_path, MINIMAL, "data_root=/all").resolve_data("/sts") == Path("/sts")


def test_output_is_relative_to_the_working_directory(tmp_path: Path) -> None:
    assert load(tmp_path, WHOLE).run_folder == Path("somewhere/whole run-limited")  # it has limits


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_config(tmp_path / "c.yaml").name == "small"


def test_anchors_and_merge_keys_are_read(tmp_path: Path) -> None:
    text = MINIMAL.replace("  - label: e5\n", "  - &first\n    label: e5\n")
    text = text.replace("tasks:", "  - {<<: *first, label: other}\ntasks:")
    assert [(model.label, model.model) for model in load(tmp_path, text).models] == [
        ("e5", "intfloat/e5-small"),
        ("other", "intfloat/e5-small"),
    ]


# ----------------------------------------------------------------------------------------------------------- overrides


def test_override_replaces_a_value(tmp_path: Path) -> None:
    overrides = ["runtime.device=cpu", "models.0.dtype=float32", "tasks.0.splits=[test, dev]", "limit.queries=3"]
    config = load(tmp_path, MINIMAL, *overrides)
    assert config.runtime.device == "cpu"
    assert config.models[0].dtype == "float32"
    assert config.tasks[0].splits == ("test", "dev")  # type: ignore[union-attr]
    assert config.limit is not None
    assert (config.limit.queries, config.limit.documents) == (3, None)


def test_override_keeps_the_other_values(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE, "runtime.seed=8")
    assert (config.runtime.seed, config.runtime.device) == (8, "cuda:1")


def test_last_override_wins(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "name=a", "name=b").name == "b"


def test_overrides_can_make_a_protocol(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "protocols.p.base=e5", "protocols.p.query_prefix='x: '", "models.0.protocol=p")
    assert config.protocols["p"].query_prefix == "x: "
    assert config.models[0].protocol == "p"


def test_override_takes_text_after_the_first_equals_sign(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "output=a=b").output == "a=b"


def test_override_can_mend_a_config(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "limit: {queries: -1}\n", "limit=null").limit is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("runtime.device", "write it as key=value"),
        ("=cpu", "write it as key=value"),
        ("runtime.device=[cpu", "the value is not valid YAML"),
        ("name=!!python/object:os.system {}", "the value is not valid YAML"),
        ("models.3.dtype=float32", "'3' is not an index of a list with 1 items"),
        ("models.-1.dtype=float32", "'-1' is not an index of a list with 1 items"),
        ("models.²=x", "is not an index of a list with 1 items"),
        ("models.first.dtype=float32", "'first' is not an index of a list with 1 items"),
        ("models.0.label.x=1", "is a plain value without keys"),
        ("name.x=1", "is a plain value without keys"),
    ],
)
def test_override_that_can_not_be_used_is_named(tmp_path: Path, override: str, message: str) -> None:
    found = fault(tmp_path, MINIMAL, override)
    assert found.startswith(f"--set {override!r}: ")
    assert message in found


@pytest.mark.parametrize("override", ["runtime.divice=cpu", "limit.queries=-3", "models.0.dtype=fp16"])
def test_faulty_value_of_an_override_is_not_blamed_on_a_line_of_the_file(tmp_path: Path, override: str) -> None:
    found = fault(tmp_path, MINIMAL, override)
    assert "--set" in found
    assert "line" not in found


# -------------------------------------------------------------------------------------------------------------- faults


def test_every_fault_is_found_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
name: a/b
models:
  - {label: x, model: m, protocol: e6}
  - label: X
    model: m
    dtype: fp16
    max_length: long
tasks:
  - {mteb: STS12, beir: scifact}
  - {mteb: STS13, spilts: [test]}
limt: {queries: 3}
runtime:
  divice: cpu
"""
    found = faults(tmp_path, text)
    expected = {
        'c.yaml, line 1: name is "a/b"',
        "c.yaml, line 3: unknown protocol 'e6'; nearest: 'e5'",
        "c.yaml, line 4: label 'X' is used twice (models[0] has it)",
        "c.yaml, line 6: models[1].dtype is \"fp16\"; nearest: 'float16'",
        'c.yaml, line 7: models[1].max_length is "long": it must be a whole number',
        "c.yaml, line 9: tasks[0] needs exactly one of the keys mteb, mteb_benchmark, beir, local",
        "c.yaml, line 10: unknown key 'spilts' in tasks[1]; nearest: 'splits'",
        "c.yaml, line 11: unknown key 'limt' in the config; nearest: 'limit'",
        "c.yaml, line 13: unknown key 'divice' in runtime; nearest: 'device'",
    }
    matched = {beginning for beginning in expected for sentence in found if sentence.startswith(beginning)}
    assert matched == expected
    assert len(found) == len(expected)
    assert all(sentence.endswith(".") for sentence in found)


@pytest.mark.parametrize(
    ("text", "line", "key", "nearest"),
    [
        (MINIMAL + "limt: 3\n", 7, "'limt' in the config", "limit"),
        (MINIMAL + "output_folder: x\n", 7, "'output_folder' in the config", "output"),
        (MINIMAL.replace("label:", "lable:"), 3, "'lable' in models[0]", "label"),
        (MINIMAL + "    split: [test]\n", 7, "'split' in tasks[0]", "splits"),
        (MINIMAL + "runtime:\n  max_token: 600\n", 8, "'max_token' in runtime", "max_tokens"),
        (MINIMAL + "limit: {query: 3}\n", 7, "'query' in limit", "queries"),
        (MINIMAL + "protocols: {p: {base: e5, qery_prefix: x}}\n", 7, "'qery_prefix' in protocols.p", "query_prefix"),
        (
            MINIMAL + "protocols: {p: {base: e5, tasks: {STS12: {jointitle: true}}}}\n",
            7,
            "'jointitle' in protocols.p.tasks.STS12",
            "join_title",
        ),
    ],
)
def test_unknown_key_is_named_with_the_nearest(tmp_path: Path, text: str, line: int, key: str, nearest: str) -> None:
    (found,) = (sentence for sentence in faults(tmp_path, text) if "unknown key" in sentence)
    assert found.startswith(f"c.yaml, line {line}: unknown key {key}; nearest: '{nearest}' (allowed: ")
    assert nearest in found.partition("allowed: ")[2]


def test_unknown_task_type_of_a_protocol_is_named_as_itself(tmp_path: Path) -> None:
    text = MINIMAL + "protocols:\n  p:\n    base: e5\n    types:\n      Retrival: {text_prefix: x}\n"
    found = fault(tmp_path, text)
    assert found.startswith("c.yaml, line 11: ")
    assert "'Retrival'" in found
    assert "nearest: 'Retrieval'" in found
    assert "[key]" not in found


def test_wrong_max_tokens_is_one_sentence_with_the_value(tmp_path: Path) -> None:
    found = fault(tmp_path, MINIMAL + "runtime: {max_tokens: many}\n")
    assert found.startswith('c.yaml, line 7: runtime.max_tokens is "many"')
    assert "auto" in found


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["the file is empty"]),
        ("# nothing\n", ["the file is empty"]),
        ("- a\n- b\n", ["a config is a mapping with name, models and tasks, not a list"]),
        ("text\n", ["a config is a mapping with name, models and tasks, not a text"]),
        ("3\n", ["a config is a mapping with name, models and tasks, not a number"]),
        ("name: x\n", ["has no key 'models'", "has no key 'tasks'"]),
        (MINIMAL.partition("tasks:")[0] + "tasks: []\n", ["line 5: tasks is []: the list must not be empty"]),
        (MINIMAL.partition("tasks:")[0] + "tasks:\n", ["line 5: tasks is null: it must be a list"]),
        (MINIMAL + "    splits: []\n", ["line 7: tasks[0].splits is []: the list must not be empty"]),
        (MINIMAL + "    splits: test\n", ['line 7: tasks[0].splits is "test": it must be a list, such as [test]']),
        (MINIMAL + "limit: 3\n", ["line 7: limit is 3: it must be a mapping of keys to values"]),
        (MINIMAL + "runtime: {max_tokens: 100}\n", ["auto or a whole number of at least 512"]),
        (MINIMAL + "runtime: {store_texts: 1}\n", ["runtime.store_texts is 1: it must be true or false"]),
        (MINIMAL + "runtime: {device: gpu}\n", ['runtime.device is "gpu"; expected: auto, cpu, mps, cuda or cuda:N.']),
        (
            STORED.replace("\n      - int8\n      - FORM", " int8"),
            ['stored is "int8": it must be a list, such as [int8].'],
        ),
        (
            MINIMAL + "  - {local: x, type: STS, data: x, language: de}\n",
            ['tasks[1].language is "de"; expected: ISO 639-3 code of the language, such as deu'],
        ),
        (
            MINIMAL.replace("tasks:", "    backend: openai\n    endpoint: {url: ftp://x}\ntasks:"),
            ['models[0].endpoint.url is "ftp://x"; expected: Address up to /v1'],
        ),
        (MINIMAL + "protocols: {e5: {base: none}}\n", ["line 7: protocol 'e5' can't be redefined"]),
        (MINIMAL + "protocols: {a/b: {base: none}}\n", ["line 7: protocol name 'a/b' must have the form of a label"]),
        (MINIMAL + "protocols: {undecided: {base: none}}\n", ["line 7: protocol 'undecided' can't be redefined"]),
        (MINIMAL + "protocols: {p: {base: e5, instruction: x}}\n", ["base e5 sends no instruction"]),
        (MINIMAL + "protocols: {p: {base: none, tasks: {X: {instruction: x}}}}\n", ["base none sends no instruction"]),
        (MINIMAL + "protocols: {p: {}}\n", ["line 7: protocols.p has no key 'base'"]),
        (MINIMAL.replace("label: e5", "label: 3"), ["line 3: models[0].label is 3: it must be a string"]),
        (MINIMAL.replace("label: e5", "label: yes"), ["line 3: models[0].label is true: it must be a string"]),
    ],
)
def test_fault_is_a_sentence(tmp_path: Path, text: str, messages: list[str]) -> None:
    found = faults(tmp_path, text)
    assert len(found) == len(messages)
    for sentence, message in zip(found, messages, strict=True):
        assert sentence.startswith("c.yaml")
        assert message in sentence


@pytest.mark.parametrize(
    "label",
    ["../x", "/etc/x", "a/b", "a\\\\b", "", " a", "a ", "a.", ".", "..", ".hidden", "a\\nb", "é", "x" * 101],
)
def test_label_and_name_that_are_no_folder_names_are_refused(tmp_path: Path, label: str) -> None:
    text = MINIMAL.replace("label: e5", f'label: "{label}"').replace("name: small", f'name: "{label}"')
    found = faults(tmp_path, text)
    places = [sentence.partition(" is ")[0] for sentence in found]
    assert places == ["c.yaml, line 1: name", "c.yaml, line 3: models[0].label"]
    assert all("it names a folder" in sentence for sentence in found)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("int8", 'models[0].stored[1] is "int8": the form int8 is given twice; remove one'),
        ("{as: int8}", "the form int8 is given twice"),
        ("{dims: 128}", "truncate_dim: 64 is set, and dims: 128 keeps more dimensions than the model's vectors, which"),
        ("{dims: 64}", "dims: 64 keeps all dimensions of the model's vectors, which have 64; lower it, or remove dims"),
        ("{pca: 65}", "pca: 65 keeps more dimensions than"),
        ("{}", "float32 vectors are stored as they are; add as:, dims: or pca:"),
        (
            "{as: int8, rescore: {candidates: 5}}",
            "rescore with int8 is not finer than int8, which finds the candidates",
        ),
        ("{as: float16, rescore: {with: int8, candidates: 5}}", "rescore with int8 is not finer than float16"),
    ],
)
def test_stored_form_that_can_not_be_or_changes_nothing_is_named(tmp_path: Path, form: str, says: str) -> None:
    found = fault(tmp_path, STORED.replace("FORM", form), "models.0.truncate_dim=64")
    assert found.startswith("c.yaml, line 7: ")
    assert says in found


@pytest.mark.parametrize(
    "form", ["{dims: 63}", "{pca: 64}", "{pca: 8, rescore: {with: int8, candidates: 5}}", "float32", "{as: binary}"]
)
def test_stored_form_that_fits_is_accepted(tmp_path: Path, form: str) -> None:
    load(tmp_path, STORED.replace("FORM", form), "models.0.truncate_dim=64")


def test_width_of_a_builtin_model_is_known_before_a_run(tmp_path: Path) -> None:
    text = MINIMAL.replace("intfloat/e5-small", "builtin:all-MiniLM-L6-v2\n    stored: [{dims: 383}, {dims: 384}]")
    with pytest.raises(ConfigError) as caught:
        build_jobs(load(tmp_path, text))
    (found,) = caught.value.problems
    assert ", line 5: e5@dims=384: dims: 384 keeps all dimensions of the model's vectors, which have 384; " in found


@pytest.mark.parametrize("label", ["M@int8", "M@INT8", "M@dims=64,int8", "M@pca=8"])
def test_label_that_reads_as_a_stored_row_is_refused(tmp_path: Path, label: str) -> None:
    found = fault(tmp_path, MINIMAL.replace("label: e5", f'label: "{label}"'))
    assert found.startswith(f'c.yaml, line 3: models[0].label is "{label}": rows of stored forms are named LABEL@FORM')
    assert found.endswith(f"choose another, such as {label.replace('@', '-')}.")


def test_label_of_a_row_that_another_entry_makes_is_named_with_its_line(tmp_path: Path) -> None:
    text = MINIMAL.replace("tasks:", "    grid: {max_length: [8]}\n  - {label: 'e5,max_length=8', model: a/b}\ntasks:")
    assert fault(tmp_path, text) == "c.yaml, line 6: label 'e5,max_length=8' is used twice (models[0] has it)."


def test_bm25_is_known_in_any_case(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL.replace("intfloat/e5-small", "BM25")).models[0].model == "bm25"


@pytest.mark.parametrize("label", ["e5", "E5 small", "a.b_c+d@e=f-g", "a@int8b", "0", "x" * 100])
def test_ordinary_labels_are_accepted(tmp_path: Path, label: str) -> None:
    assert load(tmp_path, MINIMAL.replace("label: e5", f'label: "{label}"')).models[0].label == label


def test_key_given_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    assert fault(tmp_path, MINIMAL + "name: other\n") == "c.yaml, line 7: key 'name' is given twice (first in line 1)."
    text = MINIMAL.replace("    model:", "    label: e6\n    model:")
    assert fault(tmp_path, text) == "c.yaml, line 4: key 'label' is given twice (first in line 3)."


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [made]",
        "!!python/object:os.system {}",
        "!!python/name:os.system ",
        "!!python/module:os ",
        "!own x",
    ],
)
def test_yaml_tags_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault(tmp_path, MINIMAL + f"output: {tag}\n").startswith("c.yaml, line 7: not valid YAML")
    assert fault(tmp_path, MINIMAL, f"output={tag}").endswith("not valid YAML.")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", ["!!binary aGVsbG8=", "!!set {a, b}"])
def test_values_that_yaml_has_and_configs_have_not_are_refused(tmp_path: Path, value: str) -> None:
    assert fault(tmp_path, MINIMAL + f"output: {value}\n").startswith("c.yaml, line 7: output ")


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL + "\tlimit: 3\n",
        MINIMAL + "limit: [\n",
        MINIMAL + "limit: *nowhere\n",
        MINIMAL + "---\nname: second\n",
        MINIMAL + "? [a, b]\n: 3\n",
        MINIMAL + 'output: "\x07"\n',
        "limit: " + "[" * 600 + "]" * 600 + "\n",
    ],
    ids=["tab", "open list", "alias", "two documents", "list as key", "control character", "deep"],
)
def test_text_that_is_no_yaml_is_one_sentence(tmp_path: Path, text: str) -> None:
    found = fault(tmp_path, text)
    assert found.startswith("c.yaml")
    assert "not valid YAML" in found


@pytest.mark.parametrize(
    "addition",
    [
        "protocols: &all {p: *all}\n",
        'output: "\\ud800"\n',
        "    options: {x: " + "[" * 250 + "]" * 250 + "}\n",
    ],
    ids=["value that holds itself", "lone surrogate", "nested 250 deep"],
)
def test_value_that_json_can_not_hold_is_a_sentence(tmp_path: Path, addition: str) -> None:
    found = faults(tmp_path, MINIMAL + addition)
    assert found
    assert all(sentence.startswith("c.yaml") for sentence in found)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(MINIMAL.encode() + b"output: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 7: not valid UTF-8; save the file as UTF-8\."):
        load_config(tmp_path / "c.yaml")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file\."):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="this is a folder"):
        load_config(tmp_path)


def test_config_made_in_python_is_checked_alike() -> None:
    model = {"label": "a", "model": "m", "protocol": "e6"}
    with pytest.raises(ValidationError, match="unknown protocol 'e6'; nearest: 'e5'"):
        RunConfig.model_validate_json(json.dumps({"name": "x", "models": [model], "tasks": [{"mteb": "STS12"}]}))


# ------------------------------------------------------------------------------------------------- what configs/ holds


def test_shipped_schema_is_the_one_of_the_models() -> None:
    assert (CONFIGS / "schema.json").read_text(encoding="utf-8") == config_schema.render_schema()
    assert config_schema.build_schema() == config_schema.build_schema()


def test_shipped_reference_is_the_one_of_the_models() -> None:
    assert (CONFIGS / "README.md").read_text(encoding="utf-8") == config_schema.render_reference()


def test_schema_and_reference_are_written_where_they_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_schema.SCHEMA_FILE == CONFIGS / "schema.json"
    monkeypatch.setattr(config_schema, "SCHEMA_FILE", tmp_path / "schema.json")
    config_schema.main()
    for name in ("schema.json", "README.md"):
        assert (tmp_path / name).read_bytes() == (CONFIGS / name).read_bytes(), "run make schema"


def test_schema_is_valid_and_describes_every_option() -> None:
    schema = config_schema.build_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    for model in (schema, *schema["$defs"].values()):
        for name, option in model["properties"].items():
            assert option.get("description"), (model["title"], name)


@pytest.mark.parametrize("text", [MINIMAL, WHOLE], ids=["minimal", "whole"])
def test_schema_accepts_good_configs(text: str) -> None:
    jsonschema.Draft202012Validator(config_schema.build_schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL + "limt: 3\n",
        MINIMAL + "    beir: scifact\n",
        MINIMAL + "    splits: test\n",
        MINIMAL + "limit: {queries: 0}\n",
        MINIMAL.replace("mteb:", "mtb:"),
        MINIMAL.partition("tasks:")[0],
    ],
)
def test_schema_refuses_what_load_config_refuses(tmp_path: Path, text: str) -> None:
    assert not jsonschema.Draft202012Validator(config_schema.build_schema()).is_valid(yaml.safe_load(text))
    assert faults(tmp_path, text)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_config_fits_the_schema(file: Path) -> None:
    document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(config_schema.build_schema()).validate(document)
    assert document["name"] == file.stem


PLAN = """\
import socket, sys
from pathlib import Path

def refuse(*arguments):
    raise AssertionError(f"the network is used: {arguments}")

socket.socket.connect = socket.getaddrinfo = refuse
from evaluation.config.loading import load_config
from evaluation.errors import ConfigError
from evaluation.jobs import build_jobs

for file in sys.argv[1:]:
    config = load_config(file)
    try:
        print(file, len(build_jobs(config)))
    except ConfigError as error:
        missing = config.data_root is not None and not config.resolve_data(".").is_dir()
        if not (missing and all("there is no such folder" in problem for problem in error.problems)):
            raise
        print(file, "data is not here")
heavy = {"mteb", "torch", "beir", "transformers", "datasets", "pandas", "ray", "sentence_transformers"}
assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))
"""


def test_shipped_configs_plan_without_network_mteb_or_torch() -> None:
    assert SHIPPED
    command = [sys.executable, "-c", PLAN, *map(str, SHIPPED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(SHIPPED)


# ------------------------------------------------------------------------------------- anchors, environment variables


def test_keys_with_x_in_front_hold_anchors(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "x-model: &model {protocol: none, dtype: float32}\nname: n\n"
        "models: [{<<: *model, label: a, model: 'builtin:all-MiniLM-L6-v2'}]\ntasks: [{mteb: STS12}]\n",
        encoding="utf-8",
    )
    (model,) = load_config(file).models
    assert (model.protocol, model.dtype) == ("none", "float32")
    file.write_text(file.read_text(encoding="utf-8").replace("x-model", "y-model"), encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1: unknown key 'y-model'"):
        load_config(file)


def test_environment_variables_in_paths_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_DATA", str(tmp_path / "data"))
    file = tmp_path / "c.yaml"
    text = (
        "name: n\nmodels: [{label: a, model: $MY_DATA/model}]\ndata_root: ${MY_DATA}/sets\noutput: $MY_DATA/out\n"
        "tasks:\n  - {local: L, type: STS, data: $MY_DATA/sts}\n"
    )
    file.write_text(text, encoding="utf-8")
    config = load_config(file)
    assert config.models[0].model == f"{tmp_path}/data/model"
    assert config.resolve_data(config.tasks[0].data) == tmp_path / "data" / "sts"
    assert (config.data_root, config.output) == (f"{tmp_path}/data/sets", f"{tmp_path}/data/out")
    file.write_text(text.replace("$MY_DATA/sts", "$NOT_SET_ANYWHERE/sts"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == (
        f"{file}, line 6: tasks[0].data names the environment variable NOT_SET_ANYWHERE, which is not set; set it or "
        "write the path out."
    )
