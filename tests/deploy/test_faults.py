"""Real nodes that are killed, a server that is killed, and where anything connects to."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flwr.app import Context, Message, RecordDict

from clients import ledger
from clients.app import app
from experiments.backends.inline import InlineGrid
from experiments.deploy import link, node, processes, runs, server
from experiments.deploy.errors import ProcessError
from experiments.deploy.layout import Deployment
from experiments.running import simulate
from experiments.summary import summarize
from fedmeta.config import Config, flatten
from fedmeta.problem import build
from strategies import checkpoint
from strategies.app import Outcome, make_app
from tests.deploy import heard, worlds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by way of /proc"),
]

TURNS = range(5 if os.environ.get("FEDMETA_FULL") == "1" else 1)
PRIVATE = (
    *("method.name=reptile", "federation.rounds=1", "run.timeout=300.0"),
    *("privacy.unit=user", "privacy.mechanism=local", "privacy.noise-multiplier=4.0"),
)
"""A run that is charged to those who train."""


class World(NamedTuple):
    """Nodes that are online, what they connect to, and the run of a config."""

    folder: Path
    deployment: Deployment
    config: Config
    far: set[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(heard.HOOK)
    log = folder / "sockets.log"
    log.touch()
    paths = [str(folder / "hook"), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    far: set[str] = set()
    ending = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        patch.setenv("FEDMETA_TEST_SOCKETS", str(log))
        # A method that keeps something of each user on his node.
        sets = ("method.name=fedper", "head.hidden=8", "federation.rounds=3", "run.timeout=300.0")
        with worlds.running(folder, *sets) as (deployment, config):
            watch = threading.Thread(
                target=heard.watch, args=(deployment, far, ending), daemon=True
            )
            watch.start()
            yield World(folder, deployment, config, far)
            ending.set()
            watch.join()


class Dying(InlineGrid):
    """The nodes of some users give no reply from a round on."""

    def __init__(self, config: Config, dead: set[int], after: int) -> None:
        super().__init__(app, flatten(config))
        self._dead, self._after = dead, after

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        for message in messages:
            users = message.content.config_records["order"]["users"]
            assert isinstance(users, list)
            (user,) = users
            late = int(message.metadata.group_id or 0) > self._after
            if not (late and user in self._dead and message.metadata.message_type == "train"):
                yield from super().send_and_receive([message])


def _offline(world: World, dead: tuple[str, ...], after: int, folder: Path) -> str:
    """The weights of survivors, as an engine without a network adds them up."""
    config = _same(world)
    run = config.run.model_copy(update={"on_client_error": "skip", "memory": str(folder)})
    config = config.model_copy(update={"run": run})
    ids = build(config).population.store.ids
    grid = Dying(config, {ids.index(name) for name in dead}, after)
    found: list[Outcome] = []
    make_app(found.append)(grid, Context(1, 0, {}, RecordDict(), flatten(config)))
    return str(summarize(found[0], {})["weights_sha256"])


def _same(world: World) -> Config:
    table = worlds.alone(world.folder)
    data = world.config.data.model_copy(update={"source": str(table)})
    chunk = world.config.federation.model_copy(update={"chunk": 1})
    return world.config.model_copy(update={"data": data, "federation": chunk})


def _kill(deployment: Deployment, *parts: str) -> None:
    """Kill -9 all processes of some parts at once, those that they started too."""
    found = [processes.find(deployment.folder, part) for part in parts]
    started = [one for one in found if one is not None]
    assert len(started) == len(parts)
    for pid in processes.members(started):
        os.kill(pid, signal.SIGKILL)


def _files(folder: Path) -> dict[str, bytes]:
    kept = [*folder.rglob("*.safetensors"), *folder.rglob("*.sqlite")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def _back(world: World, *names: str) -> float:
    """Start killed nodes again; the seconds until the SuperLink has them all online."""
    deployment, began = world.deployment, time.monotonic()

    def said() -> dict[str, int]:
        logs = {name: deployment.node(name) / node.LOG for name in names}
        return {name: path.read_text().count("SuperNode ID") for name, path in logs.items()}

    before = said()
    for name in names:
        here = node.place(deployment, name, world.folder / "users" / f"{name}.csv")
        node.start(deployment, here, worlds.quiet)
    # The SuperLink takes a killed one for online at first, so its log decides.
    worlds.until(lambda: all(count > before[name] for name, count in said().items()), 300)
    node.wait_online(deployment, 300)
    return time.monotonic() - began


@pytest.mark.parametrize("turn", TURNS)
def test_two_of_five_nodes_killed_in_mid_round(world: World, tmp_path: Path, turn: int) -> None:
    deployment = world.deployment
    plan, number = worlds.begun(deployment, world.config, f"killed-{turn}")
    worlds.until(lambda: len(worlds.rounds_of(plan)) >= 1, 600)
    _kill(deployment, "node-ann", "node-ben")
    summary = worlds.ended(deployment, plan, number)
    rounds = worlds.rounds_of(plan)
    assert [one["users"] for one in rounds] == [3, 1, 1]
    print(f"rounds took {[one['seconds'] for one in rounds]} s")
    assert all(one["seconds"] < world.config.run.timeout + 30 for one in rounds)
    assert summary["weights_sha256"] == _offline(world, ("ann", "ben"), 1, tmp_path / "memory")
    all_there = _offline(world, (), 1, tmp_path / "other")
    assert summary["weights_sha256"] != all_there
    print(f"back after {_back(world, 'ann', 'ben'):.0f} s")


@pytest.mark.parametrize("turn", TURNS)
def test_killed_nodes_rejoin_with_what_they_keep(world: World, turn: int) -> None:
    deployment, names = world.deployment, ("ben", "cem")
    plan, number = worlds.begun(deployment, worlds.config_of(*PRIVATE), f"private-{turn}")
    worlds.ended(deployment, plan, number)
    before = {name: _files(deployment.node(name)) for name in names}
    for name in names:
        assert {"privacy.sqlite", "head.safetensors"} <= set(before[name])
        charged = ledger.history(deployment.node(name), name)
        assert sum(charged.values()) == turn + 1
    _kill(deployment, *(f"node-{name}" for name in names))
    print(f"rejoined after {_back(world, *names):.0f} s")
    assert {name: _files(deployment.node(name)) for name in names} == before


def test_a_killed_superlink_costs_at_most_a_round(world: World, tmp_path: Path) -> None:
    deployment = world.deployment
    plan, number = worlds.begun(deployment, world.config, "resumed")
    worlds.until(lambda: len(worlds.rounds_of(plan)) >= 1, 600)
    _kill(deployment, "superlink")
    saved = max(checkpoint.rounds(plan.folder / "checkpoints"))
    assert len(worlds.rounds_of(plan)) - saved <= 1
    with pytest.raises(ProcessError, match="--resume resumed"):
        worlds.ended(deployment, plan, number)
    server.start(deployment, worlds.quiet)
    server.register(deployment, worlds.quiet)
    worlds.until(lambda: worlds.online(deployment) == len(worlds.NODES), 300, 1.0)
    again = runs.again(deployment, "resumed")
    summary = worlds.ended(deployment, again, runs.begin(deployment, again, worlds.quiet))
    assert [one["round"] for one in worlds.rounds_of(again)] == [1, 2, 3]
    whole = simulate(_same(world), tmp_path / "whole").summary
    assert summary["weights_sha256"] == whole["weights_sha256"]
    # Flower takes the heartbeat's patience to see that the first has failed.
    old = worlds.until(
        lambda: next(
            (
                one
                for one in link.runs(deployment)
                if one.run == number and one.status.startswith("finished")
            ),
            None,
        ),
        300,
        5.0,
    )
    assert old.status == "finished:failed"


def test_nothing_connects_to_another_machine(world: World) -> None:
    log = (world.folder / "sockets.log").read_text().splitlines()
    assert len(log) > 20  # it is heard
    strange = [line for line in log if not any(f"'{name}'" in line for name in heard.HERE)]
    strange = [line for line in strange if "None" not in line and "b''" not in line]
    assert not strange, strange[:5]
    assert not world.far
