"""What commands have in common: their options, their config, and how they answer."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import settings
from fedmeta.config import Config

ConfigPath = Annotated[Path | None, typer.Argument(help="TOML file; none: the embedded default.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key, as in federation.rounds=50.")
]
Seed = Annotated[int | None, typer.Option(help="Seed (run.seed).")]
Backend = Annotated[str | None, typer.Option(help="inline or ray (run.backend).")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda (run.device).")]
OnError = Annotated[str | None, typer.Option("--on-client-error", help="fail or skip.")]
Out = Annotated[Path | None, typer.Option(help="New folder for the artefacts.")]
Resume = Annotated[
    Path | None, typer.Option(help="Folder of a run that was left: go on where it was.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


def config_of(
    path: Path | None,
    sets: list[str] | None,
    seed: int | None,
    backend: str | None,
    device: str | None,
    on_error: str | None = None,
) -> Config:
    """The config of a command: file, then ``--set``, then flags."""
    flags = {
        "run.seed": seed,
        "run.backend": backend,
        "run.device": device,
        "run.on-client-error": on_error,
    }
    return settings.read(path, sets or (), flags)


def show(content: Any, table: Any, as_json: bool) -> None:
    """Print a result for people, or as JSON."""
    if as_json:
        from experiments.plain import plain

        print(json.dumps(plain(content)))
    else:
        from experiments import tables

        tables.show(table)
