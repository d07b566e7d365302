"""Every command in the documentation is one that there is."""

import re
from pathlib import Path

import click
import pytest

from experiments.cli import app
from fedmeta.config import ConfigError
from tests.docs.blocks import GENERATED, PAGES, ROOT, blocks, inline, lines, words
from tests.docs.commands import parsed

COMMANDS = sorted(
    {
        command
        for page in PAGES
        for block in blocks(page)
        for command in lines(block)
        if command.startswith("fedmeta ")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_parses(command: str) -> None:
    path, _ = parsed(words(command))
    assert path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_sentences(page: Path) -> None:
    """The command is one that there is; where options are shown, they are its options."""
    registered = [one for one in app.registered_commands if one.callback]
    known = {one.name or getattr(one.callback, "__name__", "") for one in registered}
    known |= {group.name for group in app.registered_groups}
    for command in inline(page):
        given = ["1" if word == "N" else word for word in words(command)]
        if given[1].startswith("-"):
            continue
        assert given[1] in known, command
        if "--" in command and not {"...", "…"} & set(given):
            parsed(given)


MAKE = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_targets_of_make(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in MAKE.findall(page.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fedmeta simulat", "simulat"),
        ("fedmeta simulate --sed 3", "--sed"),
        ("fedmeta simulate --seed three", "three"),
        ("fedmeta simulate --set methd.name=maml", "did you mean 'method.name'"),
        ("fedmeta simulate --set federation.rounds=many", "federation.rounds"),
        ("fedmeta bench engin", "engin"),
    ],
)
def test_a_mistake_is_seen(command: str, said: str) -> None:
    with pytest.raises((click.ClickException, ConfigError)) as caught:
        parsed(words(command))
    assert said in str(caught.value)


def test_blocks_that_are_not_run_say_why() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.reason:
                assert block.language in ("bash", "python"), (page.name, block.line)
        marks = page.read_text(encoding="utf-8").count("<!-- not run")
        assert marks == sum(bool(block.reason) for block in blocks(page)), page.name


def test_pages_without_commands() -> None:
    for page in PAGES:
        if page.name in GENERATED:
            assert not [c for block in blocks(page) for c in lines(block)]
