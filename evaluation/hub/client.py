"""Describes and fetches repositories of the Hugging Face Hub; every fault becomes one sentence that says what to do.

Knows nothing of tasks or models. Imports huggingface_hub inside functions only.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evaluation.hub.cache import HubError, Kind, hub_cache, is_offline, matches
from evaluation.hub.transport import limit_transport
from evaluation.system.retries import can_pass, with_retries
from evaluation.system.threads import call_with_deadline

Result = TypeVar("Result")

_DESCRIBING_S, _FETCHING_S = 180.0, 30 * 86_400.0
_NETWORK_ERRORS = frozenset({"ConnectError", "ConnectionError", "ConnectTimeout", "NetworkError", "TransportError"})


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its size in bytes, and its sha256 where the Hub states it (large files)."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Repository:
    """What the Hub says of a repository at a commit."""

    kind: Kind
    name: str
    commit: str
    licence: str | None
    files: tuple[RemoteFile, ...]

    def matching(self, patterns: Sequence[str]) -> list[RemoteFile]:
        """The files that one of the patterns matches; a * also matches slashes."""
        return [file for file in self.files if matches(file.name, patterns)]


def describe(kind: Kind, name: str, revision: str | None) -> Repository:
    """What the Hub says of a repository: commit, licence, files with sizes.

    Raises:
        HubError: It can't be reached, or not with this token, or it has no such revision.
    """
    from huggingface_hub import HfApi

    def ask() -> Repository:
        info: Any = HfApi().repo_info(name, repo_type=kind, revision=revision, files_metadata=True)
        files = tuple(
            RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
        )
        licence = getattr(info.card_data, "license", None) if info.card_data else None
        return Repository(kind, name, str(info.sha), None if licence is None else str(licence), files)

    return _persistent(kind, name, revision, ask, _DESCRIBING_S)


def fetch(kind: Kind, name: str, revision: str | None, patterns: Sequence[str], *, ignored: Sequence[str] = ()) -> Path:
    """Bring the matching files of a repository into the Hub's cache; what is there is not fetched again.

    Files come in parallel; one that was cut off resumes where it stopped.

    Args:
        revision: Commit, branch or tag; None: the newest.
        patterns: Of the wanted files.
        ignored: Of files that are not wanted, though they match.

    Returns:
        The snapshot's folder, whose name is the commit.

    Raises:
        HubError: It can't be had.
    """
    from huggingface_hub import snapshot_download

    wanted = [pattern.removeprefix("./").replace("**", "*") for pattern in patterns]

    def download() -> Path:
        found = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=wanted, ignore_patterns=list(ignored)
        )
        return Path(found)

    return _persistent(kind, name, revision, download, _FETCHING_S)


def exactly(name: str) -> str:
    """A pattern that matches one name only."""
    return glob.escape(name)


def _persistent(kind: Kind, name: str, revision: str | None, act: Callable[[], Result], seconds: float) -> Result:
    """Calls, again a few times where it fails for a reason that can pass, and says in a sentence what went wrong.

    The work is done in a thread that Ctrl-C leaves behind, because the library waits for its own threads.
    """
    limit_transport()

    def direct() -> Result:
        try:
            return call_with_deadline(act, seconds)
        except FileNotFoundError as error:  # the library looked into its cache after the network had failed
            raise (error.__cause__ if isinstance(error.__cause__, Exception) else error) from None

    try:
        return with_retries(direct, f"{kind} {name}")
    except HubError:
        raise
    except Exception as error:  # the library's transport, whichever it is, has exceptions of its own
        if isinstance(error, TypeError | LookupError | AttributeError):  # from an answer of another shape
            what = f"{kind} {name!r}: the Hub's answer can't be understood"
            raise HubError(f"{what} ({type(error).__name__}: {error}); check HF_ENDPOINT and the network.") from error
        if not isinstance(error, OSError | ValueError) and not can_pass(error) and not _is_network_error(error):
            raise
        raise HubError(_sentence(kind, name, revision, error)) from error


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_network_error(error: Exception) -> bool:
    return any(kind.__name__ in _NETWORK_ERRORS for kind in type(error).__mro__)


def _sentence(kind: Kind, name: str, revision: str | None, error: Exception) -> str:
    """What went wrong and what to do."""
    what = f"{kind} {name!r}" if revision is None else f"{kind} {name!r} (revision {revision})"
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    status, kinds = _status(error), {base.__name__ for base in type(error).__mro__}
    login = "log in with `hf auth login` or set HF_TOKEN"
    if "GatedRepoError" in kinds:
        return f"{what} is gated: accept its conditions on {page}, then {login}."
    if "RevisionNotFoundError" in kinds:
        return f"{what} has no such revision on the Hub; take a commit, branch or tag that {page} lists."
    if "RepositoryNotFoundError" in kinds or status == 404:
        return f"{what} is not on the Hub, or is private: check the name, or {login}."
    if status in {401, 403}:
        return f"{what} is not open to this machine (HTTP {status}): {login}."
    if status == 429:
        return f"{what}: the Hub asks to slow down (HTTP 429); start again later, or {login}, which raises the limit."
    if status is not None:
        return f"{what}: the Hub answered HTTP {status}. Start again later: what was fetched is kept."
    if "OfflineModeIsEnabled" in kinds or "LocalEntryNotFoundError" in kinds or is_offline():
        cache = hub_cache()
        return f"{what} is not in the local Hub cache ({cache}); fetch it with fetch-data where there is a network."
    if "ConnectError" in kinds or "ConnectTimeout" in kinds:
        return f"{what}: the Hub can't be reached; check the network, or run fetch-data where there is one."
    if can_pass(error) or "consistency check" in str(error).lower():
        return f"{what}: the download was cut off; start again; it resumes where it stopped."
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{what} can't be fetched: {reason.rstrip('.')}."
