"""Finds the known names that a misspelt one resembles, for the hint at the end of an error message."""

from __future__ import annotations

from collections.abc import Iterable

_CUTOFF = 0.5  # of difflib's ratio: "e6" still finds "e5", "fp16" finds "float16"


def nearest_names(name: str, known: Iterable[str], n: int = 1) -> tuple[str, ...]:
    """Returns up to n known names that resemble a name, best first; case and punctuation are ignored.

    Names that begin with the wanted one come first, then those that contain it, then difflib's matches.

    Example:
        >>> nearest_names("scifact", ["SciFact", "SCIDOCS"])
        ('SciFact',)
    """
    import difflib

    wanted = _letters_and_digits(name)
    if not wanted:
        return ()
    folded: dict[str, list[str]] = {}
    for candidate in known:
        folded.setdefault(_letters_and_digits(candidate), []).append(candidate)
    holding = (key for key in folded if wanted in key)
    keys = sorted(holding, key=lambda key: (not key.startswith(wanted), len(key), key))[:n]
    if len(keys) < n:
        keys += [key for key in difflib.get_close_matches(wanted, folded, 2 * n, _CUTOFF) if key not in keys]
    return tuple(candidate for key in keys for candidate in folded[key])[:n]


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Returns "; nearest: 'name'" for the end of a message, or an empty string where nothing resembles the name.

    Example:
        >>> nearest_hint("divice", ["device", "seed"])
        "; nearest: 'device'"
    """
    return "".join(f"; nearest: {found!r}" for found in nearest_names(name, known))


def _letters_and_digits(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
