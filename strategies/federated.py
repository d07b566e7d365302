"""The Flower strategy: seeded cohorts, chunks of users, one ordered sum, one outer step."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from clients import charging, wire
from fedmeta import generation, loop, robust, sent, tasks
from fedmeta.cohort import Trial
from fedmeta.devices import Turn, fleet_of
from fedmeta.metrics import METRICS
from fedmeta.outer import ServerState, begin
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.rounds import mean_of
from fedmeta.problem import Problem, initial
from strategies import judging
from strategies.checkpoint import Progress
from strategies.contributions import collected, expected, orders, reason_of
from strategies.errors import ClientError
from strategies.events import Listener, RoundDone, ignore
from strategies.intake import Intake
from strategies.nodes import SIMULATED, Reach
from strategies.norms import limits
from strategies.ordered import OrderedSum
from strategies.robust import Rows, Stack, total_of
from strategies.trust import after, quarantined
from strategies.validation import Asked, Checked

QUICK = 1.0
"""Seconds within which a checkpoint is not written anew: writing takes about 10 ms."""


class Federated(Strategy):
    """Federated meta-learning of a method's initialization.

    Messages and replies are streamed where the grid streams them, so that memory does not grow
    with the users of a round. The best round by validation users is kept, ties to the earlier.
    """

    def __init__(
        self,
        problem: Problem,
        listener: Listener = ignore,
        resumed: Progress | None = None,
        save: Callable[[Progress], None] | None = None,
        chance: Chance | None = None,
        ledger: Path | None = None,
        reach: Reach = SIMULATED,
    ) -> None:
        """Starts at the seeded initialization of the problem, or where a run was left.

        Args:
            problem: what is run.
            listener: told about every round.
            resumed: where an earlier run was left.
            save: called after every round that is to be saved.
            chance, reach: as :func:`strategies.app.run` has them.
            ledger: folder of the ledger that releases are charged to; None: none is kept.
        """
        self.problem, self.listener, self._save, self._reach = problem, listener, save, reach
        self._chance, self._ledger, privacy = chance, ledger, problem.privacy
        # A run that ends when a user fails would tell of his data.
        self._fails = problem.config.run.on_client_error == "fail" and not privacy.guards_users
        if resumed is None:
            state: ServerState = begin(initial(problem), problem.config.server)
            resumed = Progress(state, (-np.inf, 0, state.meta), [])
        self.state, self.best, self.trust = resumed.state, resumed.best, resumed.trust
        self.history: list[RoundDone] = list(resumed.history)
        # Flower counts the rounds of this process; draws and schedules go by those of the run.
        self._before = resumed.state.round
        self._last = RoundDone(0, 0, 0, 0, 0.0, None)
        self._began, self._users, self._saved, self.first = 0.0, 0, -QUICK, ""
        self._fleet = fleet_of(problem)
        self._clock = (self.history[-1].clock or 0.0) if self.history else 0.0
        self._turn = Turn(np.empty(0, dtype=np.int64), self._clock, 0, 0, 0)
        self._asked: dict[int, Asked] = {}
        self._shapes = sent.remembered(problem)
        self._size = generation.size(problem, self.state.meta)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """One message for each chunk of the round's cohort."""
        population, size = self.problem.population, self.problem.config.federation.chunk
        server_round += self._before
        at = self._fleet, server_round, self._clock, self._chance
        self._turn = loop.turn_of(self.problem, *at)
        idle, users = quarantined(self.trust, server_round), self._turn.users
        users = users[~np.isin(users, idle)]
        node_of, self._users, self._began = self._reach.route(grid), len(users), time.perf_counter()
        self._asked = {
            number: Asked(node, chunk.tolist())
            for number, chunk in enumerate(tasks.chunks(population, users, size))
            if (node := node_of(number, chunk)) is not None
        }
        told = dict(self._asked), server_round, self._reach.told
        return orders(self.problem, self.state, arrays, *told)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Add up the good replies, divide once, take one step of the outer optimizer.

        A round of which too few users are left does not count: the model stays as it is. A bad
        reply is no failure, and costs its users only.

        Raises:
            ClientError: a client failed and `run.on-client-error` is `fail`.
        """
        server_round += self._before
        rule, checks = self.problem.config.robust, self.problem.config.validation
        there: dict[int, NDArray[np.int64]] = {}
        ordered = (
            Stack(rule, lambda term: there[term.chunk]) if robust.is_on(rule) else OrderedSum()
        )

        def add(checked: Checked) -> None:
            there[checked.term.chunk] = checked.users
            ordered.add(collected(self.problem, self.state.meta, checked))

        failure, again = "", 0
        payers = np.array([u for one in self._asked.values() for u in one.users], np.int64)
        honest = expected(self.problem, self.state, self._shapes, server_round)
        intake = Intake(
            limits(checks, self.problem.privacy),
            self._asked,
            honest,
            self.trust,
            self.problem.config.federation.chunk,
            add,
        )
        for reply in replies:
            found = intake.take(reply)
            again += found.term.again if isinstance(found, Checked) else 0
            mine = found if isinstance(found, str) else reason_of(self.problem, found)
            failure = failure or mine
            if mine and self._fails:
                raise ClientError(f"round {server_round}: {mine}")
        norms = intake.finish()
        missing = len(intake.asked) - intake.orphans
        if missing > 0 and self._fails:
            raise ClientError(
                f"round {server_round}: {missing} messages had no reply in time"
                f" {intake.why and f'({intake.why})'}"
            )
        self.first = self.first or failure or intake.why or "no reply in time"
        try:
            total = total_of(ordered, server_round)
        except ClientError:
            if not intake.refused:
                raise
            total = {}  # a bad reply never ends a run
        # A mechanism that protects users releases every round, whoever came.
        counted = self.problem.privacy.guards_users or (
            bool(total) and ordered.users >= checks.quorum * (self._users - ordered.spent)
        )
        up = sent.size(honest.shapes()) * ordered.users if ordered.users else 0
        if counted:
            self._step(total, ordered.weight, payers, server_round)
        told: dict[str, Any] = {"counted": counted, "again": again, "spent": ordered.spent}
        told |= {"refused": dict(intake.refused), "why": intake.why}
        told |= {"quarantined": len(quarantined(self.trust, server_round))}
        self.trust = after(self.trust, norms, intake.bad, server_round, checks)
        down = self._size * (self._users + self._turn.dropped + self._turn.late)
        told |= {"bytes_down": down, "bytes_up": up}
        return self._over(server_round, ordered.users, told)

    def _step(
        self, total: Rows, weight: float, payers: NDArray[np.int64], server_round: int
    ) -> None:
        """One step of the outer optimizer with what users have sent."""
        # A sum of scalars is no longer an array.
        summed = {name: torch.from_numpy(np.asarray(value)) for name, value in total.items()}
        mean, carried = mean_of(self.problem, self.state, summed, weight, self._chance)
        if self._ledger is not None:
            fresh, to = self._chance is not None, self._ledger
            charging.pay(self.problem, mean, payers, server_round, to, fresh, carried)
        self.state = loop.step(self.problem, self.state, mean)._replace(privacy=carried)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages for the validation users, in every E-th round and the last."""
        settings = self.problem.config
        server_round += self._before
        last = server_round == settings.federation.rounds
        if server_round % settings.evaluation.every and not last:
            return []
        users = self.problem.population.store.users("valid")
        trial = Trial(self.problem.adapt, settings.data.support)
        if self.problem.method.generator is not None:
            arrays = wire.arrays(generation.public(self.problem.method, self.state.meta))
        self._asked = {}
        at = grid, server_round, self._reach
        return judging.messages(self.problem, arrays, users, [trial], self._asked, *at)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The measure on validation users; the best round is remembered."""
        server_round += self._before
        at = server_round, self._reach.real
        judged = judging.collect(self.problem, 1, replies, self._asked, *at)
        value = judging.measure(self.problem, judged, *at)
        sign = METRICS[self.problem.population.store.task].sign
        if value is not None and sign * value > self.best[0]:
            self.best = (sign * value, server_round, self.state.meta)
        self._last = self._last._replace(valid=value, why=self._last.why or judged.why)
        self._done(self._last._replace(valid_worst=judging.worst(self.problem, judged, value)))
        return None if value is None else MetricRecord({"valid": value})

    def summary(self) -> None:
        """Nothing to say: the config is in the run's folder."""

    def _over(self, at: int, users: int, told: dict[str, Any]) -> tuple[ArrayRecord, MetricRecord]:
        """A round's training is over, whether it counted or not; ``told``: fields of its event."""
        self.state = self.state._replace(round=at)
        turn, rounds = self._turn, self.problem.config.federation.rounds
        seconds, failed = time.perf_counter() - self._began, self._users - users - told["spent"]
        self._last = RoundDone(at, rounds, users, failed, seconds, None, **told)
        if self._fleet is not None:
            self._clock = turn.clock
            self._last = self._last._replace(
                clock=turn.clock, selected=turn.selected, dropped=turn.dropped, late=turn.late
            )
        return wire.arrays(self.state.meta), MetricRecord({"users": users})

    def _done(self, event: RoundDone) -> None:
        self.history.append(event)
        if self._save and self._due(event):
            self._save(Progress(self.state, self.best, self.history, self.trust))
            self._saved = time.perf_counter()
        self.listener(event)

    def _due(self, event: RoundDone) -> bool:
        """Whether the state is to be saved after a round."""
        every = self.problem.config.run.checkpoint_every
        # What users own is kept for a few rounds only, so no round may be left out for them.
        if not every or event.round == event.rounds or self.problem.method.own is not None:
            return bool(every)
        # For others, rounds that are quickly made are quickly made again.
        return event.round % every == 0 and time.perf_counter() - self._saved >= QUICK
