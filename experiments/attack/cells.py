"""The folder of a grid, and a file for each run, which a resumed grid believes if it is whole."""

import json
from pathlib import Path
from typing import Any

from experiments import artifacts, settings
from experiments.plain import plain
from fedmeta.config import Config, ConfigError
from strategies import checkpoint

DIGEST = "sha256"
CELLS = "cells"


def folder_of(config: Config, who: dict[str, Any], out: Path | None, resume: Path | None) -> Path:
    """The folder of the grid, with its config and who attacks.

    Raises:
        ConfigError, CheckpointError: a folder in use, or one that was begun otherwise.
    """
    if resume is None:
        folder = artifacts.make_folder(out or config.run.out, config.run.name or "attack")
        artifacts.write_config(folder, config)
        artifacts.write_json(folder / "plan.json", who)
        (folder / CELLS).mkdir()
        return folder
    folder = artifacts.reopen(resume)
    before = checkpoint.decisive(settings.read(folder / "config.toml"))
    checkpoint.same(before, checkpoint.decisive(config), folder)
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--resume {str(folder)!r}: plan.json cannot be read ({error}); expected the folder of"
            " an attack"
        ) from None
    if plan != who:
        raise ConfigError(f"--resume {str(folder)!r} was begun with {plan}, not {who}")
    return folder


def write(path: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """The file, with a digest of what it holds; never half of it under its name.

    Returns:
        The cell as :func:`read` will give it.
    """
    cell = plain(cell)
    beside = path.with_suffix(".part")
    artifacts.write_json(beside, cell | {DIGEST: checkpoint.digest(cell)})
    beside.replace(path)
    return cell


def read(path: Path) -> dict[str, Any] | None:
    """What :func:`write` wrote; None: not there, cut or changed, so that it must be run again."""
    try:
        cell = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(cell, dict):
        return None
    found = cell.pop(DIGEST, None)
    return cell if found == checkpoint.digest(cell) else None
