"""The design itself: which module may import which, where mteb lives, what is public, and what a start costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import evaluation

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "evaluation"
HEAVY = {
    "torch",
    "mteb",
    "beir",
    "ray",
    "transformers",
    "sentence_transformers",
    "datasets",
    "pandas",
    "pyarrow",
    "sklearn",
}

_PLANS = {"errors", "system", "config", "protocols", "tasks"}
_JOBS = {*_PLANS, "hub", "models", "jobs", "records"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "errors": set(),
    "system": {"errors"},
    "config": {"errors", "system"},
    "protocols": {"errors", "config"},
    "hub": {"errors", "system"},
    "models": {"errors", "system", "config", "protocols", "hub"},
    "tasks": {"errors", "system", "config", "protocols", "hub"},
    "jobs": {*_PLANS, "models"},
    "records": {*_PLANS, "models", "jobs"},
    "encoding": {"errors", "system", "config", "models"},
    "search": {"errors", "system"},
    "stored_forms": {"errors", "config"},
    "planning": {*_JOBS, "encoding"},
    "adapters": {*_JOBS, "encoding", "search", "stored_forms"},
    "execution": {*_JOBS, "encoding", "search", "planning", "adapters"},
    "analysis": {*_PLANS, "models", "jobs", "records", "analysis.number_formats"},
    "analysis.number_formats": set(),
    "analysis.task_scores": {"analysis.statistics"},
    "analysis.run_view": {"analysis.task_scores", "analysis.statistics"},
    "analysis.frame": {"analysis.run_view"},
    "analysis.statistics": set(),
    "analysis.comparison": {"analysis.task_scores", "analysis.run_view", "analysis.statistics"},
    "analysis.gate": {"analysis.task_scores", "analysis.run_view", "analysis.statistics", "analysis.comparison"},
    "analysis.tables": {"analysis.run_view", "analysis.statistics", "analysis.comparison", "analysis.gate"},
    "analysis.report": {"analysis.run_view", "analysis.statistics", "analysis.comparison", "analysis.tables"},
    "analysis.handover": {"analysis.run_view"},
    "commands": {"analysis", *_JOBS, "encoding", "search", "planning", "adapters", "execution"},
}
"""Folder (or loose module) -> the others that it may import. Rooms of analysis also get what analysis gets."""

MTEB_HOMES = (
    "tasks.loading",
    "tasks.beir_loading",
    "tasks.build_index",
    "tasks.columns",
    "tasks.hub_files",
    "tasks.last_task",
    "tasks.limits",
    "tasks.local_datasets",
    "adapters.*",
)
LIGHT_COMMANDS = ("commands.*.command", "commands.entry", "commands.console")
"""What a command imports before it has read its arguments; other modules of a command folder are heavy."""


class Import(NamedTuple):
    """One import statement's module, by its full name, and whether it runs when the importing module is loaded."""

    module: str
    line: int
    at_load: bool


def is_one_of(module: str, patterns: tuple[str, ...]) -> bool:
    return any(module == pattern or (pattern.endswith("*") and module.startswith(pattern[:-1])) for pattern in patterns)


def folder_of(module: str) -> str:
    """The entry of `MAY_IMPORT` that a module belongs to."""
    parts = module.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in MAY_IMPORT else parts[0]


def allowed_from(folder: str) -> set[str]:
    """What modules of a folder may import, their own folder included."""
    outer = folder.partition(".")[0]
    return {folder, *MAY_IMPORT[folder], *(MAY_IMPORT[outer] if outer != folder else ())}


@cache
def modules() -> dict[str, Path]:
    """Every module by its name without `evaluation.`; the package's own __init__ is left out, it is lazy."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """All imports of a module, those inside functions and for type checkers included."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return tuple(_imports(tree, module, at_load=True))


def _imports(node: ast.AST, module: str, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}, line {child.lineno}: imports are absolute"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                is_module = inner.removeprefix("evaluation.") in modules()
                yield Import(inner if is_module else child.module or "", child.lineno, at_load)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checked_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, module, at_load=at_load and not later and not checked_only)


def own_imports(module: str) -> list[Import]:
    return [found for found in imports_of(module) if found.module.startswith("evaluation.")]


def short(name: str) -> str:
    return name.removeprefix("evaluation.")


# ------------------------------------------------------------------------------------------------------------- layers


def test_every_module_has_its_place() -> None:
    homeless = [module for module in modules() if folder_of(module) not in MAY_IMPORT]
    assert homeless == [], "give its folder a line here and in CONTRIBUTING.md's map"


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_go_one_way(folder: str) -> None:
    wrong = []
    for module in modules():
        if folder_of(module) != folder:
            continue
        for found in own_imports(module):
            target = folder_of(short(found.module))
            if not {target, target.partition(".")[0] if folder == "commands" else target} & allowed_from(folder):
                wrong.append(f"{module}, line {found.line}: {short(found.module)}")
    assert wrong == [], f"{folder} may import {sorted(allowed_from(folder))}"


def test_order_of_folders_has_no_circle() -> None:
    TopologicalSorter({folder: allowed_from(folder) - {folder} for folder in MAY_IMPORT}).prepare()


def test_modules_have_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for found in own_imports(module):
            if short(found.module) in modules():
                visit(short(found.module), (*path, module))
        done.add(module)

    for module in modules():
        visit(module, ())


def test_map_of_the_house_is_true() -> None:
    """CONTRIBUTING.md has one line for each folder and loose module, and none for what is not there."""
    mapped = set()
    for line in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `evaluation/"):
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            mapped |= {
                name.removeprefix("evaluation/").removesuffix(".py").strip("/").replace("/", ".") for name in names
            }
    assert mapped == {*MAY_IMPORT}


def test_package_itself_is_imported_by_nobody() -> None:
    found = [
        f"{module}, line {item.line}"
        for module in modules()
        for item in imports_of(module)
        if item.module == "evaluation"
    ]
    assert found == [], "import the module that defines the name"


def test_errors_import_nothing_but_the_standard_library() -> None:
    tops = {found.module.partition(".")[0] for found in imports_of("errors")}
    assert tops <= sys.stdlib_module_names, tops


def test_mteb_and_beir_are_imported_in_their_homes_only() -> None:
    wrong = [
        f"{module}, line {found.line}: {found.module}"
        for module in modules()
        for found in imports_of(module)
        if found.module.partition(".")[0] in {"mteb", "beir"} and not is_one_of(module, MTEB_HOMES)
    ]
    assert wrong == []


def test_analysis_reads_records_only() -> None:
    forbidden = {"mteb", "beir", "torch", "transformers", "sentence_transformers", "datasets"}
    for module in modules():
        if module.startswith("analysis"):
            assert not forbidden & {found.module.partition(".")[0] for found in imports_of(module)}, module


def test_commands_import_heavy_libraries_inside_functions_only() -> None:
    single_files = tuple(module for module in modules() if re.fullmatch(r"commands\.\w+", module))
    wrong = [
        f"{module}, line {found.line}: {found.module}"
        for module in modules()
        if any(fnmatch(module, pattern) for pattern in (*LIGHT_COMMANDS, *single_files))
        for found in imports_of(module)
        if found.at_load and found.module.partition(".")[0] in HEAVY
    ]
    assert wrong == []


def test_no_module_is_called_for_nothing_in_particular() -> None:
    empty = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base"}
    assert [module for module in modules() if module.rpartition(".")[2] in empty] == []


# ------------------------------------------------------------------------------------------------------------- public


def test_public_names_are_these() -> None:
    assert sorted(evaluation.__all__) == [
        "EvaluationCallback",
        "NamedModel",
        "RunOptions",
        "check_regression",
        "compare",
        "load_config",
        "results_frame",
        "run",
    ]
    for name in evaluation.__all__:
        assert callable(getattr(evaluation, name)), name
        assert name in dir(evaluation)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'evaluate'"):
        evaluation.evaluate  # noqa: B018


# --------------------------------------------------------------------------------------------------- what a start costs

STARTS = """\
import importlib, json, sys

heavy, scripts, config = set(json.loads(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3]
loaded = {}

def note(what):
    loaded[what] = sorted(heavy & set(sys.modules))

import evaluation
note("import evaluation")
for script, home in scripts.items():
    module, _, name = home.partition(":")
    main = getattr(importlib.import_module(module), name)
    for arguments in (["--help"], ["--version"], ["no such config.yaml"], [config]):
        sys.argv = [script, *arguments]
        try:
            main()
        except SystemExit:
            pass
        note(f"{script} {arguments[0]}")
print("loaded:" + json.dumps(loaded))
"""


def test_help_version_and_config_errors_load_nothing_heavy(tmp_path: Path) -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\nmodels: []\ntasks: [{mteb: STSBenchmrk}]\n", encoding="utf-8")
    # The plan finds this one: it reads the task index and asks for mteb's version without importing it.
    planned = tmp_path / "planned.yaml"
    planned.write_text("name: x\nmodels: [{label: a, model: x/y}]\ntasks: [{mteb: STSBenchmrk}]\n", encoding="utf-8")
    for config in (broken, planned):
        arguments = [json.dumps(sorted(HEAVY)), json.dumps(scripts), str(config)]
        done = subprocess.run(
            [sys.executable, "-c", STARTS, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        loaded = json.loads(done.stdout.rpartition("loaded:")[2])
        assert len(loaded) > len(scripts)
        assert {start: names for start, names in loaded.items() if names} == {}
