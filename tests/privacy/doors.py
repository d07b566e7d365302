"""Users behind their door, and the same training written out for one of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.privacy import example, streams
from fedmeta.privacy.clipping import Clipped, clipped_sum
from fedmeta.privacy.noisy import Noisy, Side, Source
from fedmeta.privacy.terms import Terms, terms
from fedmeta.problem import Problem, initial
from fedmeta.types import Examples, Params
from tests.engine.cases import problem

NAMES = ("reptile", "fedprox", "fomaml", "anil")
CLIP, Z = 0.8, 0.7


def private(name: str = "reptile", head: str = "linear", **values: Any) -> Problem:
    """A small problem under example-level privacy."""
    given = {
        "privacy__unit": "example",
        "privacy__noise_multiplier": Z,
        "privacy__clip": CLIP,
        "privacy__expected_batch": 2,
        "privacy__delta": 1e-3,
        "method__steps": 3,
        "federation__weighting": "uniform",
    }
    return problem(method__name=name, head__name=head, **{**given, **values})


def start(run: Problem) -> dict[str, Tensor]:
    """Parameters to start from in float64, none of them zero."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: value.double() + 0.3 * torch.randn(value.shape, generator=generator).double()
        for name, value in initial(run).items()
    }


def users(run: Problem, count: int = 5) -> NDArray[np.int64]:
    return run.population.store.users("train")[:count]


def given_terms(run: Problem) -> Terms:
    return terms(run.config, run.method)


def noise_of(door: Noisy, user: int, shapes: Params) -> Callable[[str, int, str], Tensor]:
    """A user's noise by side, step and name: names in their order, one behind the other."""

    def noise(side: str, step: int, name: str) -> Tensor:
        row = door._noise(Source(side, step), sum(v.numel() for v in shapes.values()))[user]
        before = sum(value.numel() for other, value in shapes.items() if other < name)
        part = row[before : before + shapes[name].numel()]
        return part.view(shapes[name].shape).double()

    return noise


def written_out(run: Problem, theta: Params, door: Noisy, user: int) -> dict[str, Tensor]:
    """What a user sends, one record after the other with `torch.autograd`: the oracle."""
    found = given_terms(run)
    rate, mu, momentum = run.train.rate, run.train.mu, run.train.momentum
    phi = {name: value.clone() for name, value in theta.items()}
    velocity = {name: torch.zeros_like(value) for name, value in theta.items()}

    def noised(side: str, step: int, divisor: float) -> dict[str, Tensor]:
        output = run.method.name == "anil" and side == "support"
        wanted = [name for name in theta if not output or name.startswith("output.")]
        noise = noise_of(door, user, {name: theta[name] for name in wanted})
        total = {name: torch.zeros_like(theta[name]) for name in wanted}
        examples = door.sides[side].examples
        for record in np.flatnonzero(door.sides[side].chosen[step][user]).tolist():
            free = {name: phi[name].clone().requires_grad_() for name in wanted}
            with torch.enable_grad():
                logits = run.model.head.logits(
                    {**phi, **free}, examples.x[user, record : record + 1]
                )
                loss = run.model.loss.value(
                    logits, examples.y[user][:, record : record + 1], torch.ones(1).double()
                )
                g = torch.autograd.grad(loss, list(free.values()))
            norm = torch.cat([value.flatten() for value in g]).norm()
            factor = min(1.0, found.clip / (float(norm) + 1e-6))
            for name, value in zip(free, g, strict=True):
                total[name] += factor * value
        return {
            name: (value + found.multiplier * found.clip * noise(side, step, name)) / divisor
            for name, value in total.items()
        }

    for step in range(found.steps):
        g = noised("support", step, found.divisor)
        for name, value in g.items():
            velocity[name] = momentum * velocity[name] + value + mu * (phi[name] - theta[name])
            phi[name] = phi[name] - rate * velocity[name]
    if found.query_divisor is not None:
        return noised("query", 0, found.query_divisor)
    return {name: theta[name] - value for name, value in phi.items()}


def made_door(
    examples: Examples,
    head: str,
    steps: int,
    chosen: NDArray[np.bool_] | None = None,
    clip: float = CLIP,
    multiplier: float = Z,
    divisor: float = 3.0,
    way: Clipped = clipped_sum,
    kind: str = "classification",
    seed: int = 0,
) -> Noisy:
    """A door to examples of one's own making; all of them are in every step by default."""
    there = (examples.weight > 0).numpy()
    drawn = np.broadcast_to(there, (steps, *there.shape)) if chosen is None else chosen
    made = HEADS[head](examples.x.shape[-1], examples.y.shape[1], hidden=5)
    sides = {name: Side(examples, drawn, divisor) for name in ("support", "query")}
    paths = [(seed, user) for user in range(len(there))]
    noise = streams.of_users(paths)
    return Noisy(Model(made, LOSSES[kind]), sides, clip, multiplier, noise, way)


def sent(door: Noisy, name: str, theta: Params, inner: Inner) -> dict[str, Tensor]:
    """What a method sends through a door."""
    step = METHODS[name].private
    assert step is not None
    with torch.no_grad():
        return step(door, door.start(theta), door.task(), inner)


def met(run: Problem, theta: Params, round_number: int = 1, count: int = 5) -> Noisy:
    return example.meet(run, theta, users(run, count), round_number)
