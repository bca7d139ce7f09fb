"""Proofs, stored by the content of everything they depend on, so that a checkpoint is proved once per machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from evaluation.errors import DamagedFileError, StoreError
from evaluation.models.facts import CheckpointFacts
from evaluation.system.atomic_files import read_sealed_json, set_aside, write_sealed_json
from evaluation.system.cache_folder import user_cache_dir

_LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers", "peft")


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of the comparison of our forward pass with the library's.

    Attributes:
        outcome: Which forward pass runs the model.
        reason: Why, as a sentence.
        reference: The library and the precision that vectors were compared with.
        n_texts: Probe texts.
        cosine_distance, length_difference: The largest found, of lengths relative; None where nothing was compared.
        cosine_limit, length_limit: The largest allowed.
        versions: Of the libraries.
        seconds: That the proof took when it was made.
    """

    outcome: Literal["fast", "library"]
    reason: str
    reference: str
    n_texts: int
    cosine_distance: float | None
    length_difference: float | None
    cosine_limit: float | None
    length_limit: float | None
    versions: Mapping[str, str]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {**asdict(self), "versions": dict(self.versions)}


class Proven(NamedTuple):
    """A checkpoint's facts and the proof of how it is run."""

    facts: CheckpointFacts
    proof: Proof


@cache
def library_versions() -> Mapping[str, str]:
    """Returns the installed versions of the libraries that decide an embedding."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return MappingProxyType(found)


@cache
def own_code_hash() -> str:
    """Returns a hash of the modules that our own forward pass, and the proof itself, consist of."""
    root = Path(__file__).parents[1]
    files = [*sorted((root / "encoding").glob("*.py")), *sorted((root / "models").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read_proof(key: Mapping[str, Any]) -> Proven | None:
    """Returns the stored proof of a checkpoint under a key; None where there is none, or a damaged one."""
    file = _proof_file(key)
    try:
        stored = read_sealed_json(file)
        return Proven(CheckpointFacts.from_dict(stored["facts"]), Proof(**stored["proof"]))
    except DamagedFileError:
        set_aside(file)
    except (FileNotFoundError, StoreError, KeyError, TypeError):
        pass
    return None


def write_proof(key: Mapping[str, Any], proven: Proven) -> None:
    """Stores a proof; where the cache can't be written, it is made again next time."""
    content = {"key": dict(key), "facts": proven.facts.as_dict(), "proof": proven.proof.as_dict()}
    with contextlib.suppress(StoreError):
        write_sealed_json(_proof_file(key), content)


def _proof_file(key: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:32]
    return user_cache_dir() / "proofs" / f"{name}.json"
