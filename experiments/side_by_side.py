"""Several runs at a time: one whole run to a worker, since a comparison has more runs than CPUs.

Within a run server and clients wait for each other, and each message is copied. Side by side a run
is one process, its clients are called inline, and nobody waits. Results are the same to the bit,
because a backend never changes them. A worker that dies costs nothing but time: its run goes on
from its last checkpoint on another one.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from clients.app import app as client_app
from experiments.backends import open_backend
from experiments.found import Run
from experiments.jobs import EXPECTED, Job
from experiments.running import run_on
from fedmeta.methods import METHODS
from fedmeta.problem import build
from fedmeta.sections.run import RunConfig
from strategies.errors import ClientError
from strategies.events import Listener

TRIES = 2
"""Workers on which a run may die."""

POLL = 0.5
"""Seconds between looks at the progress."""


class Ended(NamedTuple):
    """A run that is over: what it found, or why there is nothing."""

    number: int
    run: Run | None
    error: Exception | None


def ended(
    settings: RunConfig,
    jobs: Sequence[Job],
    listeners: Callable[[str], Listener],
    began: float,
    backbone_s: float,
) -> Iterator[Ended]:
    """Run the jobs, and yield each as it ends.

    On Ray with several workers each of them has a whole run; otherwise one follows the other on
    all workers. When the caller stops listening, runs under way are ended; each goes on from its
    folder's last checkpoint.

    Args:
        settings: where to run; the same for all jobs.
        jobs: what to run. Side by side those that take long are begun first.
        listeners: gives a listener for the run of a label.
        began: when the command did, by ``time.perf_counter``.
        backbone_s: seconds that features took, which with those of the workers' start are noted
            with the first run.

    Raises:
        ConfigError: more workers than there are CPUs, or than Ray has resources for.
    """
    if settings.backend == "ray" and len(jobs) > 1:
        from experiments.backends.ray_pool import workers_for

        if workers_for(settings.workers) > 1:
            yield from _side_by_side(settings, jobs, listeners, began, backbone_s)
            return
    if not jobs:
        return
    with open_backend(settings, client_app) as make_grid:
        first = _paid(began, backbone_s)
        for number, job in enumerate(jobs):
            tell = listeners(job.label)
            try:
                run = run_on(make_grid, job.config, job.folder, tell, first, job.resume)
            except EXPECTED as error:
                yield Ended(number, None, error)
                continue
            first = dict.fromkeys(first, 0.0)  # paid once, by the first run
            yield Ended(number, run, None)


def _paid(began: float, backbone_s: float) -> dict[str, float]:
    return {"backbone_s": backbone_s, "startup_s": time.perf_counter() - began - backbone_s}


def _dear(job: Job) -> bool:
    """Whether the run has no dual form of one small layer, which makes most runs cheap."""
    method = METHODS[job.config.method.name]
    return method.plain or method.plain_training or method.head is not None


class _Under(NamedTuple):
    """A run that is under way: its number and job, the worker, and how many died of it, and 1."""

    number: int
    job: Job
    actor: Any
    tries: int


def _side_by_side(
    settings: RunConfig,
    jobs: Sequence[Job],
    listeners: Callable[[str], Listener],
    began: float,
    backbone_s: float,
) -> Iterator[Ended]:
    import ray

    from experiments.backends.ray_pool import gpus_of, pool
    from experiments.ray_runner import Runner

    tell = [listeners(job.label) for job in jobs]
    # The dear ones first, so that none of them is left to one worker at the end.
    waiting = deque(sorted(enumerate(jobs), key=lambda one: not _dear(one[1])))
    gpus = gpus_of(settings)
    with pool(client_app, settings.workers, gpus, settings.memory_limit, Runner) as workers:
        first = _paid(began, backbone_s)
        idle, under = list(workers.actors), {}

        def begin(number: int, job: Job, actor: Any, tries: int = 1) -> None:
            nonlocal first
            under[actor.make.remote(job, first)] = _Under(number, job, actor, tries)
            first = dict.fromkeys(first, 0.0)

        while waiting or under:
            while waiting and idle:
                begin(*waiting.popleft(), idle.pop())
            over, _ = ray.wait(list(under), num_returns=1, timeout=POLL)
            for one in under.values():
                _listen(one.actor, tell[one.number])
            for ref in over:
                one = under.pop(ref)
                try:
                    found = ray.get(ref)
                except ray.exceptions.RayActorError as error:
                    workers.actors.remove(one.actor)
                    workers.actors.append(workers.start())
                    if one.tries < TRIES:
                        again = one.job._replace(resume=True)
                        begin(one.number, again, workers.actors[-1], one.tries + 1)
                        continue
                    idle.append(workers.actors[-1])
                    reason = str(error).strip().splitlines()[0]
                    yield Ended(one.number, None, ClientError(f"{TRIES} workers died: {reason}"))
                    continue
                idle.append(one.actor)
                yield _whole(one, found)


def _listen(actor: Any, tell: Listener) -> None:
    """Pass on what a worker has to tell; of one that has died its run will tell."""
    import ray

    try:
        for event in ray.get(actor.events.remote()):
            tell(event)
    except ray.exceptions.RayActorError:
        return


def _whole(one: _Under, found: Run | Exception) -> Ended:
    if isinstance(found, Exception):
        return Ended(one.number, None, found)
    outcome = found.outcome._replace(problem=build(one.job.config))
    return Ended(one.number, found._replace(outcome=outcome), None)
