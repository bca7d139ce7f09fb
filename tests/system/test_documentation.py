"""README and docs tell the truth: commands parse, configs load, Python runs, links lead somewhere, tables agree."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for
from ruamel.yaml import YAML
from support.documentation import REPOSITORY, Block, anchors, blocks, links, pages, prose

from evaluation import run
from evaluation.config.loading import load_config
from evaluation.config.run_config import RunConfig

COMMANDS = {
    "run-benchmark": "run_benchmark.command",
    "fetch-data": "fetch_data.command",
    "export-results": "export_results",
    "compare-results": "compare_results",
    "check-regression": "check_regression.command",
    "embedding-cache": "embedding_cache",
    "write-report": "write_report",
}
FOREIGN = {"source", "rsync", "sbatch", "python", "kubectl"}
"""Commands of other programs, which pages may show."""
FOREIGN_OPTIONS = {"--no-deps", "--editable", "--nodes", "--gpus-per-node"}
ROWS = 12
"""Pairs of the small quickstart that the Python blocks and the action run on."""

READ_ONLY = {"compare-results", "check-regression", "write-report"}
READABLE = {"results/quickstart", "results/baselines/quickstart.json"}
"""What commands of `READ_ONLY` read in the small quickstart."""

BLOCKS = [block for page in pages() for block in blocks(page)]
YAML_BLOCKS = [block for block in BLOCKS if block.language == "yaml"]
COMMAND_LINES = [
    (block, line)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.replace("\\\n", " ").splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]
PYTHON_PAGES = sorted({block.page for block in BLOCKS if block.language == "python"})


def name(block: Block | tuple[Block, str]) -> str:
    return block.place if isinstance(block, Block) else f"{block[0].place} {block[1].split(' ')[0]}"


def is_cheap(line: str) -> bool:
    """Whether a command only reads what the small quickstart has, so that it can be run and not only parsed."""
    program, *arguments = shlex.split(line, comments=True)
    return (
        program in READ_ONLY and {word for word in arguments if word.startswith(("results/", "benchmark/"))} <= READABLE
    )


def test_readme_takes_a_minute() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_block_has_a_language_that_is_checked() -> None:
    kinds = {"yaml", "sh", "python", "text", "latex"}
    own = [block for block in BLOCKS if block.page.parent.name != "benchmarks" and block.page.stem != "CONTRIBUTING"]
    assert [block.place for block in own if block.language not in kinds] == []


# ------------------------------------------------------------------------------------------------------------- commands


@cache
def command(program: str) -> Any:
    return typer.main.get_command(import_module(f"evaluation.commands.{COMMANDS[program]}").app)


@pytest.mark.parametrize("shown", COMMAND_LINES, ids=name)
def test_commands_exist_with_these_arguments(shown: tuple[Block, str]) -> None:
    words = shlex.split(shown[1], comments=True)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program, *arguments = words
    if program in COMMANDS:
        _check_arguments(program, arguments)
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "pip":
        _check_install(arguments)
    else:
        assert program in FOREIGN, f"{program} is not a command that pages may show"
    for argument in arguments:
        if re.match(r"(configs|docs)/.*\.\w+$", argument):
            assert (REPOSITORY / argument).exists(), argument


def _check_arguments(program: str, arguments: list[str]) -> None:
    """Parses as the command would, and runs nothing."""
    context = command(program).make_context(program, list(arguments))
    if hasattr(command(program), "commands"):
        inner, found, rest = command(program).resolve_command(context, arguments)
        found.make_context(inner, rest, parent=context)


def _check_install(arguments: list[str]) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(",")), extras
    for wheel in re.findall(r"e5_evaluation-([\d.]+)-py3", " ".join(arguments)):
        assert f'version = "{wheel}"' in project


def test_options_that_pages_name_exist() -> None:
    known = {option for program in COMMANDS for option in _options(command(program))} | FOREIGN_OPTIONS
    unknown = {
        f"{page.relative_to(REPOSITORY)}: {option}"
        for page in pages()
        if page.parent.name != "benchmarks"
        for option in re.findall(r"`(?:[^`\n]*?\s)?(--[a-z][a-z-]+)", prose(page))
        if option not in known
    }
    assert unknown == set()


def _options(parent: Any) -> set[str]:
    children = getattr(parent, "commands", {}).values()
    own = {option for parameter in parent.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *(_options(child) for child in children))


# -------------------------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=name)
def test_yaml_is_a_config_or_a_pipeline(block: Block, tmp_path: Path) -> None:
    if block.text.startswith("# .github/workflows/"):
        assert schema_faults("vendor.github-workflows", block.text) == []
    elif block.text.startswith("# .gitlab-ci.yml"):
        assert schema_faults("vendor.gitlab-ci", block.text) == []
    else:
        part = yaml.safe_load(block.text)
        assert isinstance(part, dict) and part.keys() <= RunConfig.model_fields.keys(), block.place
        whole = {"name": "x", "models": [{"label": "a", "model": "m"}], "tasks": [{"mteb": "STS12"}], **part}
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        load_config(tmp_path / "x.yaml")


def schema_faults(schema: str, text: str) -> list[str]:
    """What a schema of schemastore.org, as check-jsonschema ships it, finds wrong."""
    content = get_builtin_schema(schema)
    document = YAML(typ="safe", pure=True).load(text)  # YAML 1.2: the key `on` is not a truth value
    return [f"{error.json_path}: {error.message}" for error in validator_for(content)(content).iter_errors(document)]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (".github/workflows/ci.yml", "vendor.github-workflows"),
        ("action.yml", "vendor.github-actions"),
        ("CITATION.cff", "vendor.citation-file-format"),
    ],
)
def test_files_for_github_follow_their_schemas(file: str, schema: str) -> None:
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert schema_faults(schema, text) == []
    assert schema_faults(schema, text.replace("name:", "nmae:").replace("title:", "titel:")) != []  # it can fail


def test_the_docs_table_of_the_action_is_that_of_the_file() -> None:
    action = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    page = prose(REPOSITORY / "docs" / "continuous-integration.md")
    inputs = {key: "required" if given.get("required") else given["default"] for key, given in action["inputs"].items()}
    assert {row[0]: row[1].strip("`") for row in re.findall(r"^\| `([\w-]+)` \| (\S+) \|", page, re.M)} == inputs
    assert set(re.findall(r"^\| `([\w-]+)` \| [\w ]+ \|$", page, re.M)) == set(action["outputs"])


def test_citation_names_this_version() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{cited["version"]}"' in project and f'license = "{cited["license"]}"' in project


# ---------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def _anchors(page: Path) -> set[str]:
    included = re.findall(r'--8<-- "([^"]+)"', page.read_text(encoding="utf-8"))
    return anchors(page).union(*(anchors(REPOSITORY / file) for file in included))


def test_every_page_of_the_site_is_reached_from_the_readme_or_the_home_page() -> None:
    docs = REPOSITORY / "docs"
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in pages() for link in links(page)}
    assert {page for page in docs.rglob("*.md") if page.name != "index.md"} - linked == set()


# --------------------------------------------------------------------------------------------------------------- tables


def test_the_quickstart_table_is_the_baseline() -> None:
    jobs = json.loads((REPOSITORY / "results" / "baselines" / "quickstart.json").read_text(encoding="utf-8"))["jobs"]
    scores = {(job["task"], job["label"]): f"{100 * job['score']:.2f}" for job in jobs}
    page = prose(REPOSITORY / "docs" / "getting-started.md")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    shown = {
        (row[0], label): row[column]
        for row in rows
        if row[0] in {task for task, _ in scores}
        for column, label in ((2, "E5-small"), (4, "E5-small bare"), (5, "MiniLM-L6"))
    }
    assert shown == scores


def test_the_takeaways_of_the_quickstart_are_those_of_its_config() -> None:
    text = (REPOSITORY / "configs" / "quickstart" / "takeaways.txt").read_text(encoding="utf-8")
    config = load_config(REPOSITORY / "configs" / "quickstart.yaml")
    told = re.search(r"(.*) ran under e5 .*?, (.*) and (.*) under none", text)
    assert told is not None
    assert [(model.label, model.protocol) for model in config.models] == [
        (told[1].rpartition(" ")[2], "e5"),
        (told[2], "none"),
        (told[3], "none"),
    ]
    for line in text.splitlines():
        if line.startswith("    "):
            program, *arguments = shlex.split(line)
            _check_arguments(program, arguments)
    scores = (REPOSITORY / "results" / "published" / "mteb_scores.csv").read_text(encoding="utf-8")
    for protocol, score in re.findall(r"(e5|mteb),Banking77.*,accuracy,([\d.]+)", _of_e5_small(scores)):
        assert f"{100 * float(score):.2f}" in text, protocol


def _of_e5_small(table: str) -> str:
    return "\n".join(line for line in table.splitlines() if line.startswith("intfloat/multilingual-e5-small,"))


def test_messages_that_troubleshooting_quotes_are_the_programs() -> None:
    page = prose(REPOSITORY / "docs" / "troubleshooting.md")
    symptoms = [line.split("|")[1] for line in page.splitlines() if line.startswith("|")]
    quoted = [quote for symptom in symptoms for quote in re.findall(r'"([^"]+)"', symptom)]
    said = "\n".join(
        node.value
        for file in (REPOSITORY / "evaluation").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert len(quoted) > 10
    assert [quote for quote in quoted if quote not in said] == []


# --------------------------------------------------------------------------------------------- Python, and the action


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's root, whose quickstart is one small task, with a run and a baseline."""
    root = tmp_path_factory.mktemp("workspace")
    config = yaml.safe_load((REPOSITORY / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    config["models"] = [{**model, "model": "builtin:all-MiniLM-L6-v2"} for model in config["models"]]
    config["tasks"] = [task for task in config["tasks"] if task["local"] == "EverydaySTS"]
    data = Path(config["tasks"][0]["data"])
    (root / "configs" / data).mkdir(parents=True)
    (root / "configs" / "quickstart.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    lines = (REPOSITORY / "configs" / data / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "configs" / data / "test.jsonl").write_text("".join(lines[:ROWS]), encoding="utf-8")
    shutil.copytree(REPOSITORY / "results" / "published", root / "results" / "published")
    (root / "results" / "baselines").mkdir()
    update = ["results/quickstart", "--baseline", "results/baselines/quickstart.json", "--update-baseline"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(load_config("configs/quickstart.yaml")).failed == []
        command("check-regression").main(update, standalone_mode=False)
    return root


def shell(root: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:

    commands = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=root,
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("shown", [shown for shown in COMMAND_LINES if is_cheap(shown[1])], ids=name)
def test_commands_that_read_the_quickstarts_run_succeed(
    shown: tuple[Block, str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    program, *arguments = shlex.split(shown[1], comments=True)
    assert command(program).main(arguments, prog_name=program, standalone_mode=False) in (None, 0)


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_python_blocks_run(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)  # noqa: S102


def test_the_action_runs_judges_and_keeps_its_files(workspace: Path, tmp_path: Path) -> None:
    """Every step of action.yml that is a script, but the installation, as the runner would start it."""
    action = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    inputs = {key: str(given.get("default", "")) for key, given in action["inputs"].items()}
    inputs |= {"config": "configs/quickstart.yaml", "baseline": "results/baselines/quickstart.json"}
    page, output = tmp_path / "summary.md", tmp_path / "output"
    runner = {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(page)}
    page.touch()
    outputs: dict[str, str] = {}
    for step in action["runs"]["steps"]:
        if "run" in step and step["name"] != "Install":
            shell(workspace, step["run"], **runner, **_filled(step["env"], inputs, outputs))
            outputs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    kept = _filled({"path": action["runs"]["steps"][-1]["with"]["path"]}, inputs, outputs)["path"].split()
    assert all(list(Path(file).parent.glob(Path(file).name)) for file in kept), kept
    assert "PASSED" in page.read_text(encoding="utf-8")


def _filled(values: dict[str, str], inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, str]:
    """Values whose expressions of inputs and of the step `place` are filled in."""
    known = {f"inputs.{key}": text for key, text in inputs.items()}
    known |= {f"steps.place.outputs.{key}": text for key, text in outputs.items()}
    return {key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: known[found[1]], text) for key, text in values.items()}
