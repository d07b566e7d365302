"""The folder of a run: what is written, when, and in which form (see docs/artefacts.md)."""

import fcntl
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from safetensors.torch import save_file

from experiments.plain import plain
from fedmeta.config import Config, ConfigError
from fedmeta.data.store import UserStore
from fedmeta.types import Params
from strategies.app import Outcome
from strategies.checkpoint import CheckpointError, absolute, outside, same
from strategies.events import RoundDone

READ = "data.json"
"""Digests of what the runs of a folder with several of them read."""


def make_folder(out: Path | str, name: str) -> Path:
    """A new, empty folder for a run.

    Args:
        out: where; empty: ``runs/<time>-<name>``.
        name: for the default.

    Raises:
        ConfigError: the folder is in use, or cannot be made.
    """
    folder = Path(out).expanduser() if str(out) else _default(name)
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").touch(exist_ok=False)  # of two runs only one gets the folder
    except OSError as error:
        raise ConfigError(
            f"output folder {str(folder)!r} cannot be used: {error.strerror or error}"
        ) from None
    return folder


def reopen(folder: Path) -> Path:
    """The folder of a run that was left.

    Raises:
        ConfigError: there is no run in it.
    """
    folder = folder.expanduser()
    if not (folder / "config.toml").is_file():
        raise ConfigError(
            f"--resume {str(folder)!r}: no config.toml there; expected the folder of a run"
        )
    return folder


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep the folder to this process; the system lets go of it however the process ends.

    Raises:
        ConfigError: another process has it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"folder {str(folder)!r} is in use by another run; wait for it, or name another"
                " with --out"
            ) from None
        yield


def check_folder(out: Path | str) -> None:
    """Refuse a folder that is in use; asked before anything costs time. Makes nothing.

    Raises:
        ConfigError: the folder holds something, or is none.
    """
    folder = Path(out).expanduser()
    if not str(out) or not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"output folder {str(folder)!r} is a file; name another with --out")
    if any(folder.iterdir()):
        raise ConfigError(f"output folder {str(folder)!r} is not empty; name another with --out")


def _default(name: str) -> Path:
    """``runs/<time>-<name>``, with a number where runs begin in the same second."""
    stem = time.strftime("%Y%m%d-%H%M%S-") + re.sub(r"[^\w.-]+", "-", name)
    tails = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(path for tail in tails if not (path := Path("runs") / f"{stem}{tail}").exists())


def write_config(folder: Path, config: Config) -> None:
    """``config.toml``, fully resolved: running it again is running the same."""
    tables = config.model_dump(by_alias=True)
    for key in ("source", "public"):
        tables["data"][key] = absolute(tables["data"][key])
    tables["devices"]["trace"] = absolute(config.devices.trace)
    tables["run"]["out"] = ""  # this folder is taken: a repetition needs one of its own
    text = tomli_w.dumps(tables)
    (folder / "config.toml").write_text(text, encoding="utf-8")


def rewrite_rounds(folder: Path, history: Sequence[RoundDone]) -> None:
    """``rounds.jsonl`` as it was at a checkpoint: rounds after it are run again."""
    beside = folder / ".rounds.part"
    beside.write_text("".join(map(_line, history)), encoding="utf-8")
    beside.replace(folder / "rounds.jsonl")


def append_round(folder: Path, event: RoundDone) -> None:
    """One line of ``rounds.jsonl``, as soon as the round is over.

    Raises:
        CheckpointError: the disk is full or read-only.
    """
    try:
        with (folder / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(_line(event))
    except OSError as error:
        raise CheckpointError(
            f"round {event.round} cannot be noted in {str(folder / 'rounds.jsonl')!r}:"
            f" {error.strerror or error}; make room and go on with --resume"
        ) from None


def _line(event: RoundDone) -> str:
    fields = event._asdict()
    if event.clock is None:  # no devices are simulated
        for name in ("clock", "selected", "dropped", "late"):
            del fields[name]
    return json.dumps(plain(fields)) + "\n"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file that people can read; NaN and infinity become null."""
    path.write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")


def write_model(folder: Path, meta: Params) -> None:
    """``model.safetensors``: the meta-initialization of the best round."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in meta.items()}
    save_file(tensors, str(folder / "model.safetensors"))


def users_table(outcome: Outcome) -> pa.Table:
    """One row per user, split and K, with the method and the seed."""
    problem = outcome.problem
    config, store = problem.config, problem.population.store
    from fedmeta.metrics import METRICS

    columns = (*METRICS[store.task].columns, *problem.method.reports)
    parts = []
    for split, users in outcome.users.items():
        ids = [store.ids[user] for user in users.tolist()]
        bayes = None if store.bayes is None else store.bayes[users]
        for at, k in enumerate(outcome.shots):
            values = {name: outcome.scores[split][at, c] for c, name in enumerate(columns)}
            parts.append(
                pa.table(
                    {
                        "user": ids,
                        "split": [split] * len(ids),
                        "method": [config.method.name] * len(ids),
                        "seed": [config.run.seed] * len(ids),
                        "k": [k] * len(ids),
                        **values,
                        "bayes": pa.nulls(len(ids), pa.float64()) if bayes is None else bayes,
                    }
                )
            )
    return pa.concat_tables(parts)


def pin(folder: Path, config: Config, store: UserStore, resumed: bool) -> None:
    """Keep digests of what the runs of a folder read, or refuse to go on with other data.

    Raises:
        CheckpointError: what differs from when the folder was begun.
    """
    now, before = outside(config, store), {}
    if not resumed:
        return write_json(folder / READ, now)
    with suppress(OSError, ValueError):  # without it nobody knows what was read
        before = json.loads((folder / READ).read_text(encoding="utf-8"))
    same(before if isinstance(before, dict) else {}, now, folder)


def write_users(folder: Path, table: pa.Table) -> None:
    """``users.parquet``."""
    pq.write_table(table, folder / "users.parquet")
