"""Fetches mteb's results repository, the scores that others published, through mteb's own ResultCache."""

from __future__ import annotations

import subprocess
from pathlib import Path

from evaluation.hub.cache import HubError

RESULTS_REPOSITORY = "https://github.com/embeddings-benchmark/results"


def fetch_results(folder: Path, remote: str = RESULTS_REPOSITORY) -> Path:
    """Clones the repository into a folder, or brings a clone there up to date.

    Args:
        folder: An mteb ResultCache; the clone lies in its folder `remote`.
        remote: The address of the repository.

    Returns:
        The clone.

    Raises:
        HubError: Git is missing or fails, or the folder holds something else.
    """
    from mteb.cache import ResultCache

    try:
        return Path(ResultCache(folder).download_from_remote(remote))
    except FileNotFoundError as error:
        raise HubError("--published: the program git is needed to fetch the results repository; install it.") from error
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        raise HubError(
            f"--published {folder}: {remote} could not be fetched ({error}). Check the network and the folder, or "
            "clone the repository yourself and name its folder."
        ) from error
