"""Checkpoints: all that a server carries from round to round, which no crash can tear.

A checkpoint is a folder of two files, ``state.safetensors`` and ``manifest.json``, which holds the
sha256 of the other and of itself. It is written beside, synced, renamed, and its parent synced:
who looks finds the old one or the new one. The last two are kept. No pickle anywhere.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from clients.disk import sync, sync_file
from fedmeta.config import Config, Scalar, flatten
from fedmeta.data.store import UserStore
from fedmeta.outer import ServerState
from fedmeta.types import Params
from strategies.events import RoundDone
from strategies.trust import Trust, read_back, written

FORMAT = 3
KEEP = 2
STATE, MANIFEST = "state.safetensors", "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message says which, why and what to do."""


class Progress(NamedTuple):
    """Where a run is.

    Attributes:
        state: the server's.
        best: value, round and parameters of the best round by validation users.
        history: one entry for each round.
        trust: what is remembered of the users' conduct.
    """

    state: ServerState
    best: tuple[float, int, Params]
    history: list[RoundDone]
    trust: Trust = Trust()


def write(folder: Path, progress: Progress, settings: Mapping[str, Scalar]) -> None:
    """Write the checkpoint of a round and remove all but the last two.

    Args:
        folder: that holds the checkpoints of one run.
        progress: what to write.
        settings: as :func:`decisive` gives them.

    Raises:
        CheckpointError: the disk is full or read-only; the checkpoints before are as they were.
    """
    number = progress.state.round
    state = save(_tensors(progress))
    body: dict[str, Any] = {
        "format": FORMAT,
        "round": number,
        "best": {"value": progress.best[0], "round": progress.best[1]},
        "history": [list(event) for event in progress.history],
        "trust": written(progress.trust),
        "settings": dict(settings),
        "versions": versions(),
        "state": {"sha256": hashlib.sha256(state).hexdigest(), "bytes": len(state)},
    }
    body["sha256"] = digest(body)
    beside = folder / f".{number}.{os.getpid()}.part"
    try:
        beside.mkdir(parents=True, exist_ok=True)
        sync_file(beside / STATE, state)
        sync_file(beside / MANIFEST, (json.dumps(body, indent=1) + "\n").encode())
        sync(beside)
        if (folder / str(number)).exists():
            shutil.rmtree(folder / str(number))  # a round that was run again gives the same
        beside.rename(folder / str(number))
        sync(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        last = max(rounds(folder), default=0)
        raise CheckpointError(
            f"round {number} cannot be saved in {str(folder)!r}: {error.strerror or error};"
            f" round {last} is the last that is saved; make room and run again with --resume"
        ) from None
    for old in sorted(rounds(folder))[:-KEEP]:
        shutil.rmtree(folder / str(old), ignore_errors=True)


def read(folder: Path, settings: Mapping[str, Scalar]) -> Progress | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Raises:
        CheckpointError: none of those that are there is whole, or they are another config's.
    """
    found = sorted(rounds(folder), reverse=True)
    problems = []
    for number in found:
        try:
            return _read_one(folder / str(number), settings)
        except _DamagedError as error:
            problems.append(f"round {number}: {error}")
    if problems:
        raise CheckpointError(
            f"no checkpoint in {str(folder)!r} can be used ({'; '.join(problems)}); start the run"
            " anew in another folder"
        )
    return None


def decisive(config: Config) -> dict[str, Scalar]:
    """The settings that decide what comes out; a run may go on elsewhere, with other workers."""
    settings = flatten(config)
    for name in ("data.source", "data.public", "devices.trace"):
        settings[name] = absolute(str(settings[name]))
    return {
        key: value
        for key, value in settings.items()
        if key == "run.seed" or not key.startswith(("run.", "backbone.cache"))
    }


def absolute(name: str) -> str:
    """A file's full path, so that it works from anywhere; what is no file stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_file() else name


def outside(settings: Config, store: UserStore) -> dict[str, Scalar]:
    """Digests of what a run reads: the same path may hold other users, items, labels or splits."""
    found: dict[str, Scalar] = {"data (sha256)": store.digest}
    if trace := settings.devices.trace:
        content = Path(trace).expanduser().read_bytes()
        found["devices.trace (sha256)"] = hashlib.sha256(content).hexdigest()
    return found


def rounds(folder: Path) -> list[int]:
    """Rounds of which a checkpoint is there."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


@cache
def versions() -> dict[str, str]:
    """Versions of what decides the last bit of a result."""
    names = ("fedmeta", "torch", "numpy", "flwr")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


class _DamagedError(Exception):
    """Why a checkpoint is not whole."""


def _read_one(folder: Path, settings: Mapping[str, Scalar]) -> Progress:
    try:
        body = json.loads((folder / MANIFEST).read_bytes())
        state = (folder / STATE).read_bytes()
    except (OSError, ValueError) as error:
        raise _DamagedError(f"{MANIFEST} or {STATE} cannot be read ({error})") from None
    if not isinstance(body, dict) or "sha256" not in body:
        raise _DamagedError(f"{MANIFEST} is not a manifest of fedmeta")
    if digest({key: value for key, value in body.items() if key != "sha256"}) != body["sha256"]:
        raise _DamagedError(f"{MANIFEST} was changed: its sha256 does not fit")
    if body.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(folder)!r} has format {body.get('format')}, and this fedmeta reads format"
            f" {FORMAT} alone: go on with a fedmeta of that format, or start the run anew in"
            " another folder"
        )
    if not all(isinstance(body.get(part), dict) for part in ("state", "settings")):
        raise _DamagedError(f"{MANIFEST} is not a manifest of fedmeta")
    if hashlib.sha256(state).hexdigest() != body["state"].get("sha256"):
        raise _DamagedError(f"{STATE} was changed or cut: its sha256 does not fit")
    same(body["settings"], settings, folder)
    try:
        return _progress(load(state), body)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _DamagedError(f"{STATE} and {MANIFEST} do not fit each other ({error})") from None


def same(before: Mapping[str, Scalar], now: Mapping[str, Scalar], folder: Path) -> None:
    """Refuse to go on with other settings.

    Raises:
        CheckpointError: the settings that differ, as they are and as they were.
    """
    changed = [
        f"{key} = {now.get(key)!r} (was {before.get(key)!r})"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise CheckpointError(
            f"{str(folder)!r} was written with other settings: {', '.join(changed)}; resume with"
            " the settings of its config.toml, or start anew in another folder"
        )


def _tensors(progress: Progress) -> dict[str, Tensor]:
    state, (_, _, best) = progress.state, progress.best
    groups = {
        **{f"meta:{name}": value for name, value in state.meta.items()},
        **{f"best:{name}": value for name, value in best.items()},
        **{f"privacy:{name}": value for name, value in state.privacy.items()},
        **{
            f"outer:{at}:{name}": value
            for name, parts in state.outer.items()
            for at, value in enumerate(parts)
        },
    }
    # A tensor of its own for each: safetensors refuses memory that is shared.
    return {name: value.detach().cpu().contiguous().clone() for name, value in groups.items()}


def _progress(tensors: dict[str, Tensor], body: dict[str, Any]) -> Progress:
    meta = {n.removeprefix("meta:"): v for n, v in tensors.items() if n.startswith("meta:")}
    best = {n.removeprefix("best:"): v for n, v in tensors.items() if n.startswith("best:")}
    carried = {n.removeprefix("privacy:"): v for n, v in tensors.items() if n[:8] == "privacy:"}
    outer: dict[str, tuple[Tensor, ...]] = dict.fromkeys(meta, ())
    for key in sorted(n for n in tensors if n.startswith("outer:")):
        name = key.split(":", 2)[2]
        outer[name] = (*outer.get(name, ()), tensors[key])
    history = [RoundDone(*event) for event in body["history"]]
    value, number = body["best"]["value"], body["best"]["round"]
    state = ServerState(body["round"], meta, outer, carried)
    return Progress(state, (value, number, best), history, read_back(body["trust"]))


def digest(body: Mapping[str, Any]) -> str:
    """The sha256 of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
