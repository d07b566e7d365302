"""The Ray backend: a grid over long-lived Ray actors, each of which plays many users.

Flower's own engine dispatches one node at a time and sends the arrays with every message. Here
the server's parameters go to Ray's object store once a round, an actor that is free takes the
next chunk, and replies stream back as they are made.
"""

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.wire import META
from experiments.backends.grid import LocalGrid
from experiments.backends.serve import CLIENT_APP_RAISED, context_of, reply_to
from experiments.memory import peak_rss_mb
from fedmeta.config import ConfigError, Scalar

IN_FLIGHT = 2
"""Messages that an actor holds: one at work and one waiting, so that it is never idle."""


PATIENCE = 120.0
"""Seconds to wait for all actors to start."""

TRIES = 2
"""Times that a message is given to an actor: the second time where the first one died on it."""

Actor = Any  # Ray builds an actor's methods at run time, so its handles have no useful type
Ref = Any


class Pool(NamedTuple):
    """Actors, of which one that dies is replaced by a new one.

    Attributes:
        actors: the living ones.
        start: starts another.
    """

    actors: list[Actor]
    start: Callable[[], Actor]


class Sent(NamedTuple):
    """A message that is under way: to which actor, for the how-manieth time, and its arrays."""

    actor: Actor
    message: Message
    arrays: Ref | None
    tries: int


class Worker:
    """A Ray actor that runs a ClientApp for whatever users it is sent."""

    def __init__(self, app: ClientApp, memory_mb: int = 0) -> None:
        """Imports torch once; its thread pool has one thread, as the app computes on one.

        Args:
            app: what it runs.
            memory_mb: most private memory of the process in MB: what asks for more fails by
                itself, instead of the machine; 0: no limit.
        """
        import torch

        torch.set_num_threads(1)
        self._app = app
        if memory_mb:
            # Private memory only: Ray's shared object store is mapped into every process.
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))

    def handle(self, message: Message, arrays: ArrayRecord | None, context: Context) -> Message:
        """The app's reply to a message whose arrays came through the object store."""
        if arrays is not None:
            message.content[META] = arrays
        return reply_to(self._app, message, context)

    def memory_mb(self) -> float:
        """Peak resident memory of the actor's process."""
        return peak_rss_mb()


class RayGrid(LocalGrid):
    """Messages go to whichever actor has the fewest, replies come in the order they are made.

    An actor that dies costs nobody but itself: another one is started in its place, and the
    messages that it held are given to the others once more.
    """

    def __init__(self, pool: Pool, run_config: dict[str, Scalar]) -> None:
        """A grid of as many logical nodes as there are actors."""
        super().__init__(len(pool.actors))
        self._pool, self.replaced = pool, 0
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
                if isinstance(error, ray.exceptions.RayActorError):
                    self._replace(sent.actor)
                if sent.tries < TRIES:
                    self._send(waiting, sent.message, sent.arrays, sent.tries + 1)
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
        waiting[actor.handle.remote(message, arrays, context)] = Sent(actor, message, arrays, tries)

    def _replace(self, dead: Actor) -> None:
        """Start another actor, once for each that died, however many messages it held."""
        actors = self._pool.actors
        for at, actor in enumerate(actors):
            if actor is dead:
                actors[at] = self._pool.start()
                self.replaced += 1


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


def workers_for(requested: int) -> int:
    """The number of actors: as many as requested, or one per CPU of this process.

    Raises:
        ConfigError: more workers than CPUs.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if requested > cpus:
        raise ConfigError(
            f"run.workers = {requested}: this machine has {cpus} CPUs for it;"
            f" expected at most {cpus}, or 0 for all"
        )
    return requested or cpus


@contextmanager
def pool(app: ClientApp, requested: int, gpus: float = 0.0, memory_mb: int = 0) -> Iterator[Pool]:
    """Long-lived actors, on a Ray of our own that ends with the block.

    Where Ray is initialized already (a cluster), the actors join it and it is left running.

    Args:
        app: the ClientApp that the actors run.
        requested: number of actors; 0: one per CPU.
        gpus: share of a GPU for each actor.
        memory_mb: most private memory of an actor in MB; 0: no limit.

    Raises:
        ConfigError: more actors than CPUs, or than Ray has resources for.
        TimeoutError: Ray did not start them.
    """
    count = workers_for(requested)
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(
            num_cpus=count,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    remote: Any = ray.remote(Worker).options(num_cpus=1, num_gpus=gpus)
    actors: list[Actor] = []
    try:
        _check_resources(count, gpus)
        actors += [remote.remote(app, memory_mb) for _ in range(count)]
        # Importing torch takes each a while; what follows is then only the run.
        up, late = ray.wait(
            [actor.memory_mb.remote() for actor in actors], num_returns=count, timeout=PATIENCE
        )
        if late:
            raise TimeoutError(
                f"{len(late)} of {count} Ray actors did not start within {PATIENCE:.0f} s; is Ray"
                " busy with other work? Try again, or use --backend inline"
            )
        ray.get(up)
        yield Pool(actors, lambda: remote.remote(app, memory_mb))
    finally:
        for actor in actors:
            ray.kill(actor)
        if ours:
            ray.shutdown()


def _check_resources(count: int, gpus: float) -> None:
    """Refuse at once what Ray would wait for without end.

    Raises:
        ConfigError: more actors than Ray has resources for.
    """
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for kind, each in (("CPU", 1.0), ("GPU", gpus)):
        if count * each > there.get(kind, 0.0) + 1e-9:
            raise ConfigError(
                f"run.workers = {count}: each needs {each:g} {kind}, and Ray has"
                f" {there.get(kind, 0.0):g}; set run.workers lower"
            )
