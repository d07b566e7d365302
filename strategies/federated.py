"""The Flower strategy: seeded cohorts, chunks of users, one ordered sum, one outer step."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from clients import charging, wire
from fedmeta import generation, loop, robust, tasks
from fedmeta.cohort import Trial
from fedmeta.devices import Turn, fleet_of
from fedmeta.metrics import METRICS
from fedmeta.outer import ServerState, begin
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.release import clip_of
from fedmeta.privacy.rounds import mean_of
from fedmeta.problem import Problem, initial
from strategies import judging
from strategies.checkpoint import Progress
from strategies.errors import ClientError, message_error
from strategies.events import Listener, RoundDone, ignore
from strategies.nodes import nodes_of
from strategies.ordered import OrderedSum
from strategies.robust import Stack, total_of

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
    ) -> None:
        """Starts at the seeded initialization of the problem, or where a run was left.

        Args:
            problem: what is run.
            listener: told about every round.
            resumed: where an earlier run was left.
            save: called after every round that is to be saved.
            chance: where noise and secret cohorts come from; None: the seed of the run.
            ledger: folder of the ledger that releases are charged to; None: none is kept.
        """
        self.problem, self.listener, self._save = problem, listener, save
        self._chance, self._ledger, privacy = chance, ledger, problem.privacy
        # A run that ends when a user fails would tell of his data.
        self._fails = problem.config.run.on_client_error == "fail" and not privacy.guards_users
        if resumed is None:
            state: ServerState = begin(initial(problem), problem.config.server)
            resumed = Progress(state, (-np.inf, 0, state.meta), [])
        self.state, self.best = resumed.state, resumed.best
        self.history: list[RoundDone] = list(resumed.history)
        # Flower counts the rounds of this process; draws and schedules go by those of the run.
        self._before = resumed.state.round
        self._last = RoundDone(0, 0, 0, 0, 0.0, None)
        self._began = 0.0
        self._asked = 0
        self._fleet = fleet_of(problem)
        self._clock = (self.history[-1].clock or 0.0) if self.history else 0.0
        self._turn = Turn(np.empty(0, dtype=np.int64), self._clock, 0, 0, 0)
        self._saved = -QUICK
        self._chunks: list[NDArray[np.int64]] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """One message for each chunk of the round's cohort."""
        settings, population = self.problem.config, self.problem.population
        server_round += self._before
        self._turn = loop.turn_of(
            self.problem, self._fleet, server_round, self._clock, self._chance
        )
        users, clip = self._turn.users, clip_of(self.problem.privacy, self.state.privacy)
        nodes, self._asked = nodes_of(grid), len(users)
        self._began = time.perf_counter()
        self._chunks = tasks.chunks(population, users, settings.federation.chunk)
        if self.problem.method.generator is not None:
            arrays = ArrayRecord()  # what is common stays here; each user is sent what is his
        for number, chunk in enumerate(self._chunks):
            norm = clip.norm if clip else 0.0
            order = wire.Order(server_round, number, chunk.tolist(), clip=norm)
            node = nodes[number % len(nodes)]
            made = generation.issue(self.problem, self.state.meta, chunk)
            record = wire.arrays(made) if made else None
            yield wire.order_message(arrays, order, node, MessageType.TRAIN, made=record)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Add up the replies, divide once, take one step of the outer optimizer.

        Raises:
            ClientError: a client failed and `run.on-client-error` is `fail`, or all did.
        """
        server_round += self._before
        settings, first, again = self.problem.config, "", 0
        ordered = (
            Stack(settings.robust, self._there) if robust.is_on(settings.robust) else OrderedSum()
        )
        for reply in replies:
            if reply.has_error():
                reason = message_error(reply)
            else:
                term = wire.read_sum(reply)
                reason = self._reason(term)
                again += term.again
                ordered.add(self._collected(term))
            first = first or reason
            if reason and self._fails:
                raise ClientError(f"round {server_round}: {reason}")
        if self._fleet is not None and not len(self._turn.users):
            return self._over(server_round, 0, 0)
        failed = self._asked - ordered.users - ordered.spent
        first = first or "no reply in time"
        if failed and self._fails:
            raise ClientError(f"round {server_round}: {failed} users are missing: {first}")
        nobody = not ordered.weight > 0 and not self.problem.privacy.guards_users
        if nobody and (failed or not ordered.spent):
            raise ClientError(f"round {server_round}: every client failed; first: {first}")
        total = total_of(ordered, server_round)
        # A sum of scalars is no longer an array.
        summed = {name: torch.from_numpy(np.asarray(value)) for name, value in total.items()}
        if nobody:  # nobody can pay for the round
            self.state = self.state._replace(round=server_round)
        else:
            mean, carried = mean_of(self.problem, self.state, summed, ordered.weight, self._chance)
            if self._ledger is not None:
                payers = np.concatenate([np.zeros(0, np.int64), *self._chunks])
                fresh = self._chance is not None
                charging.pay(self.problem, mean, payers, server_round, self._ledger, fresh)
            self.state = loop.step(self.problem, self.state, mean)._replace(privacy=carried)
        return self._over(server_round, ordered.users, failed, again, ordered.spent)

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
        return judging.messages(self.problem, arrays, users, [trial], grid, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The measure on validation users; the best round is remembered."""
        server_round += self._before
        scores = judging.collect(replies)
        if not scores:
            self._done(self._last)
            return None
        # In the order of the users, not of arrival: the last bit can decide between two rounds.
        users = self.problem.population.store.users("valid").tolist()
        if missing := [user for user in users if user not in scores]:
            name = self.problem.population.store.ids[missing[0]]
            raise ClientError(
                f"round {server_round}: {len(missing)} of {len(users)} validation users gave no"
                f" scores, {name!r} first"
            )
        value = float(np.mean([scores[user][0, 0] for user in users]))
        sign = METRICS[self.problem.population.store.task].sign
        if sign * value > self.best[0]:
            self.best = (sign * value, server_round, self.state.meta)
        self._done(self._last._replace(valid=value))
        return MetricRecord({"valid": value})

    def summary(self) -> None:
        """Nothing to say: the config is in the run's folder."""

    def _over(
        self, server_round: int, users: int, failed: int, again: int = 0, spent: int = 0
    ) -> tuple[ArrayRecord, MetricRecord]:
        """A round's training is over; the model is kept where no user replied in time."""
        self.state = self.state._replace(round=server_round)
        rounds, turn = self.problem.config.federation.rounds, self._turn
        seconds = time.perf_counter() - self._began
        self._last = RoundDone(
            server_round, rounds, users, failed, seconds, None, again=again, spent=spent
        )
        if self._fleet is not None:
            self._clock = turn.clock
            self._last = self._last._replace(
                clock=turn.clock, selected=turn.selected, dropped=turn.dropped, late=turn.late
            )
        return wire.arrays(self.state.meta), MetricRecord({"users": users})

    def _done(self, event: RoundDone) -> None:
        self.history.append(event)
        if self._save and self._due(event):
            self._save(Progress(self.state, self.best, self.history))
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

    def _collected(self, term: wire.Sum) -> wire.Sum:
        """The sum of a chunk; made here where the users' contributions come one by one."""
        if self.problem.method.generator is None or not term.users:
            return term
        sent = {name: torch.from_numpy(value) for name, value in term.total.items()}
        total = generation.collect(self.problem, self.state.meta, self._there(term), sent)
        return term._replace(total={name: value.numpy() for name, value in total.items()})

    def _there(self, term: wire.Sum) -> NDArray[np.int64]:
        """The users whose contributions are in a reply."""
        chunk = self._chunks[term.chunk]
        there: NDArray[np.int64] = chunk[~np.isin(chunk, term.failed)]
        return there

    def _reason(self, term: wire.Sum) -> str:
        if not term.failed:
            return ""
        return f"user {self.problem.population.store.ids[term.failed[0]]!r}: {term.reason}"
