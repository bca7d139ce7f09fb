"""Finds the configs, baselines and published scores that are installed with the package, for use outside a checkout.

`evaluation/shipped` holds links to the checkout's folders; a wheel holds copies of their files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parents[1] / "shipped"


def find_shipped(path: Path) -> Path:
    """Returns the installed copy of a file or folder that does not exist here, such as configs/quickstart.yaml.

    Any other path is returned as it is.
    """
    if path.is_absolute() or ".." in path.parts or not path.parts or path.exists():
        return path
    shipped = SHIPPED / path
    return shipped if shipped.exists() else path
