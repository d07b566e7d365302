"""Runs over a roster: nodes that die, come back, answer late or never, and refuse."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, MessageType

from clients import wire
from experiments.summary import summarize
from fedmeta.config import Config
from fedmeta.facts import Facts, facts_of
from fedmeta.head_file import weights_sha256
from strategies import deployed, roster
from strategies.app import Outcome
from tests.deploy.nodes import NodeGrid, config, divided, simulated, table


def deployed_run(grid: NodeGrid, facts: Facts, folder: Path, given: Config) -> Outcome:
    return deployed.run(grid, given, facts, folder, 5, patience=1)


class Dying(NodeGrid):
    """Somebody's node is gone as soon as users are asked to train."""

    dies = ""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        for message in messages:
            if message.metadata.message_type == MessageType.TRAIN:
                self.gone = {self.node_of(self.dies)}
            yield from super().send_and_receive([message], timeout=timeout)


class StopError(Exception):
    """Somebody ends the run."""


def stopped_in_round_two(grid: NodeGrid, facts: Facts, folder: Path) -> None:
    """A run that is left there."""

    def stop(event: object) -> None:
        if getattr(event, "round", 0) == 2:
            raise StopError

    with pytest.raises(StopError):
        deployed.run(grid, config(), facts, folder, 5, stop, patience=1)


def test_a_dead_node_costs_its_user_alone(tmp_path: Path) -> None:
    """With one of three training users gone the aggregate is that of the others, bit for bit."""
    federation = {"rounds": 2, "users-per-round": 3}
    problem = simulated(tmp_path, federation=federation)
    given, files = config(federation=federation), divided(tmp_path)
    names = sorted(files)
    whole = NodeGrid(tmp_path / "whole", files, given)
    dying = Dying(tmp_path / "dying", files, given)
    dying.dies = names[0]
    runs = [
        deployed_run(grid, facts_of(problem), tmp_path / f"run {at}", given)
        for at, grid in enumerate((dying, whole))
    ]
    assert [event.users for event in runs[0].history] == [2, 2]
    assert [event.failed for event in runs[0].history] == [1, 1]
    # The two others alone, from the beginning.
    every = table()
    two = every[every["user"] != names[0]]
    rest = NodeGrid(tmp_path / "rest", divided(tmp_path / "two", two), given)
    alone = deployed.run(rest, given, facts_of(problem), tmp_path / "alone", 4, patience=1)
    assert weights_sha256(runs[0].last) == weights_sha256(alone.last)
    assert weights_sha256(runs[0].last) != weights_sha256(runs[1].last)


def test_a_node_that_comes_back_under_another_number_is_found(tmp_path: Path) -> None:
    problem, files = simulated(tmp_path), divided(tmp_path)

    class Moving(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            given = list(messages)
            yield from super().send_and_receive(given, timeout=timeout)
            if any(one.metadata.message_type == wire.HELLO for one in given):
                return
            context = self.contexts.pop(min(self.contexts))
            new = max(self.contexts) + 7
            self.contexts[new] = replace(context, node_id=new)

    moving = Moving(tmp_path / "moving", files, config())
    still = NodeGrid(tmp_path / "still", files, config())
    runs = [deployed_run(one, facts_of(problem), tmp_path / str(at), config())
            for at, one in enumerate((moving, still))]  # fmt: skip
    assert weights_sha256(runs[0].last) == weights_sha256(runs[1].last)
    assert [event.users for event in runs[0].history] == [2, 2, 2]


def test_refusals_are_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    problem, given = simulated(tmp_path), config(federation={"users-per-round": 3})
    grid = NodeGrid(tmp_path, divided(tmp_path), given)

    class Changing(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            yield from super().send_and_receive(messages, timeout=timeout)
            self.allow(next(iter(self.folders)), "max-steps = 1")  # after the first questions

    changing = Changing(tmp_path, divided(tmp_path), given)
    outcome = deployed_run(changing, facts_of(problem), tmp_path / "run", given)
    assert [dict(event.refused) for event in outcome.history] == [{"node-policy": 1}] * 3
    assert [event.users for event in outcome.history] == [2, 2, 2]
    assert "node-policy" not in outcome.history[0].why
    assert grid.nodes == 5


def test_a_run_goes_on_under_its_own_roster(tmp_path: Path) -> None:
    problem = simulated(tmp_path)
    whole = NodeGrid(tmp_path / "whole", divided(tmp_path), config())
    once = deployed_run(whole, facts_of(problem), tmp_path / "once", config())

    grid = NodeGrid(tmp_path / "twice", divided(tmp_path), config())
    stopped_in_round_two(grid, facts_of(problem), tmp_path / "run")
    outcome = deployed_run(grid, facts_of(problem), tmp_path / "run", config())
    assert outcome.before >= 1
    assert weights_sha256(outcome.last) == weights_sha256(once.last)
    speed = {"wall_s": 1.0}
    assert summarize(outcome, speed)["weights_sha256"] == weights_sha256(once.last)


def test_a_node_that_answers_late_after_a_resume_is_asked_again(tmp_path: Path) -> None:
    """It had lost the server, and tries again when others have answered already."""
    problem = simulated(tmp_path)
    whole = NodeGrid(tmp_path / "whole", divided(tmp_path), config())
    once = deployed_run(whole, facts_of(problem), tmp_path / "once", config())
    withheld: list[int] = []

    class Late(NodeGrid):
        late = False

        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                node = reply.metadata.src_node_id
                if self.late and reply.metadata.message_type == wire.HELLO and not withheld:
                    withheld.append(node)
                else:
                    yield reply

    grid = Late(tmp_path / "twice", divided(tmp_path), config())
    stopped_in_round_two(grid, facts_of(problem), tmp_path / "run")
    grid.late = True
    outcome = deployed_run(grid, facts_of(problem), tmp_path / "run", config())
    assert withheld
    assert [event.failed for event in outcome.history] == [0, 0, 0]
    assert weights_sha256(outcome.last) == weights_sha256(once.last)


def test_who_never_answers_is_not_asked_for_ever(tmp_path: Path) -> None:
    problem, asked = simulated(tmp_path, federation={"rounds": 5}), list[int]()
    given = config(federation={"rounds": 5})

    class Mute(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            mute = max(self.contexts)
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.metadata.message_type != wire.HELLO:
                    yield reply
                elif reply.metadata.src_node_id == mute:
                    asked.append(mute)
                else:
                    yield reply

    files = divided(tmp_path)
    mute = Mute(tmp_path / "mute", files | {"zoe": files[min(files)]}, given)
    deployed.run(mute, given, facts_of(problem), tmp_path / "run", 6, patience=1)
    assert len(asked) == 1 + roster.TRIES


def test_noise_of_a_server_is_never_the_same(tmp_path: Path) -> None:
    private: dict[str, Any] = {"privacy": {"unit": "user", "noise-multiplier": 0.5}}
    problem = simulated(tmp_path, **private)
    runs = [
        deployed_run(
            NodeGrid(tmp_path / str(at), divided(tmp_path), config(**private)),
            facts_of(problem), tmp_path / f"run {at}", config(**private),
        )
        for at in range(2)
    ]  # fmt: skip
    assert weights_sha256(runs[0].last) != weights_sha256(runs[1].last)
    assert all(bool(value.isfinite().all()) for value in runs[0].last.values())
