"""The built sdist and wheel: installed into an environment of their own, they do what the README's start says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
QUICK = ["TownDeskRetrieval", "EverydaySTS"]


def build(kind: str, source: Path, target: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel, and the dependencies of this one by a path file."""
    folder = tmp_path_factory.mktemp("wheel")
    sdist = build("sdist", REPOSITORY, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    wheel = build("wheel", folder / "source" / sdist.name.removesuffix(".tar.gz"), folder)
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    return python.parent


def call(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**kept, **(environment or {})}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_constraints_pin_one_version_per_package() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines]
    assert all([part.operator for part in pin.specifier] == ["=="] for pin in pins)
    assert len({pin.name.lower() for pin in pins}) == len(pins)


def test_the_readmes_first_screen_works_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """One model on two of the quickstart's tasks; no file of the checkout is in the working directory."""
    only = [*(f"--only={name}" for name in QUICK), "--model=MiniLM-L6"]
    table = call([str(installed / "run-benchmark"), "configs/quickstart.yaml", *only], tmp_path)
    assert all(name in table for name in QUICK)
    run = "results/quickstart"
    manifest = json.loads((tmp_path / run / "run.json").read_text(encoding="utf-8"))
    assert Path(manifest["config_file"]).is_relative_to(installed.parent)
    call([str(installed / "write-report"), run, "--output", "report.html"], tmp_path)
    assert "TownDeskRetrieval" in (tmp_path / "report.html").read_text(encoding="utf-8")
    published = ["--published", "--mixed", "--only", "SciFact", "--format", "csv"]
    assert "SciFact" in call([str(installed / "compare-results"), *published], tmp_path)
    call([str(installed / "export-results"), run, "--to", "trec"], tmp_path)
    assert len(list((tmp_path / run / "export-trec").rglob("*.run"))) == 1
    call([str(installed / "check-regression"), run, "--baseline", run], tmp_path)


def test_the_baseline_of_the_quickstart_comes_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json; from pathlib import Path; from evaluation.analysis.gate.check import read_baseline; "
        "print(json.dumps(len(read_baseline(Path('results/baselines/quickstart.json')).jobs)))"
    )
    assert json.loads(call([str(installed / "python"), "-c", code], tmp_path)) == 24
