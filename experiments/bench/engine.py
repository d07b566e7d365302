"""``fedmeta bench engine``: users per second of the engine and of a plain loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import torch
from rich.console import RenderableType
from rich.table import Table

from experiments.bench import plain
from experiments.bench.clock import Best, Job, measure
from experiments.bench.flops import flops, product
from experiments.bench.workloads import WORKS, Work, chunk, engine, start
from fedmeta.gram import geometry
from fedmeta.types import Examples, Params, Task

CHUNKS = (128, 250, 500)
"""Users in a batched program; the best is taken, and named."""
WITH_GRAM = 250
USERS = 1000
"""Users of a process, visited in turn: so many that their features are in no cache."""
CHECKED = 50


def rows(
    works: Sequence[str] = tuple(WORKS),
    seconds: float = 1.5,
    repeats: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """One row of figures for each workload, as soon as it is measured.

    Args:
        works: names of workloads.
        seconds: length of a turn (see :mod:`experiments.bench.clock`).
        repeats: turns of each job.
        say: told what is being measured.
    """
    for name in works:
        say(f"{name}: engine, loop and matrix products, {repeats} turns of {seconds} s each")
        yield row(WORKS[name], measure(jobs, name, seconds, repeats))


def row(work: Work, found: Mapping[str, Best]) -> dict[str, Any]:
    """The figures of a workload from the rates of its jobs."""
    fastest = max((name for name in found if name.startswith("engine ")), key=lambda n: found[n])
    best, loop = found[fastest], found["loop"]
    return {
        "work": work.name,
        "users_per_s": best.rate,
        "loop_users_per_s": loop.rate,
        "ratio_to_loop": best.rate / loop.rate,
        "ideal_users_per_s": found["product"].rate / flops(work),
        "max_rel_err": max_rel_err(work, CHECKED),
        "users_per_s_with_gram": found["with gram"].rate,
        "chunk": int(fastest.split()[1]),
        "processes_x_threads": "{}x{}".format(*best.arrangement),
        "loop_processes_x_threads": "{}x{}".format(*loop.arrangement),
        "gflops": found["product"].rate / 1e9,
    }


def jobs(name: str, number: int) -> dict[str, Job]:
    """What is measured of a workload, on the users of process ``number``."""
    work = WORKS[name]
    theta, task = start(work), chunk(work, USERS, seed=number)
    batched = {f"engine {size}": _engine(work, theta, task, size, True) for size in CHUNKS}
    return {
        **batched,
        "with gram": _engine(work, theta, task, WITH_GRAM, False),
        "loop": _loop(work, theta, task),
        "product": product(),
    }


def max_rel_err(work: Work, users: int) -> float:
    """Largest error of the engine in float32 against the loop in float64.

    Over all parameters: the largest difference by the largest number of the loop's tensor.
    """
    theta, task = start(work), chunk(work, users, seed=0)
    exact = plain.total(
        work,
        {name: p.double() for name, p in theta.items()},
        plain.users_of(Task(*(side._replace(x=side.x.double()) for side in task))),
    )
    found = engine(work, theta, task, geometry(task)).total
    return max(
        float((found[name] - value).abs().max() / value.abs().max())
        for name, value in exact.items()
    )


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title="users per second")
    for heading in ("", "engine", "loop", "ratio", "GEMM limit", "with Gram", "chunk", "error"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(
            one["work"],
            f"{one['users_per_s']:,.0f}",
            f"{one['loop_users_per_s']:,.0f}",
            f"{one['ratio_to_loop']:.1f}x",
            f"{one['ideal_users_per_s']:,.0f}",
            f"{one['users_per_s_with_gram']:,.0f}",
            f"{one['chunk']}",
            f"{one['max_rel_err']:.0e}",
        )
    return out


def _engine(work: Work, theta: Params, task: Task, size: int, cached: bool) -> Job:
    parts = [_part(task, first, size) for first in range(0, USERS - size + 1, size)]
    ready = cycle([(part, geometry(part) if cached else None) for part in parts])

    def job() -> float:
        engine(work, theta, *next(ready))
        return float(size)

    return job


def _loop(work: Work, theta: Params, task: Task) -> Job:
    users = cycle(plain.users_of(task))
    values = list(theta.values())
    sums = [torch.zeros_like(p) for p in values]

    def job() -> float:
        for into, part in zip(sums, plain.contribution(work, values, next(users)), strict=True):
            into += part
        return 1.0

    return job


def _part(task: Task, first: int, size: int) -> Task:
    users = slice(first, first + size)
    return Task(*(Examples(*(field[users] for field in side)) for side in task))
