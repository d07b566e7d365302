"""``fedmeta bench privacy``: users per second of DP-SGD in the engine and through Opacus."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.bench.clock import Best, Job, measure
from experiments.bench.workloads import CLASSES, FEATURES, Work, chunk, model, start
from fedmeta import seeding
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.privacy import example, streams
from fedmeta.privacy.clipping import SMALL, clipped_sum
from fedmeta.privacy.noisy import Noisy, Side
from fedmeta.types import Examples, Params

W3 = Work("W3", "reptile", "linear", 64, 0, Inner(rate=1.0, steps=10))
"""Ten steps of 16 expected records of 64, on a linear head."""
BATCH, CLIP, MULTIPLIER = 16, 1.0, 1.0
USERS = 500
CHUNKS = (25, 50, 125)
"""Users in a batched program; the best is taken, and named."""
CHECKED = 20
SIZES = (FEATURES * CLASSES, CLASSES)


def rows(
    seconds: float = 1.0, repeats: int = 3, say: Callable[[str], None] = lambda line: None
) -> Iterator[dict[str, Any]]:
    """The figures of the workload; arguments as in :func:`experiments.bench.engine.rows`."""
    say(f"W3: engine and Opacus, {repeats} turns of {seconds} s each")
    yield row(measure(jobs, W3.name, seconds, repeats))


def row(found: Mapping[str, Best]) -> dict[str, Any]:
    """The figures from the rates of the jobs."""
    fastest = max((name for name in found if name.startswith("engine ")), key=lambda n: found[n])
    best, loop = found[fastest], found["opacus"]
    return {
        "work": W3.name,
        "users_per_s": best.rate,
        "opacus_users_per_s": loop.rate,
        "ratio_to_opacus": best.rate / loop.rate,
        "max_rel_err": max_rel_err(CHECKED),
        "chunk": int(fastest.split()[1]),
        "processes_x_threads": "{}x{}".format(*best.arrangement),
        "opacus_processes_x_threads": "{}x{}".format(*loop.arrangement),
    }


def jobs(name: str, number: int) -> dict[str, Job]:
    """What is measured, on the users of process ``number``."""
    theta, examples = start(W3), chunk(W3, USERS, seed=number).support
    keys = np.arange(USERS, dtype=np.uint64) + np.uint64(USERS * number)
    batched = {f"engine {size}": _engine(theta, examples, keys, size) for size in CHUNKS}
    return {**batched, "opacus": _opacus(theta, examples)}


def door(examples: Examples, keys: np.ndarray[Any, np.dtype[np.uint64]]) -> Noisy:
    """Users behind their door: samples and noise are drawn here."""
    there = np.ones(examples.weight.shape, dtype=bool)
    chosen = np.stack(
        [
            example.coins(seeding.key("bench", step), keys, there, BATCH / W3.support)
            for step in range(W3.inner.steps)
        ]
    )
    sides = {"support": Side(examples, chosen, float(BATCH))}
    noise = streams.of_users([("bench", int(key)) for key in keys])
    return Noisy(model(W3), sides, CLIP, MULTIPLIER, noise, clipped_sum)


def engine(
    theta: Params, examples: Examples, keys: np.ndarray[Any, np.dtype[np.uint64]]
) -> dict[str, Tensor]:
    """What a chunk's users send, one each."""
    met = door(examples, keys)
    step = METHODS[W3.method].private
    if step is None:
        raise ValueError(f"method {W3.method!r} has no training under example-level privacy")
    with torch.no_grad():
        return step(met, met.start(theta), met.task(), W3.inner)


def max_rel_err(users: int) -> float:
    """Largest error of the engine in float32 against a loop over records in float64.

    The loop is written out: softmax, an outer product per record, its norm, a sum. Both have the
    same samples and noise. Over all parameters: the largest difference by the largest number.
    """
    theta, examples = start(W3), chunk(W3, users, seed=0).support
    keys = np.arange(users, dtype=np.uint64)
    found, met = engine(theta, examples, keys), door(examples, keys)
    worst = 0.0
    for user, (x, y) in enumerate(zip(examples.x.double(), examples.y.double(), strict=True)):
        path = streams.key("bench", int(keys[user]), "support", sum(SIZES))
        noise = torch.from_numpy(streams.gaussians(path, W3.inner.steps, sum(SIZES))).double()
        first = torch.cat([theta["output.weight"], theta["output.bias"][:, None]], 1).double()
        phi = first.clone()
        for step, taken in enumerate(noise):
            bias, weight = taken.split(SIZES[::-1])
            total = torch.cat([weight.view(CLASSES, FEATURES), bias[:, None]], 1)
            total *= CLIP * MULTIPLIER
            for record in np.flatnonzero(met.sides["support"].chosen[step][user]).tolist():
                one = torch.cat([x[record], torch.ones(1)])
                g = torch.outer(torch.softmax(phi @ one, 0) - y[:, record], one)
                total += g * min(1.0, CLIP / (float(g.norm()) + SMALL))
            phi = phi - W3.inner.rate / BATCH * total
        sent = first - phi
        mine = torch.cat([found["output.weight"][user], found["output.bias"][user][:, None]], 1)
        worst = max(worst, float((mine - sent).abs().max() / sent.abs().max()))
    return worst


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    out = Table(title="users per second under example-level privacy")
    for heading in ("", "engine", "Opacus", "ratio", "chunk", "error"):
        out.add_column(heading, justify="right")
    for one in found:
        out.add_row(
            one["work"],
            f"{one['users_per_s']:,.0f}",
            f"{one['opacus_users_per_s']:,.0f}",
            f"{one['ratio_to_opacus']:.1f}x",
            f"{one['chunk']}",
            f"{one['max_rel_err']:.0e}",
        )
    return out


def _engine(
    theta: Params, examples: Examples, keys: np.ndarray[Any, np.dtype[np.uint64]], size: int
) -> Job:
    parts = cycle(
        [
            (Examples(*(field[at : at + size] for field in examples)), keys[at : at + size])
            for at in range(0, USERS - size + 1, size)
        ]
    )

    def job() -> float:
        engine(theta, *next(parts))
        return float(size)

    return job


def _opacus(theta: Params, examples: Examples) -> Job:
    """One user after the other, with nothing held back: one module, which is wrapped once."""
    users = cycle(list(zip(examples.x, examples.y.argmax(1), strict=True)))
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(FEATURES, CLASSES)
    module = GradSampleModule(layer, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(layer.parameters(), lr=W3.inner.rate / BATCH),
        noise_multiplier=MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=BATCH,
        loss_reduction="sum",
        generator=generator,
    )

    def job() -> float:
        x, y = next(users)
        with torch.no_grad():
            layer.weight.copy_(theta["output.weight"])
            layer.bias.copy_(theta["output.bias"])
        for drawn in torch.rand(W3.inner.steps, len(x), generator=generator) < BATCH / W3.support:
            at = drawn.nonzero()[:, 0]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                torch.autograd.backward(cross_entropy(module(x[at]), y[at], reduction="sum"))
            optimizer.step()
            optimizer.zero_grad()
        return 1.0

    return job
