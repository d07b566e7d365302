"""The Ray backend: a grid over long-lived Ray actors, each of which plays many users.

Flower's own engine dispatches one node at a time and sends the arrays with every message. Here
the server's parameters go to Ray's object store once a round, an actor that is free takes the
next chunk, and replies stream back as they are made.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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

Actor = Any  # Ray builds an actor's methods at run time, so its handles have no useful type
Ref = Any


class Worker:
    """A Ray actor that runs a ClientApp for whatever users it is sent."""

    def __init__(self, app: ClientApp, threads: int = 1) -> None:
        """Imports torch once; its thread pool has one thread, as the app computes on one."""
        import torch

        torch.set_num_threads(threads)
        self._app = app

    def handle(self, message: Message, arrays: ArrayRecord | None, context: Context) -> Message:
        """The app's reply to a message whose arrays came through the object store."""
        if arrays is not None:
            message.content[META] = arrays
        return reply_to(self._app, message, context)

    def memory_mb(self) -> float:
        """Peak resident memory of the actor's process."""
        return peak_rss_mb()


class RayGrid(LocalGrid):
    """Messages go to whichever actor has the fewest, replies come in the order they are made."""

    def __init__(self, actors: list[Actor], run_config: dict[str, Scalar]) -> None:
        """A grid of as many logical nodes as there are actors."""
        super().__init__(len(actors))
        self._actors = actors
        self._contexts = {
            node: ray.put(context_of(run_config, node, len(actors))) for node in self.get_node_ids()
        }

    def peak_rss_mb(self) -> float:
        """The server's and all actors' peak memory; pages they share count for each."""
        peaks: list[float] = ray.get([actor.memory_mb.remote() for actor in self._actors])
        return super().peak_rss_mb() + sum(peaks)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they are made; never more than two messages per actor are under way.

        Raises:
            TimeoutError: no reply came within ``timeout`` seconds.
        """
        waiting: dict[Ref, tuple[int, Message]] = {}
        load = [0] * len(self._actors)
        shared: dict[int, Ref] = {}
        source = iter(messages)
        more = True
        while more or waiting:
            while more and len(waiting) < IN_FLIGHT * len(self._actors):
                message = next(source, None)
                if message is None:
                    more = False
                    break
                actor = load.index(min(load))
                load[actor] += 1
                waiting[self._send(actor, message, shared)] = (actor, message)
            if not waiting:
                break
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout)
            if not done:
                raise TimeoutError(f"no reply from any Ray actor within {timeout} s")
            actor, message = waiting.pop(done[0])
            load[actor] -= 1
            try:
                reply = ray.get(done[0])
            except ray.exceptions.RayError as error:  # the actor's process died
                first = str(error).strip().splitlines()[0]
                reply = Message(Error(CLIENT_APP_RAISED, f"Ray: {first}"), reply_to=message)
            yield reply

    def _send(self, actor: int, message: Message, shared: dict[int, Ref]) -> Ref:
        arrays = message.content.array_records.get(META)
        if arrays is not None:
            if id(arrays) not in shared:
                shared[id(arrays)] = ray.put(arrays)
            rest = {name: record for name, record in message.content.items() if name != META}
            message.content = RecordDict(rest)
        context = self._contexts[message.metadata.dst_node_id]
        handle = shared[id(arrays)] if arrays is not None else None
        return self._actors[actor].handle.remote(message, handle, context)


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
def pool(app: ClientApp, requested: int, gpus: float = 0.0) -> Iterator[list[Actor]]:
    """Long-lived actors, on a Ray of our own that ends with the block.

    Where Ray is initialized already (a cluster), the actors join it and it is left running.

    Args:
        app: the ClientApp that the actors run.
        requested: number of actors; 0: one per CPU.
        gpus: share of a GPU for each actor.
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
    actors = [remote.remote(app) for _ in range(count)]
    try:
        # Importing torch takes each a while; what follows is then only the run.
        up, late = ray.wait(
            [actor.memory_mb.remote() for actor in actors], num_returns=count, timeout=PATIENCE
        )
        if late:
            resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
            raise TimeoutError(
                f"{len(late)} of {count} Ray actors did not start within {PATIENCE:.0f} s; Ray has"
                f" {resources}, and each needs 1 CPU and {gpus:g} GPU"
            )
        ray.get(up)
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)
        if ours:
            ray.shutdown()
