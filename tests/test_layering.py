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

GROUPS: Mapping[str, tuple[str, ...]] = {
    "errors": ("errors", "paths", "files", "redaction", "retries", "machine"),
    "hub": ("hub",),
    "calibration": ("calibration",),
    "config": ("config", "config_file", "config_schema"),
    "protocols": ("protocols",),
    "tasks/index": ("tasks", "tasks.index", "tasks.build_index", "tasks.local_*", "tasks.training_data"),
    "tasks/choosing": ("tasks.choosing",),
    "tasks/workload": ("tasks.workload",),
    "plan": ("plan",),
    "records": ("records",),
    "cost": ("cost",),
    "tasks/loading": ("tasks.loading", "tasks.columns", "tasks.beir_loading", "tasks.files"),
    "encoding": ("encoding", "encoding.*"),
    "search": ("search", "leaders"),
    "adapters": ("adapters", "adapters.*"),
    "execution": ("execution", "execution.*"),
    "analysis": ("analysis", "analysis.*"),
    "commands": ("commands", "commands.*"),
}
"""Modules by group, from CONTRIBUTING.md's map; a trailing * stands for any rest."""

PLANNING = {"errors", "config", "protocols", "tasks/index", "tasks/choosing"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "errors": set(),
    "hub": {"errors"},
    "calibration": {"errors"},
    "tasks/workload": PLANNING,
    "cost": {*PLANNING, "plan", "tasks/workload", "calibration", "encoding", "hub"},
    "config": {"errors"},
    "protocols": {"errors", "config"},
    "tasks/index": {"errors"},
    "tasks/choosing": {"errors", "config", "protocols", "tasks/index"},
    "plan": PLANNING,
    "records": {*PLANNING, "plan"},
    "tasks/loading": {*PLANNING, "plan", "hub"},
    "encoding": {"errors", "config", "hub"},
    "search": {"errors"},
    "adapters": {*PLANNING, "plan", "records", "tasks/loading", "encoding", "search"},
    "execution": {*PLANNING, "plan", "records", "tasks/loading", "encoding", "search", "hub", "adapters"}
    | {"cost", "calibration", "tasks/workload"},
    "analysis": {*PLANNING, "plan", "records"},
    "commands": {*GROUPS},
}
EXCEPTIONS = {
    ("plan", "encoding.builtin"): "names of built-in models are checked before anything is loaded",
    ("plan", "encoding.checkpoint"): "a folder is told from a Hub name in one place",
}
"""Single modules that may be imported against the table; none of them may import torch."""

HEAVY_HALVES = ("commands.running", "commands.progress", "commands.fetching")
"""What commands import inside functions."""

MTEB_HOMES = ("tasks.loading", "tasks.beir_loading", "tasks.files", "tasks.build_index", "adapters.*")


class Import(NamedTuple):
    """One import statement's module, by its full name, and whether it runs when the importing module is loaded."""

    module: str
    line: int
    at_load: bool


def is_one_of(module: str, patterns: tuple[str, ...]) -> bool:
    return any(module == pattern or (pattern.endswith("*") and module.startswith(pattern[:-1])) for pattern in patterns)


def group_of(module: str) -> str | None:
    return next((group for group, patterns in GROUPS.items() if is_one_of(module, patterns)), None)


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
    homeless = [module for module in modules() if group_of(module) is None]
    assert homeless == [], "give it a group here and a line in CONTRIBUTING.md's map"


@pytest.mark.parametrize("group", GROUPS)
def test_imports_go_one_way(group: str) -> None:
    wrong = []
    for module in modules():
        if group_of(module) != group:
            continue
        for found in own_imports(module):
            target = short(found.module)
            allowed = {group, *MAY_IMPORT[group]}
            if group_of(target) not in allowed and (module, target) not in EXCEPTIONS:
                wrong.append(f"{module}, line {found.line}: {target}")
    assert wrong == [], f"{group} may import {sorted(MAY_IMPORT[group])}"


def test_order_of_groups_has_no_circle() -> None:
    def below(group: str, seen: tuple[str, ...] = ()) -> None:
        assert group not in seen, (*seen, group)
        for other in MAY_IMPORT[group] - {group}:
            if group != "commands":
                below(other, (*seen, group))

    for group in GROUPS:
        below(group)


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


def places_of_the_map() -> list[str]:
    """Files, globs and folders that CONTRIBUTING.md's table names, relative to the package."""
    places = []
    for line in (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.startswith("| `evaluation/") else []
        folder = names[0].rpartition("/")[0] if names else ""
        places += [names[0], *(f"{folder}/{name}" for name in names[1:])] if names else []
    return [place.removeprefix("evaluation/") for place in places]


def test_map_of_the_house_is_true() -> None:
    places = places_of_the_map()
    files = [file.relative_to(PACKAGE).as_posix() for file in modules().values() if file.name != "__init__.py"]
    missing = [
        file for file in files if not any(file.startswith(p) if p[-1] == "/" else fnmatch(file, p) for p in places)
    ]
    assert missing == [], "give it a line in CONTRIBUTING.md"
    gone = [place for place in places if not list(PACKAGE.glob(place.rstrip("/")))]
    assert gone == [], "CONTRIBUTING.md names what is not there"


def test_package_itself_is_imported_by_nobody() -> None:
    found = [
        f"{module}, line {item.line}"
        for module in modules()
        for item in imports_of(module)
        if item.module == "evaluation"
    ]
    assert found == [], "import the module that defines the name"


def test_errors_import_nothing_but_the_standard_library() -> None:
    for module in ("errors", "paths"):
        tops = {found.module.partition(".")[0] for found in imports_of(module)}
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
        if group_of(module) == "analysis":
            assert not forbidden & {found.module.partition(".")[0] for found in imports_of(module)}, module


def test_commands_import_heavy_libraries_inside_functions_only() -> None:
    wrong = [
        f"{module}, line {found.line}: {found.module}"
        for module in modules()
        if group_of(module) == "commands"
        and module not in {"commands.running", "commands.progress", "commands.fetching"}
        for found in imports_of(module)
        if found.at_load and found.module.partition(".")[0] in HEAVY
    ]
    assert wrong == []


def test_no_module_is_called_for_nothing_in_particular() -> None:
    empty = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base"}
    assert [module for module in modules() if module.rpartition(".")[2] in empty] == []


# ------------------------------------------------------------------------------------------------------------- public


def test_public_names_are_these() -> None:
    assert sorted(evaluation.__all__) == ["check_regression", "compare", "load_config", "results_frame", "run"]
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
