"""Reads where a score comes from: installed versions, commit, hardware. Knows no jobs or models."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from evaluation.records.origin import METRIC_DISTRIBUTIONS, Checkout, Hardware
from evaluation.system.machine import processor_name

_DISTRIBUTIONS = (
    "e5-evaluation",
    "mteb",
    "beir",
    "ray",
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "datasets",
    "scikit-learn",
    "scipy",
    "numpy",
    "pytrec-eval-terrier",
    "bm25s",
    "PyStemmer",
)


@cache
def versions() -> dict[str, str]:
    """The installed versions of Python and of the libraries that take part."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def metric_versions() -> dict[str, str]:
    """The versions that are part of a fingerprint."""
    return {name: version for name, version in versions().items() if name in METRIC_DISTRIBUTIONS}


@cache
def source_state() -> Checkout:
    """The commit of this package's checkout, and whether it has uncommitted changes."""
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", str(folder.parent)) if commit else None
    return Checkout(commit=commit, dirty=None if commit is None else bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [
                "git",
                "--no-optional-locks",
                "-C",
                str(folder),
                *arguments,
            ],  # leaves no lock when killed
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def hardware() -> Hardware:
    """The processor, cores, memory and CUDA devices of this machine."""
    import torch

    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=processor_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 1) if pages else None,
        cuda=tuple(torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())),
    )
