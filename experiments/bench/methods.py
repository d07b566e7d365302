"""``fedmeta bench methods``: user updates per second of every method, relative to ``fedavg``.

All methods get the same users, the same head and the same number of inner steps on the same
support sets; those that part their examples get as many query examples in addition, which is
what their outer gradient costs.

A step costs what an update with five times the steps takes longer, divided by the steps that it
has more: what an update pays once (products of the features, the gradient on the query) is not in
it. It is processor time of one thread, the least of several turns; still, on a busy machine two
methods that do the same differ by half. For methods that do not descend it is zero, give or take.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from experiments.bench.clock import Best, Job, measure
from experiments.bench.workloads import CLASSES, FEATURES, HIDDEN, Work, chunk, model
from fedmeta import cohort
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.methods.method import Method, Setup
from fedmeta.methods.told import told
from fedmeta.params import DOMAIN, KEY
from fedmeta.problem import USUAL_HEAD
from fedmeta.threads import one_thread
from fedmeta.types import Params, Task

REFERENCE = "fedavg"
STEPS, SUPPORT, QUERY, RATE = 10, 32, 32, 0.5
DOMAINS, PUBLIC = 2, 64
USERS, CHUNK = 200, 50
"""Users of a process, in chunks as a round has them."""


def federated(wanted: str = "") -> list[str]:
    """The methods that send something, or those out of a comma-separated list, FedAvg first.

    Raises:
        ConfigError: a method that does not exist or sends nothing.
    """
    able = [name for name, method in METHODS.items() if method.contribute is not None]
    names = [name.strip() for name in wanted.split(",") if name.strip()] or able
    if strange := [name for name in names if name not in able]:
        raise ConfigError(
            f"--methods {','.join(strange)!r}: expected methods out of {', '.join(able)}"
        )
    return list(dict.fromkeys([REFERENCE, *names]))


def rows(
    names: Sequence[str],
    seconds: float = 0.5,
    repeats: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """One row for each method, measured in turns so that all meet the same moods of the machine.

    Args:
        names: methods, FedAvg among them.
        seconds: length of a turn.
        repeats: turns of each method in each arrangement of processes and threads.
        say: told what is being measured.
    """
    about = 2 * repeats * seconds * len(names)
    say(f"{len(names)} methods, {repeats} turns of {seconds} s each: about {about:.0f} s")
    found = measure(jobs, ",".join(names), seconds, repeats)
    for name in names:
        yield row(METHODS[name], found, step_alone(name))


def step_alone(name: str, turns: int = 15) -> float:
    """Processor seconds of one more inner step of one user: what more of them cost more."""
    with one_thread():
        once = work(name)
        long = once._replace(inner=replace(once.inner, steps=5 * STEPS))
        sides = [_job(what, 0, chunks=1) for what in (once, long)]
        users = [side() for side in sides]  # first calls allocate and load
        least = [float("inf"), float("inf")]
        for _ in range(turns):
            for number, side in enumerate(sides):
                began = time.process_time()
                side()
                least[number] = min(least[number], time.process_time() - began)
    return (least[1] - least[0]) / (4 * STEPS * users[0])


def row(method: Method, found: Mapping[str, Best], alone: float) -> dict[str, Any]:
    """The figures of a method; ``alone`` is :func:`step_alone`."""
    best = found[method.name]
    return {
        "method": method.name,
        "family": method.family,
        "users_per_s": best.rate,
        "ratio_to_fedavg": best.rate / found[REFERENCE].rate,
        "update_s_per_inner_step": 1 / (best.rate * STEPS),
        "step_alone_s": alone,
        "dual": is_dual(method),
        "processes_x_threads": "{}x{}".format(*best.arrangement),
    }


def is_dual(method: Method) -> bool:
    """Whether the method runs in the dual form of the first layer here."""
    return cohort.has_dual(method, model(work(method.name)), training=True)


def work(name: str) -> Work:
    """The workload of a method."""
    query = QUERY if METHODS[name].splits else 0
    head = METHODS[name].head or USUAL_HEAD
    return Work(name, name, head, SUPPORT, query, Inner(rate=RATE, steps=STEPS, progress=0.5))


def jobs(names: str, number: int) -> dict[str, Job]:
    """One job for each method, on the users of process ``number``."""
    return {name: _job(work(name), number) for name in names.split(",")}


def start(method: Method, inner: Inner) -> dict[str, torch.Tensor]:
    """What the server of a method starts from, with the bench's head."""
    random = torch.Generator().manual_seed(0)
    head = model(work(method.name)).head.init(random)
    shown = torch.randn(PUBLIC, FEATURES, generator=random) / FEATURES**0.5
    setup = Setup(head, inner, FEATURES, CLASSES, random, DOMAINS, USERS, shown)
    return dict(method.start(setup) if method.start else head)


def _job(what: Work, number: int, chunks: int = 0) -> Job:
    method, net = METHODS[what.method], model(what)
    theta = start(method, what.inner)
    ready = cycle(
        [chunk(what, CHUNK, seed=100 * number + n) for n in range(chunks or USERS // CHUNK)]
    )
    each = torch.arange(CHUNK)
    known = {DOMAIN: each % DOMAINS, KEY: each}
    facts = {name: known[name] for name in told(method, DOMAINS).values()}

    def job() -> float:
        return _update(method, net, theta, next(ready), what.inner, facts)

    return job


def _update(
    method: Method, net: Any, theta: Params, task: Task, inner: Inner, facts: Params
) -> float:
    with torch.no_grad():
        cohort.contribute(method, net, theta, task, inner, memory=facts or None)
    return float(len(task.support.weight))


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people, the fastest first."""
    title = f"user updates per second: {STEPS} steps on {SUPPORT} examples, {HIDDEN} hidden units"
    out = Table(title=title)
    out.add_column("method")
    out.add_column("family")
    for heading in ("users/s", f"of {REFERENCE}", "µs of one more step", "first layer"):
        out.add_column(heading, justify="right")
    for one in sorted(found, key=lambda one: -one["users_per_s"]):
        out.add_row(
            one["method"],
            escape(one["family"]),
            f"{one['users_per_s']:,.0f}",
            f"{one['ratio_to_fedavg']:.2f}x",
            f"{1e6 * one['step_alone_s']:.1f}",
            "dual" if one["dual"] else "plain",
        )
    return out
