"""What a training user sends, as the server knows it before he does: names, shapes, weight."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta import loop
from fedmeta.inner import Inner
from fedmeta.learner import Primal, is_aligned
from fedmeta.mapped import mapped
from fedmeta.methods.method import held
from fedmeta.methods.told import told
from fedmeta.params import OWN, SHARE
from fedmeta.problem import Problem
from fedmeta.types import Examples, Params, Task

Shapes = dict[str, tuple[int, ...]]

EXAMPLES = 2
"""Examples of the user that is made up to see what a method sends."""


class Weights(NamedTuple):
    """What the weight of a user may be.

    Attributes:
        least, most: of one user.
        whole: whether it is a whole number.
    """

    least: float
    most: float
    whole: bool


def weights(problem: Problem) -> Weights:
    """The weights that honest users can have under the config, whatever their data are."""
    config, method = problem.config, problem.method
    uniform = config.federation.weighting == "uniform"
    most = 1.0 if uniform else float(config.data.support + config.data.query)
    if not method.weighs:
        return Weights(1.0, most, True)
    low, high = method.shares(config.method) if method.shares else (0.0, 1.0)
    return Weights(low, most * high, False)


def shapes(problem: Problem, meta: Params, round_number: int) -> Shapes:
    """Names and shapes of what a user sends in a round, without his weight.

    They do not depend on data (under ``vmap`` a program cannot), so a made-up user shows them.
    """
    return _shapes(problem, meta, loop.inner_of(problem, round_number))


def size(sent: Shapes) -> int:
    """Bytes of what one user sends: his client sends it in float32.

    >>> size({"weight": (3, 5), "loss": ()})
    64
    """
    return sum(math.prod(shape) for shape in sent.values()) * torch.float32.itemsize


def remembered(problem: Problem) -> Callable[[Params, int], Shapes]:
    """:func:`shapes` of a run, found out once where they are the same in every round.

    They are not where they differ between the first round and after the last.
    """
    found: Shapes = {}
    scheduled = False

    def of(meta: Params, round_number: int) -> Shapes:
        nonlocal found, scheduled
        if not found:
            ends = (1, problem.config.federation.rounds + 1)
            first, after = (shapes(problem, meta, number) for number in ends)
            scheduled, found = first != after, first
        if scheduled:
            found = shapes(problem, meta, round_number)
        return found

    return of


def _shapes(problem: Problem, meta: Params, inner: Inner) -> Shapes:
    inner = replace(inner, steps=1)  # more of them send nothing else
    method, device = problem.method, problem.population.features.device
    if method.contribute is None:
        return {}
    contribute = method.contribute
    none = torch.zeros(1, dtype=torch.int64, device=device)
    names = told(method, len(problem.population.store.domains)).values()
    own: dict[str, Tensor] = dict.fromkeys(names, none)
    if method.generator is not None:
        made = method.generator.issue(meta, none)
        meta, own = {}, own | made
    task = _made_up(problem)
    learner = Primal(problem.model, is_aligned(task.support, inner.batch))

    def one(mine: Task, his: Params) -> dict[str, Tensor]:
        return contribute(learner, held(method, meta, his), mine, inner)

    with torch.no_grad():
        sent: dict[str, Tensor] = mapped(one, problem.model.head, task, own)
    return {n: tuple(v.shape[1:]) for n, v in sent.items() if not n.startswith((OWN, SHARE))}


def _made_up(problem: Problem) -> Task:
    """The task of a user who has the same example a few times over."""
    population = problem.population
    size = (1, population.outputs, EXAMPLES)
    width, single = population.features.shape[1], torch.float32
    x = population.features.new_zeros(1, EXAMPLES, width, dtype=single)
    y = x.new_zeros(size)
    y[:, 0] = 1.0
    weight = x.new_full((1, EXAMPLES), 1.0 / EXAMPLES)
    side = Examples(x, y, weight)
    if problem.method.splits:
        return Task(side, side)
    return Task(side, Examples(x[:, :0], y[..., :0], weight[:, :0]))
