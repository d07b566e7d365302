"""Random ragged tasks, random parameters and small problems for the tests of the engine."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.config import parse
from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS, Method
from fedmeta.methods.method import Setup, held
from fedmeta.params import OWN, SHARE, add, part
from fedmeta.problem import Problem, build
from fedmeta.types import Examples, Params, Task

FEATURES, HIDDEN, EXPERTS, DOMAINS, USERS, PUBLIC = 6, 5, 3, 3, 4, 4
OUTPUTS = {"classification": 3, "regression": 1}
SIZES = ((4, 3), (1, 5), (7, 1), (3, 0), (6, 4))
"""Support and query examples of five users: a single one, none, and none that divides another."""

VECTOR_HEADS = ("linear", "mlp", "scale-shift", "mmoe")
"""Heads over one vector of any width, and all that every method meets; the larger ones have a
contract suite of their own, with fewer methods (test_whole_models.py)."""

FITS = {
    name: [method.head]
    if method.head
    else [
        h
        for h in VECTOR_HEADS
        if not ("trunk" in method.needs and h == "linear")
        and not ("output" in method.needs and h == "scale-shift")
    ]
    for name, method in METHODS.items()
}
"""Heads that a method can work with."""
KINDS = {
    name: [kind for kind in OUTPUTS if "classes" not in method.needs or kind == "classification"]
    for name, method in METHODS.items()
}
"""Kinds of tasks that a method can work with."""
FEDERATED = [name for name, method in METHODS.items() if method.contribute is not None]
THOROUGH = ("fedavg-ft", "maml")
"""One that sends deltas and one that sends gradients: they meet every head, kind and inner loop."""
PAIRS = [(name, head) for name in METHODS for head in FITS[name][: None if name in THOROUGH else 2]]
"""Methods with heads that they can work with, the plainest first."""
INNERS = {
    "full": Inner(0.7, 3),
    "minibatch": Inner(0.5, 4, batch=2),
    "larger": Inner(0.4, 2, batch=9),
    "momentum": Inner(0.3, 4, momentum=0.8),
    "proximal": Inner(0.4, 4, batch=3, momentum=0.5, mu=0.6),
}


def varied(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """Name, head, kind and inner loop: all for the thorough, two of ten for every other pair.

    Which two goes round from pair to pair, so that the suite as a whole leaves nothing out and
    takes minutes instead of an hour.
    """
    out = []
    for number, (name, head) in enumerate(pairs):
        every = [(kind, inner) for inner in INNERS for kind in KINDS[name]]
        chosen = (
            every if name in THOROUGH else [every[(2 * number + i) % len(every)] for i in (0, 3)]
        )
        out += [(name, head, kind, inner) for kind, inner in chosen]
    return out


def forms(name: str, head: str, training: bool = True) -> list[bool]:
    """The values of ``dual`` that the method and the head allow, in training or for newcomers."""
    dual = cohort.has_dual(METHODS[name], model_of(head), training)
    return [False, True] if dual else [False]


def predicted(method: Method, learner: Primal, theta: Params, mine: Task, inner: Inner) -> Tensor:
    """Query logits of one newcomer."""
    start = held(method, theta, {})
    if method.predict is not None:
        return method.predict(learner, start, mine, inner)
    if not len(mine.support.weight):
        inner = replace(inner, batch=0)  # a minibatch of nothing has no examples to gather
    return learner.logits(method.adapt(learner, start, mine, inner), mine.query)


def tasks(
    seed: int,
    sizes: Sequence[tuple[int, int]] = SIZES,
    kind: str = "classification",
    dtype: torch.dtype = torch.float64,
    pad: int = 0,
) -> Task:
    """Random stacked tasks; what pads them is random too, as only its weight may count."""
    random = torch.Generator().manual_seed(seed)
    support, query = zip(*sizes, strict=True)
    return Task(_side(random, support, kind, dtype, pad), _side(random, query, kind, dtype, pad))


def _side(
    random: torch.Generator, sizes: Sequence[int], kind: str, dtype: torch.dtype, pad: int
) -> Examples:
    users, width, outputs = len(sizes), max(sizes) + pad, OUTPUTS[kind]
    x = torch.randn(users, width, FEATURES, generator=random, dtype=torch.float64)
    y = torch.randn(users, outputs, width, generator=random, dtype=torch.float64)
    if kind == "classification":
        label = torch.randint(outputs, (users, 1, width), generator=random)
        y = torch.zeros_like(y).scatter_(1, label, 1.0)
    count = torch.tensor(sizes)[:, None]
    weight = (torch.arange(width) < count).double() / count.clamp(min=1)
    # About unit norm, as features of encoders have.
    return Examples((x / FEATURES**0.5).to(dtype), y.to(dtype), weight.to(dtype))


def select(task: Task, users: Iterable[int]) -> Task:
    """Some users of stacked tasks, as they are padded."""
    at = torch.tensor(list(users))
    return Task(*(Examples(*(field[at] for field in side)) for side in task))


def only(task: Task, user: int) -> Task:
    """One user without the leading axis and without padding."""

    def side(examples: Examples) -> Examples:
        n = int((examples.weight[user] > 0).sum())
        x, y, weight = (field[user] for field in examples)
        return Examples(x[:n], y[:, :n], weight[:n])

    return Task(side(task.support), side(task.query))


def model_of(head: str, kind: str = "classification") -> Model:
    """A small head with the loss of a kind of task."""
    return Model(HEADS[head](FEATURES, OUTPUTS[kind], HIDDEN, EXPERTS), LOSSES[kind])


def theta_of(
    method: Method, model: Model, seed: int, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Random parameters that the server might hold; learned rates of either sign."""
    random = torch.Generator().manual_seed(seed + 1000)
    head = model.head.init(random)
    width, outputs = FEATURES, head["output.bias"].shape[0]
    public = torch.randn(PUBLIC, width, generator=torch.Generator().manual_seed(seed))
    setup = Setup(head, Inner(0.5, 3), width, outputs, random, DOMAINS, USERS, public)
    theta: Params = method.start(setup) if method.start else head
    return {
        name: (
            value.double() + 0.6 * torch.randn(value.shape, generator=random, dtype=torch.float64)
        ).to(dtype)
        for name, value in theta.items()
    }


def one_by_one(
    method: Method,
    model: Model,
    theta: Params,
    task: Task,
    inner: Inner,
    weights: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """The sum of contributions, user after user, in the plain form: the oracle."""
    if method.contribute is None:
        raise ValueError(f"{method.name} contributes nothing")
    total: Params = {}
    for user in range(len(task.support.weight)):
        start = held(method, theta, {})
        sent = method.contribute(Primal(model), start, only(task, user), inner)
        share = float(sent.get(SHARE, 1.0)) * (1.0 if weights is None else weights[user])
        leaves = part(sent, lambda name: not name.startswith((OWN, SHARE)))
        total = add(total, {name: value.double() for name, value in leaves.items()}, share)
    return dict(total)


def flat(params: Params) -> Tensor:
    """All parameters as one vector, in the order of their names."""
    return torch.cat([params[name].detach().double().flatten() for name in sorted(params)])


def distance(a: Params, b: Params) -> float:
    """Norm of the difference relative to the norm of ``b``."""
    if set(a) != set(b):
        raise ValueError(f"{sorted(a)} and {sorted(b)} are not the same parameters")
    return float((flat(a) - flat(b)).norm() / flat(b).norm())


def problem(**values: Any) -> Problem:
    """A problem of 24 generated users; ``method__name="maml"`` sets ``method.name``."""
    small = {
        "backbone.name": "hashing",
        "data.users": 24,
        "data.messages": 160,
        "data.support": 4,
        "data.query": 6,
        "data.examples": 12,
        "head.hidden": HIDDEN,
        "federation.rounds": 3,
        "federation.users-per-round": 7,
        "federation.chunk": 3,
        "evaluation.every": 2,
        "evaluation.shots": "0,2,4",
        "evaluation.tune": False,
        "evaluation.bootstrap": 100,
        "run.backend": "inline",
    }
    given = {key.replace("__", ".").replace("_", "-"): value for key, value in values.items()}
    method = METHODS.get(given.get("method.name", ""))
    if method is not None and "domains" in method.needs:
        small["data.domains"] = DOMAINS
    return build(parse(small | given))
