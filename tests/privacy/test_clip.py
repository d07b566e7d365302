"""The bound on what a user sends: all of it, in either form, and nothing gets past it."""

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.gram import geometry
from fedmeta.heads import HEADS, Tail
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.privacy.clip import BELOW, Clip, Coordinates, clipped, norms
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import (
    FEDERATED,
    FITS,
    SIZES,
    THOROUGH,
    distance,
    flat,
    forms,
    model_of,
    one_by_one,
    select,
    tasks,
    theta_of,
)

INNER = Inner(0.6, 3)
SENDING = [
    (name, head)
    for name in FEDERATED
    for head in FITS[name][: 2 if name in THOROUGH else 1]
    if not METHODS[name].own and METHODS[name].generator is None
]


@pytest.mark.parametrize(("name", "head"), SENDING)
def test_sum_of_users_that_are_clipped_one_by_one(name: str, head: str) -> None:
    """Both forms against a loop that clips whole vectors; some users are clipped, some not."""
    method, model, task = METHODS[name], model_of(head), tasks(3)
    theta = theta_of(method, model, 3)
    alone = [one_by_one(method, model, theta, select(task, [u]), INNER) for u in range(len(SIZES))]
    size = torch.stack([flat(sent).norm() for sent in alone])
    limit = 1.01 * float(size.median())
    assert (size > limit).any()
    assert (size < limit).any()
    expected: dict[str, Tensor] = {}
    for sent, norm in zip(alone, size.tolist(), strict=True):
        factor = min(1.0, limit / norm) if norm else 1.0
        expected = {n: expected.get(n, 0) + factor * v for n, v in sent.items()}
    for dual in forms(name, head):
        clip = Clip(limit, counts=True)
        found = dict(
            cohort.contribute(method, model, theta, task, INNER, dual=dual, clip=clip).total
        )
        below = found.pop(BELOW)
        assert distance(found, expected) < (1e-4 if dual else 1e-12)
        assert float(below) == float((size <= limit).double().sub(0.5).sum())
        loose = cohort.contribute(method, model, theta, task, INNER, dual=dual, clip=Clip(1e9))
        free = cohort.contribute(method, model, theta, task, INNER, dual=dual)
        assert all(torch.equal(loose.total[n], v) for n, v in free.total.items())


@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_norms_from_inner_products(query: bool, kept: bool) -> None:
    """In float32 with rows that nearly cancel, never below the norm in float64 and little above."""
    random = torch.Generator().manual_seed(5)
    common = torch.randn(6, 1, 384, generator=random)
    x, y = (
        common + 10.0**-scale * torch.randn(6, n, 384, generator=random)
        for n, scale in ((40, 2), (30, 3))
    )
    x, y = (side / side.norm(dim=-1, keepdim=True) for side in (x, y))
    a, b = (torch.randn(6, 7, n, generator=random) for n in (40, 30))
    a, b = (side - side.mean(-1, keepdim=True) for side in (a, b))
    none = torch.zeros(6, 0)
    task = Task(Examples(x, none, none), Examples(y, none, none))
    gram = geometry(task)
    if kept:
        gram = gram._replace(asked=(y @ y.mT) + 1)
    tail = HEADS["linear"](384, 7, 0, 0).tail
    assert isinstance(tail, Tail)
    name, rest = f"{tail.layer}.weight", torch.randn(6, 3, generator=random)
    leaves: dict[str, Tensor] = {name: a, "rest": rest}
    exact = torch.cat([a.double() @ x.double(), a.double().sum(-1, keepdim=True)], -1)
    if query:
        leaves[f"{name}@query"] = b
        exact += torch.cat([b.double() @ y.double(), b.double().sum(-1, keepdim=True)], -1)
    expected = (exact.square().sum((1, 2)) + rest.double().square().sum(1)).sqrt()
    found = norms(leaves, Coordinates(tail, task, gram))
    assert bool((found >= expected).all())
    assert bool((found <= 1.05 * expected).all())


def _moved(with_him: Params, without: Params) -> float:
    return float((flat(with_him) - flat(without)).norm())


@pytest.mark.parametrize("name", ["reptile", "fomaml", "maml", "anil", "meta-sgd", "fedper"])
def test_sensitivity(name: str) -> None:
    """P3: the most that a user moves the sum, over random users.

    Features are scaled over six orders, so that users far below and far above the clip are met.
    """
    method, model = METHODS[name], model_of("mlp")
    theta, limit, worst = theta_of(method, model, 1), 0.3, 0.0
    for seed in range(60):
        task = tasks(seed, sizes=((4, 3), (5, 2), (3, 4)))
        scale = 10.0 ** (seed % 7 - 2)
        task.support.x[1] *= scale
        task.query.x[1] *= scale
        for dual in forms(name, "mlp"):
            both, rest = (
                cohort.contribute(
                    method, model, theta, select(task, of), INNER, dual=dual, clip=Clip(limit)
                )
                for of in ([0, 1, 2], [0, 2])
            )
            if bool(both.finite.all()):
                worst = max(worst, _moved(both.total, rest.total))
    assert 0.999 * limit < worst <= limit * (1 + 1e-6)


def test_a_clip_of_the_first_name_alone_would_be_seen() -> None:
    """The test above can fail: a user whose rates are not part of the norm."""
    method, model = METHODS["meta-sgd"], model_of("mlp")
    theta, task = theta_of(method, model, 1), tasks(0)
    free = cohort.contribute(method, model, theta, select(task, [0]), INNER).total
    head = {n: v for n, v in free.items() if "/" not in n}
    assert float(flat(free).norm()) > 1.01 * float(flat(head).norm())


def test_who_is_not_finite_moves_nothing_and_is_not_counted() -> None:
    method, model, task = METHODS["reptile"], model_of("mlp"), tasks(4)
    theta = theta_of(method, model, 4)
    others = [0, 1, 3, 4]
    task.support.x[2, 0] = torch.nan
    for dual in (False, True):
        found, expected = (
            cohort.contribute(
                method, model, theta, select(task, of), INNER, dual=dual, clip=Clip(0.2, True)
            )
            for of in ([0, 1, 2, 3, 4], others)
        )
        assert found.finite.tolist() == [True, True, False, True, True]
        assert all(torch.equal(found.total[n], v) for n, v in expected.total.items())


def test_zero_stays_zero() -> None:
    leaves = {"w": torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "v": torch.tensor([0.0, 12.0])}
    found = clipped(leaves, Clip(6.5, counts=True))
    assert found["w"].tolist() == [[0.0, 0.0], [1.5, 2.0]]
    assert found["v"].tolist() == [0.0, 6.0]
    assert found[BELOW].tolist() == [0.5, -0.5]


def test_a_norm_that_overflows_lets_nothing_pass() -> None:
    """Finite coefficients whose products in single precision are infinite with either sign."""
    head = HEADS["linear"](4, 2, hidden=1, experts=1)
    tail = head.tail
    assert tail is not None
    side = Examples(torch.ones(1, 2, 4), torch.zeros(1, 1, 2), torch.full((1, 2), 0.5))
    task, name = Task(side, side), f"{tail.layer}.weight"
    leaves = {name: torch.tensor([[[3e20, -1e20], [0.0, 0.0]]])}
    place = Coordinates(tail, task, geometry(task))
    assert bool(norms(leaves, place).isnan().all())
    found = clipped(leaves, Clip(1.0, counts=True), place)
    assert not found[name].any()
    assert found[BELOW].tolist() == [-0.5]
