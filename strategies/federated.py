"""The Flower strategy: seeded cohorts, chunks of users, one ordered sum, one outer step."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from clients import wire
from fedmeta import generation, loop, sent, tasks
from fedmeta.cohort import Trial
from fedmeta.devices import Turn, fleet_of
from fedmeta.metrics import METRICS
from fedmeta.outer import ServerState, begin
from fedmeta.problem import Problem, initial
from strategies import judging
from strategies.checkpoint import Progress
from strategies.errors import ClientError
from strategies.events import Listener, RoundDone, ignore
from strategies.intake import Intake
from strategies.nodes import nodes_of
from strategies.ordered import OrderedSum
from strategies.trust import after, quarantined
from strategies.validation import Asked, Checked, Expected

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
    ) -> None:
        """Starts at the seeded initialization of the problem, or where a run was left.

        Args:
            problem: what is run.
            listener: told about every round.
            resumed: where an earlier run was left.
            save: called after every round that is to be saved.
        """
        self.problem, self.listener, self._save = problem, listener, save
        if resumed is None:
            state: ServerState = begin(initial(problem), problem.config.server)
            resumed = Progress(state, (-np.inf, 0, state.meta), [])
        self.state, self.best, self.trust = resumed.state, resumed.best, resumed.trust
        self.history: list[RoundDone] = list(resumed.history)
        # Flower counts the rounds of this process; draws and schedules go by those of the run.
        self._before = resumed.state.round
        self._last = RoundDone(0, 0, 0, 0, 0.0, None)
        self._began, self._users = 0.0, 0
        self._fleet = fleet_of(problem)
        self._clock = (self.history[-1].clock or 0.0) if self.history else 0.0
        self._turn = Turn(np.empty(0, dtype=np.int64), self._clock, 0, 0, 0)
        self._saved = -QUICK
        self._asked: dict[int, Asked] = {}
        self._apart = problem.method.generator is not None
        self._shapes = sent.remembered(problem)
        self.first = ""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """One message for each chunk of the round's cohort."""
        settings, population = self.problem.config, self.problem.population
        server_round += self._before
        self._turn = loop.turn_of(self.problem, self._fleet, server_round, self._clock)
        users = self._turn.users
        users = users[~np.isin(users, quarantined(self.trust, server_round))]
        nodes, self._users = nodes_of(grid), len(users)
        self._began = time.perf_counter()
        chunks = tasks.chunks(population, users, settings.federation.chunk)
        self._asked = {
            number: Asked(nodes[number % len(nodes)], chunk.tolist())
            for number, chunk in enumerate(chunks)
        }
        if self._apart:
            arrays = ArrayRecord()  # what is common stays here; each user is sent what is his
        return self._messages(server_round, arrays, dict(self._asked))

    def _messages(
        self, server_round: int, arrays: ArrayRecord, asked: dict[int, Asked]
    ) -> Iterator[Message]:
        for number, (node, users) in asked.items():
            order = wire.Order(server_round, number, users)
            made = generation.issue(self.problem, self.state.meta, np.array(users))
            record = wire.arrays(made) if made else None
            yield wire.order_message(arrays, order, node, MessageType.TRAIN, made=record)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Add up the good replies, divide once, take one step of the outer optimizer.

        A round of which too few users are left does not count: the model stays as it is. A bad
        reply is no failure, and costs its users only.

        Raises:
            ClientError: a client failed and `run.on-client-error` is `fail`.
        """
        settings, checks = self.problem.config, self.problem.config.validation
        server_round += self._before
        ordered, failure = OrderedSum(), ""
        fail = settings.run.on_client_error == "fail"
        intake = Intake(
            checks,
            self._asked,
            self._expected(server_round),
            self.trust.norms,
            settings.federation.chunk,
            lambda checked: ordered.add(self._collected(checked)),
        )
        for reply in replies:
            found = intake.take(reply)
            mine = found if isinstance(found, str) else self._reason(found)
            failure = failure or mine
            if mine and fail:
                raise ClientError(f"round {server_round}: {mine}")
        norms = intake.finish()
        total = ordered.finish()
        missing = len(intake.asked) - intake.orphans
        if missing > 0 and fail:
            raise ClientError(
                f"round {server_round}: {missing} messages had no reply in time"
                f" {intake.why and f'({intake.why})'}"
            )
        self.first = self.first or failure or intake.why or "no reply in time"
        counted = ordered.weight > 0 and ordered.users >= checks.quorum * self._users
        if counted:
            # A sum of scalars is no longer an array.
            mean = {n: torch.from_numpy(np.asarray(v / ordered.weight)) for n, v in total.items()}
            self.state = loop.step(self.problem, self.state, mean)
        idle = len(quarantined(self.trust, server_round))
        self.trust = after(self.trust, norms, intake.bad, server_round, checks)
        told = dict(intake.refused), intake.why, idle, counted
        return self._over(server_round, ordered.users, told)

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
        if self._apart:
            arrays = wire.arrays(generation.public(self.problem.method, self.state.meta))
        self._asked = {}
        return judging.messages(
            self.problem, arrays, users, [trial], self._asked, grid, server_round
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The measure on validation users; the best round is remembered."""
        server_round += self._before
        scores, why = judging.collect(self.problem, 1, replies, self._asked, server_round)
        # In the order of the users, not of arrival: the last bit can decide between two rounds.
        users = self.problem.population.store.users("valid").tolist()
        there = [user for user in users if user in scores]
        checks, names = self.problem.config.validation, self.problem.population.store.ids
        if not there or (why and len(there) < checks.quorum * len(users)):
            self._done(self._last._replace(why=self._last.why or why))
            return None
        if len(there) < len(users) and not why:
            first = next(names[user] for user in users if user not in scores)
            raise ClientError(
                f"round {server_round}: {len(users) - len(there)} of {len(users)} validation users"
                f" gave no scores, {first!r} first"
            )
        value = float(np.mean([scores[user][0, 0] for user in there]))
        sign = METRICS[self.problem.population.store.task].sign
        if sign * value > self.best[0]:
            self.best = (sign * value, server_round, self.state.meta)
        self._done(self._last._replace(valid=value, why=self._last.why or why))
        return MetricRecord({"valid": value})

    def summary(self) -> None:
        """Nothing to say: the config is in the run's folder."""

    def _over(
        self, server_round: int, users: int, told: tuple[dict[str, int], str, int, bool]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """A round's training is over, whether it counted or not."""
        self.state = self.state._replace(round=server_round)
        rounds, turn = self.problem.config.federation.rounds, self._turn
        seconds, failed = time.perf_counter() - self._began, self._users - users
        self._last = RoundDone(server_round, rounds, users, failed, seconds, None, *told)
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

    def _expected(self, server_round: int) -> Expected:
        """What honest replies of a round are."""
        meta, weights = self.state.meta, sent.weights(self.problem)
        return Expected(
            str(server_round), lambda: self._shapes(meta, server_round), weights, self._apart
        )

    def _collected(self, checked: Checked) -> wire.Sum:
        """The sum of a chunk; made here where the users' contributions come one by one."""
        term = checked.term
        if not self._apart or not term.users:
            return term
        given = {name: torch.from_numpy(value) for name, value in term.total.items()}
        total = generation.collect(self.problem, self.state.meta, checked.users, given)
        return term._replace(total={name: value.numpy() for name, value in total.items()})

    def _reason(self, checked: Checked | None) -> str:
        """Why users of a reply failed, as it says itself."""
        if checked is None or not checked.term.failed:
            return ""
        name = self.problem.population.store.ids[checked.term.failed[0]]
        return f"user {name!r}: {checked.term.reason}"
