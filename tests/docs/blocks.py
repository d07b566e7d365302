"""Fenced blocks and commands of the documentation, and why some of them are not run.

A block in ``python`` or ``bash`` is run, in the order of the page, unless the line above it is
``<!-- not run: REASON -->``. In blocks without a language the lines that begin with ``fedmeta`` are
taken for commands.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {"config.md", "methods.md"}
"""Pages without commands, written by the code."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->\s*\Z")
INLINE = re.compile(r"(?<!`)`(fedmeta [^`]+)`(?!`)")


class Block(NamedTuple):
    """A fenced block: its page and line, its language, and the reason why it is not run, or ""."""

    page: str
    line: int
    language: str
    text: str
    reason: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    source, found = page.read_text(encoding="utf-8"), []
    for match in FENCE.finditer(source):
        before = source[: match.start()]
        marked = NOT_RUN.search(before)
        reason = marked["reason"] if marked else ""
        line = before.count("\n") + 2
        found.append(Block(page.name, line, match["language"], match["text"], reason))
    return found


def lines(block: Block) -> Iterator[str]:
    """The commands of a block: continued lines joined, prompts and comments cut off."""
    if block.language not in ("", "bash", "console", "sh"):
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.strip().removeprefix("$ ")
        if block.language == "" and not command.startswith("fedmeta "):
            continue
        if command and not command.startswith("#"):
            yield command


def words(command: str) -> list[str]:
    """A command line in words, without the comment behind it."""
    return shlex.split(command, comments=True)


def inline(page: Path) -> list[str]:
    """Commands within sentences and tables."""
    source = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [text.replace("\n", " ") for text in INLINE.findall(source)]
