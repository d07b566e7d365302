"""What users own from round to round, on disk: one folder per user, one file per round.

Personal parameters never reach the server. In simulation their folder belongs to the run, on a
device to the node. A round reads what the newest *earlier* round left, so that a round that is
run again (a retry, a resume) starts from the same memory. Files are written beside, synced and
renamed: a process that is killed, or a machine that loses its power, leaves the old file or the
new one, never a part; and what a chunk has replied is on the disk.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from flwr.app import Context
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clients.disk import sync_all
from fedmeta.config import ConfigError
from fedmeta.types import Params

KEPT = 3
"""Rounds whose memory is kept: a run may go on from either of the last two checkpoints."""


def folder_of(context: Context) -> Path:
    """The folder of a participant: the node's own `memory`, else `run.memory`, else by run id."""
    given = context.node_config.get("memory") or context.run_config.get("run.memory")
    if given:
        return Path(str(given))
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "fedmeta" / str(context.run_id)


def load(folder: Path, users: Sequence[str], round_number: int, fresh: Params) -> dict[str, Tensor]:
    """What users own at the start of a round, stacked ``(U, ...)``.

    Args:
        folder: of the participant.
        users: ids of the users.
        round_number: the round that begins.
        fresh: what a newcomer owns; gives the names and shapes.

    Raises:
        ConfigError: a file that cannot be read or has other names or shapes: it was written by
            another method or head.
    """
    rows = [_latest(folder, user, round_number, fresh) for user in users]
    return {name: torch.stack([row[name] for row in rows]) for name in fresh}


def save(folder: Path, users: Sequence[str], round_number: int, kept: Mapping[str, Tensor]) -> None:
    """Write what users own after a round, ``(U, ...)`` each; the disk has it on return.

    All files of a chunk are written before the first is waited for, and renamed after the last:
    the system then writes them together.
    """
    beside: list[tuple[Path, Path]] = []
    changed: set[Path] = set()
    for row, user in enumerate(users):
        mine = _folder(folder, user)
        if not mine.is_dir():
            mine.mkdir(parents=True, exist_ok=True)
            changed |= {mine.parent, folder, folder.parent}
        changed.add(mine)
        values = {name: value[row].detach().cpu().contiguous() for name, value in kept.items()}
        part = mine / f".{os.getpid()}.part"
        save_file(values, part)
        beside.append((part, mine / f"{round_number}.safetensors"))
    sync_all(part for part, _ in beside)
    for part, path in beside:
        part.replace(path)
    # What lies ahead is left from before the run was taken up again, and would be in the way.
    for _, path in beside:
        there = sorted(_rounds(path.parent))
        ahead = [other for other in there if other > round_number]
        for old in ahead + [other for other in there if other <= round_number][:-KEPT]:
            (path.parent / f"{old}.safetensors").unlink(missing_ok=True)
    sync_all(sorted(changed, reverse=True))


def _latest(folder: Path, user: str, round_number: int, fresh: Params) -> Params:
    mine = _folder(folder, user)
    earlier = [number for number in _rounds(mine) if number < round_number]
    if not earlier:
        return fresh
    path = mine / f"{max(earlier)}.safetensors"
    try:
        found: Params = load_file(path, device=str(next(iter(fresh.values())).device))
    except SafetensorError as error:
        raise ConfigError(f"memory of user {user!r} at {str(path)!r} is damaged: {error}") from None
    if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in fresh.items()}:
        raise ConfigError(
            f"memory of user {user!r} at {str(path)!r} holds {_shapes(found)}, expected"
            f" {_shapes(fresh)}: it is another method's or head's; give run.memory a new folder"
        )
    return found


def _rounds(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(name.stem) for name in folder.iterdir() if name.suffix == ".safetensors"]


def _folder(folder: Path, user: str) -> Path:
    # Ids are users' own words: a hash is a safe name, and two levels keep folders small.
    name = hashlib.sha256(user.encode()).hexdigest()[:32]
    return folder / name[:2] / name[2:]


def _shapes(params: Params) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(params.items()))
