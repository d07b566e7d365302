"""Long-lived Ray actors, each of which plays many users: how they start, and what they are."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.wire import META
from experiments.backends.serve import reply_to
from experiments.memory import peak_rss_mb
from fedmeta.config import ConfigError
from fedmeta.sections.run import RunConfig

PATIENCE = 120.0
"""Seconds to wait for all actors to start."""

Actor = Any  # Ray builds an actor's methods at run time, so its handles have no useful type


class Pool(NamedTuple):
    """Actors, of which one that dies is replaced by a new one.

    Attributes:
        actors: the living ones.
        start: starts another.
    """

    actors: list[Actor]
    start: Callable[[], Actor]


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
        limit(memory_mb)

    def handle(self, message: Message, arrays: ArrayRecord | None, context: Context) -> Message:
        """The app's reply to a message whose arrays came through the object store."""
        if arrays is not None:
            message.content[META] = arrays
        return reply_to(self._app, message, context)

    def memory_mb(self) -> float:
        """Peak resident memory of the actor's process."""
        return peak_rss_mb()


def limit(memory_mb: int) -> None:
    """Bound the private memory of this process; 0: not at all."""
    if memory_mb:
        # Private memory only: Ray's shared object store is mapped into every process.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


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


def gpus_of(settings: RunConfig) -> float:
    """The share of a GPU that each actor has."""
    return 1.0 / workers_for(settings.workers) if settings.device.startswith("cuda") else 0.0


@contextmanager
def pool(
    app: ClientApp,
    requested: int,
    gpus: float = 0.0,
    memory_mb: int = 0,
    kind: type[Any] = Worker,
) -> Iterator[Pool]:
    """Long-lived actors, on a Ray of our own that ends with the block.

    Where Ray is initialized already (a cluster), the actors join it and it is left running.

    Args:
        app: the ClientApp that the actors run.
        requested: number of actors; 0: one per CPU.
        gpus: share of a GPU for each actor.
        memory_mb: most private memory of an actor in MB; 0: no limit.
        kind: what they are; like :class:`Worker` it is made of the app and a bound on its memory.

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
    # One thread works; another answers questions meanwhile.
    threads = 1 if kind is Worker else 2
    remote: Any = ray.remote(kind).options(num_cpus=1, num_gpus=gpus, max_concurrency=threads)
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
