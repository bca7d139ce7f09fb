"""Reads the Markdown pages of the project: fenced code blocks, links, headings. Knows nothing of what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown.extensions.toc import slugify, unique

REPOSITORY = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```(\S*)\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")


class Block(NamedTuple):
    """A fenced block: where its text begins, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """File and line, as an editor opens them."""
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, in the repository's root, docs/, configs/, benchmarks/ and results/published/."""
    folders = ("docs", "configs", "benchmarks", "results/published")
    return [*sorted(REPOSITORY.glob("*.md")), *(page for name in folders for page in _below(REPOSITORY / name))]


def _below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    start, language, text = 0, "", list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            text.append(line)
        elif start:
            yield Block(page, start, language, "\n".join(text) + "\n")
            start = 0
        else:
            start, language, text = number + 1, fence[2], []
    assert not start, f"{page}: the block at line {start} never ends"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    kept, inside = list[str](), False
    for line in page.read_text(encoding="utf-8").splitlines():
        inside ^= _FENCE.match(line) is not None
        kept += [] if inside or _FENCE.match(line) else [line]
    return "\n".join(kept)


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    found: set[str] = set()
    for line in prose(page).splitlines():
        if re.match(r"#{1,6} ", line):
            unique(slugify(_plain(line.lstrip("# ")), "-"), found)
    return found


def _plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
