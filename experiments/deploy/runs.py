"""Runs of a deployment: made ready on the server, begun by Flower's command, followed to the end.

Each run has a folder ``runs/NAME``, like that of a simulation. In it the launcher leaves the
config and the facts, and the ServerApp all that it finds out, a checkpoint after each round, and at
the end ``ended.json``: so the launcher may be ended and come back, and so may the SuperLink.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from experiments import artifacts, settings
from experiments.deploy import flower, layout, link, processes, server
from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.layout import Deployment
from fedmeta import facts
from fedmeta.config import Config, ConfigError, Scalar
from fedmeta.facts import Facts
from strategies import checkpoint
from strategies.deployed import settled
from strategies.events import Phase, RoundDone
from strategies.roster import shipped

ENDED, FACTS, SHIPPED = "ended.json", "facts.json", "shipped.toml"
SAID, TABLE, WANTED = "said.txt", "table.txt", "nodes.json"
LOOK = 0.5
ASK = 20.0
"""Seconds without news after which the SuperLink is asked whether a run goes on."""


class Plan(NamedTuple):
    """A run that is ready: its folder, and the file of settings that goes to everybody."""

    folder: Path
    shipped: Path


def plan(deployment: Deployment, config: Config, given: Facts, name: str, nodes: int = 0) -> Plan:
    """Make the folder of a new run.

    Args:
        deployment: whose run it is.
        config: what to run.
        given: the facts of the run.
        name: of the run; empty: one with the time in it.
        nodes: how many it waits for; 0: all that the deployment has.

    Raises:
        ConfigError: what cannot be run; the name is taken.
        DeployError: the disk is full.
    """
    config = settled(config)
    stem = name or config.run.name or time.strftime("%Y%m%d-%H%M%S-") + config.method.name
    if not layout.NAME.fullmatch(stem):
        raise ConfigError(
            f"name of the run {stem!r}: expected 1 to 63 letters, digits, '.', '_' or '-'"
        )
    wanted = deployment.folder / "runs" / stem
    if (wanted / "config.toml").exists():
        raise ConfigError(
            f"there is a run {stem!r} already: go on with it by `fedmeta deploy run"
            f" {deployment.folder} --resume {stem}`, or choose another --name"
        )
    config = config.model_copy(update={"run": config.run.model_copy(update={"name": stem})})
    try:
        folder = artifacts.make_folder(wanted, stem)
        artifacts.write_config(folder, config)
        facts.write(folder / FACTS, given)
        artifacts.write_json(folder / WANTED, {"nodes": nodes or len(deployment.nodes)})
        return Plan(folder, _ship(folder, config))
    except OSError as error:
        shutil.rmtree(wanted, ignore_errors=True)  # of a new run; its name is free again
        raise DeployError(f"{str(wanted)!r} cannot be written: {error.strerror}") from None


def meant(deployment: Path, config: Config) -> Path:
    """The folder that was made for a run with these settings, the newest that has not ended.

    Args:
        deployment: its folder.
        config: as everybody was sent it.

    Raises:
        ConfigError: there is none.
    """
    sent = shipped(config)
    found = [
        path.parent
        for path in (deployment / "runs").glob("*/config.toml")
        if not (path.parent / "summary.json").exists()
        and not (path.parent / ENDED).exists()
        and shipped(settings.read(path)) == sent
    ]
    if not found:
        raise ConfigError(
            f"no run in {str(deployment / 'runs')!r} waits for these settings: begin it with"
            f" `fedmeta deploy run {deployment} CONFIG`"
        )
    return max(found, key=lambda folder: (folder / SHIPPED).stat().st_mtime_ns)


def wanted(folder: Path) -> int:
    """How many nodes a run waits for."""
    return int(json.loads((folder / WANTED).read_text(encoding="utf-8"))["nodes"])


def again(deployment: Deployment, name: str) -> Plan:
    """A run that was left, to go on after its last checkpoint.

    Raises:
        DeployError: there is no such run, it goes on, or it has come to its end.
    """
    folder = deployment.folder / "runs" / name
    if not layout.NAME.fullmatch(name) or not (folder / "config.toml").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/config.toml"))
        raise DeployError(f"no run {name!r} to resume; there are: {', '.join(there) or 'none'}")
    if (folder / "summary.json").exists():
        raise DeployError(f"run {name!r} has come to its end: {str(folder / 'summary.json')!r}")
    for old in (ENDED, SAID):  # what was said of the run as it was left
        (folder / old).unlink(missing_ok=True)
    return Plan(folder, _ship(folder, settings.read(folder / "config.toml")))


def begin(deployment: Deployment, ready: Plan, tell: server.Tell) -> int:
    """Start a run by Flower's command; its number.

    Raises:
        DeployError: no SuperLink runs, or no node is online.
        ProcessError: Flower does not take it.
    """
    server.running(deployment)
    if not any(state.status == "online" for state in link.nodes(deployment)):
        raise DeployError(
            "no node is online: start at least one with `fedmeta deploy node`, and look at its"
            " log; `fedmeta deploy status` shows them"
        )
    app = deployment.folder / "app"
    tell(flower.shown(flower.flwr(*link.begin_arguments(app, ready.shipped)), deployment.home))
    return link.begin(deployment, app, ready.shipped)


def follow(deployment: Deployment, ready: Plan, run: int) -> Iterator[RoundDone | Phase]:
    """What a run says, and its rounds as they end, until it ends.

    Raises:
        ProcessError: it failed, or the SuperLink is gone; what it said, and how to go on.
    """
    told, heard, news = 0, 0, time.monotonic()
    while True:
        over = (ready.folder / ENDED).exists()
        # Fewer than before where it is resumed: rounds after the checkpoint are made once more.
        rounds, said = _rounds(ready.folder), _whole(ready.folder / SAID)
        new = [Phase(line.rstrip()) for line in said[heard:]] + rounds[told:]
        for event in new:
            yield event
            news = time.monotonic()
        told, heard = len(rounds), len(said)
        if over:
            break
        if time.monotonic() - news > ASK:
            _still_there(deployment, ready, run)
            news = time.monotonic()
        time.sleep(LOOK)
    ended = json.loads((ready.folder / ENDED).read_text(encoding="utf-8"))
    if not ended["ok"]:
        raise ProcessError(f"{ended['error']}\n{_remedy(deployment, ready)}")


def summary(ready: Plan) -> dict[str, Any]:
    """The summary of a run that has ended."""
    found: dict[str, Any] = json.loads((ready.folder / "summary.json").read_text(encoding="utf-8"))
    return found


def _ship(folder: Path, config: Config) -> Path:
    path = folder / SHIPPED
    path.write_text(tomli_w.dumps(_nested(shipped(config))), encoding="utf-8")
    return path


def _nested(flat: dict[str, Scalar]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        section, name = key.split(".", 1)
        tables.setdefault(section, {})[name] = value
    return tables


def _rounds(folder: Path) -> list[RoundDone]:
    return [RoundDone(**json.loads(line)) for line in _whole(folder / "rounds.jsonl")]


def _whole(path: Path) -> list[str]:
    """The lines of a file that are written to their end; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def _still_there(deployment: Deployment, ready: Plan, run: int) -> None:
    if processes.find(deployment.folder, server.PART) is None and not processes.listens(
        "127.0.0.1", deployment.control_port
    ):
        raise ProcessError(f"the SuperLink is gone.\n{_remedy(deployment, ready)}")
    state = next((one for one in link.runs(deployment) if one.run == run), None)
    if state is None or state.status.startswith("finished"):
        time.sleep(LOOK)
        if (ready.folder / ENDED).exists():
            return
        said = _last_words(link.output(deployment, run)) if state else "it does not know it"
        status = state.status if state else "unknown"
        raise ProcessError(f"the run is {status}: {said}\n{_remedy(deployment, ready)}")


def _last_words(text: str) -> str:
    """The last lines of a ServerApp's output, without colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    return " / ".join([line for line in lines if line][-3:])


def _remedy(deployment: Deployment, ready: Plan) -> str:
    last = max(checkpoint.rounds(ready.folder / "checkpoints"), default=0)
    return (
        f"Round {last} is saved; go on with `fedmeta deploy run {deployment.folder} --resume"
        f" {ready.folder.name}`"
    )
