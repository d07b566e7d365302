"""The Ray backend: a grid over long-lived Ray actors, each of which plays many users.

Flower's own engine dispatches one node at a time and sends the arrays with every message. Here
the server's parameters go to Ray's object store once a round, an actor that is free takes the
next chunk, and replies stream back as they are made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import ray
from flwr.app import Error, Message, RecordDict

from clients.wire import META
from experiments.backends.grid import LocalGrid
from experiments.backends.ray_pool import Actor, Pool
from experiments.backends.serve import CLIENT_APP_RAISED, context_of
from fedmeta.config import Scalar

IN_FLIGHT = 2
"""Messages that an actor holds: one at work and one waiting, so that it is never idle."""

TRIES = 2
"""Times that an actor may work on a message: the second time where the first one died on it."""

Ref = Any


class Sent(NamedTuple):
    """A message that is under way.

    Attributes:
        actor: where it is; an actor takes its messages in the order in which they were sent.
        message, arrays: what it is.
        tries: how many actors have died or failed at work on it, and 1.
        number: of the sending; an actor works on a lower number first.
    """

    actor: Actor
    message: Message
    arrays: Ref | None
    tries: int
    number: int


class RayGrid(LocalGrid):
    """Messages go to whichever actor has the fewest, replies come in the order they are made.

    An actor that dies costs nobody but itself: another one is started in its place, and the
    messages that it held are given to the others once more. Only the one that it was at work on
    has lost a try.
    """

    def __init__(self, pool: Pool, run_config: dict[str, Scalar]) -> None:
        """A grid of as many logical nodes as there are actors."""
        super().__init__(len(pool.actors))
        self._pool, self.replaced = pool, 0
        self._sent = 0
        self._at_work: set[int] = set()
        self._contexts = {
            node: ray.put(context_of(run_config, node, self.nodes)) for node in self.get_node_ids()
        }

    def peak_rss_mb(self) -> float:
        """The server's and all actors' peak memory; pages they share count for each."""
        peaks: list[float] = ray.get([actor.memory_mb.remote() for actor in self._pool.actors])
        return super().peak_rss_mb() + sum(peaks)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they are made; never more than two messages per actor are under way.

        Raises:
            TimeoutError: no reply came within ``timeout`` seconds.
        """
        waiting: dict[Ref, Sent] = {}
        shared: dict[int, Ref] = {}
        source = iter(messages)
        more = True
        while more or waiting:
            while more and len(waiting) < IN_FLIGHT * self.nodes:
                message = next(source, None)
                if message is None:
                    more = False
                    break
                self._send(waiting, message, _share(message, shared), 1)
            if not waiting:
                break
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout)
            if not done:
                raise TimeoutError(f"no reply from any Ray actor within {timeout} s")
            sent = waiting.pop(done[0])
            try:
                yield ray.get(done[0])
            except ray.exceptions.RayError as error:
                at_work = True
                if isinstance(error, ray.exceptions.RayActorError):
                    at_work = self._first_lost(sent, waiting)
                    self._replace(sent.actor)
                if sent.tries < TRIES or not at_work:
                    self._send(waiting, sent.message, sent.arrays, sent.tries + at_work)
                    continue
                first = str(error).strip().splitlines()[0]
                reason = f"Ray, {TRIES} times in a row: {first}"
                yield Message(Error(CLIENT_APP_RAISED, reason), reply_to=sent.message)

    def _send(
        self, waiting: dict[Ref, Sent], message: Message, arrays: Ref | None, tries: int
    ) -> None:
        load = Counter(id(sent.actor) for sent in waiting.values())
        actor = min(self._pool.actors, key=lambda one: load[id(one)])
        context = self._contexts[message.metadata.dst_node_id]
        ref = actor.handle.remote(message, arrays, context)
        self._sent += 1
        waiting[ref] = Sent(actor, message, arrays, tries, self._sent)

    def _first_lost(self, sent: Sent, waiting: dict[Ref, Sent]) -> bool:
        """Whether a message is the one that its dead actor was at work on.

        It is the first that has no reply of those that the actor held (or one whose reply was
        still on its way: nobody can tell); that is found out once for each actor, when the first
        of its messages comes back.
        """
        if any(actor is sent.actor for actor in self._pool.actors):
            others = [(ref, one) for ref, one in waiting.items() if one.actor is sent.actor]
            lost = [sent.number, *(other.number for ref, other in others if _lost(ref))]
            self._at_work.add(min(lost))
        return sent.number in self._at_work

    def _replace(self, dead: Actor) -> None:
        """Start another actor, once for each that died, however many messages it held."""
        actors = self._pool.actors
        for at, actor in enumerate(actors):
            if actor is dead:
                actors[at] = self._pool.start()
                self.replaced += 1


def _lost(ref: Ref) -> bool:
    """Whether the actor of a message died before it replied; waits until that is known."""
    try:
        ray.get(ref)
    except ray.exceptions.RayActorError:
        return True
    except ray.exceptions.RayError:
        return False
    return False


def _share(message: Message, shared: dict[int, Ref]) -> Ref | None:
    """Take the server's arrays out of a message; they go to the object store once."""
    arrays = message.content.array_records.get(META)
    if arrays is None:
        return None
    if id(arrays) not in shared:
        shared[id(arrays)] = ray.put(arrays)
    rest = {name: record for name, record in message.content.items() if name != META}
    message.content = RecordDict(rest)
    return shared[id(arrays)]
