"""Command lines held against the command that there is: options, arguments and config keys."""

import re
from typing import Any

import typer

from experiments import settings
from experiments.cli import app

PLACEHOLDER = re.compile(r"\b[A-Z]{3,}(_[A-Z]+)*\b|\.\.\.|…|=[A-Z]\b|<[a-z]")
"""A word that stands for something: DIR, CONFIG.toml, KEY=A,B,C, ..."""


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The path of a command (`bench engine`) and its parameters; runs nothing.

    Args:
        words: of a command line that begins with ``fedmeta``.

    Raises:
        Exception: of click, for what the command would refuse.
        ConfigError: an unknown key after ``--set``, or a value that it cannot have.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("fedmeta", words[1:], resilient_parsing=False)
    path = []
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    _check_sets(context.params.get("sets") or ())
    return " ".join(path), context.params


def _check_sets(sets: tuple[str, ...]) -> None:
    """Each by itself: together they may contradict what only a file says."""
    for text in sets:
        if not PLACEHOLDER.search(text.split("=")[0]):
            settings.read(None, [text])
