"""The hypernetwork: its derivative, what it is where it ignores the user, and who sees what."""

import numpy as np
import pytest
import torch
from flwr.app import Message
from torch import Tensor

from clients import wire
from fedmeta import cohort, generation, loop
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.method import Generator
from fedmeta.methods.pfedhn import generate
from fedmeta.params import SHARE, part
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from tests.engine.cases import (
    INNERS,
    USERS,
    VECTOR_HEADS,
    distance,
    model_of,
    only,
    problem,
    select,
    tasks,
    theta_of,
)
from tests.engine.test_reductions import SAME, last
from tests.federation.runs import over_inline

PFEDHN = METHODS["pfedhn"]
ROWS = torch.tensor([2, 0, 3])
WEIGHTS = torch.tensor([1.5, 2.0, 0.25], dtype=torch.float64)
STEP = 1e-6


def generator() -> Generator:
    if PFEDHN.generator is None:
        raise ValueError
    return PFEDHN.generator


def is_head(name: str) -> bool:
    return "/" not in name


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_gradient_through_the_generator(head: str) -> None:
    """Central differences of the product of what was sent with the heads that are made."""
    theta = theta_of(PFEDHN, model_of(head), 81)
    random = torch.Generator().manual_seed(81)
    sent = {
        name: torch.randn(len(ROWS), *value.shape, generator=random).double()
        for name, value in part(theta, is_head).items()
    }

    def product(at: Params) -> Tensor:
        made = generator().issue(at, ROWS)
        return torch.stack([(made[name] * sent[name]).sum() for name in sent]).sum()

    found = generator().collect(theta, ROWS, {**sent, SHARE: WEIGHTS})
    assert set(found) == {*theta, "present/users"}
    for name, value in theta.items():
        slope = torch.zeros_like(value)
        for at in np.ndindex(*value.shape):
            shift = torch.zeros_like(value)
            shift[at] = STEP
            up, down = ({**theta, name: value + sign * shift} for sign in (1, -1))
            slope[at] = (product(up) - product(down)) / (2 * STEP)
        assert distance({name: found[name]}, {name: slope}) < 1e-7, name
    absent = [row for row in range(USERS) if row not in ROWS.tolist()]
    assert not found["embedding/users"][absent].any()


def test_an_embedding_moves_by_its_own_users_gradient() -> None:
    """Not by his share of the mean: rounds of more users would otherwise slow it down."""
    theta = theta_of(PFEDHN, model_of("mlp"), 82)
    random = torch.Generator().manual_seed(82)
    sent = {
        name: torch.randn(len(ROWS), *value.shape, generator=random).double()
        for name, value in part(theta, is_head).items()
    }
    scaled = {n: v * WEIGHTS.view(-1, *(1,) * (v.dim() - 1)) for n, v in sent.items()}
    found = generator().collect(theta, ROWS, {**scaled, SHARE: WEIGHTS})
    if PFEDHN.finish is None:
        raise ValueError
    mean = PFEDHN.finish({n: v / WEIGHTS.sum() for n, v in found.items()}, theta)
    assert set(mean) == set(theta)
    for at, row in enumerate(ROWS.tolist()):
        alone = {n: v[at : at + 1] for n, v in sent.items()} | {SHARE: torch.ones(1).double()}
        expected = generator().collect(theta, ROWS[at : at + 1], alone)["embedding/users"][row]
        torch.testing.assert_close(mean["embedding/users"][row], expected, rtol=1e-12, atol=1e-14)
    assert not mean["embedding/users"][1].any()


def blind(run: Problem) -> Problem:
    """The problem with a generator that ignores the embedding, as it stays if it begins so."""
    start = PFEDHN.start

    def zero(setup: object) -> dict[str, Tensor]:
        if start is None:
            raise ValueError
        made = start(setup)  # type: ignore[arg-type]
        return {n: v if is_head(n) or n == "embedding/users" else 0 * v for n, v in made.items()}

    return run._replace(method=run.method.__class__(**{**vars(run.method), "start": zero}))


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_a_generator_that_ignores_the_user_is_federated_averaging(
    head: str, weighting: str
) -> None:
    """With V, v and W zero all are sent the last bias, which moves as the averaged head does."""
    values = SAME | {"head__name": head, "federation__weighting": weighting}
    found = last(blind(problem(method__name="pfedhn", **values)))
    averaged = last(problem(method__name="fedavg", **values))
    assert distance(part(found, is_head), averaged) < 1e-12
    seeing = last(problem(method__name="pfedhn", **values))
    assert distance(part(seeing, is_head), averaged) > 1e-3


def test_a_round_by_hand() -> None:
    """Each user of the first round, from the head that is made for him."""
    run = problem(method__name="pfedhn", federation__rounds=1, **SAME)
    theta = {name: value.double() for name, value in initial(run).items()}
    users = loop.cohort_of(run.population, run.config, 1)
    trained = run.population.store.users("train").tolist()
    task = loop.tasks_of(run, users, 1)
    double = type(task)(*(type(s)(*(f.double() for f in s)) for s in task))
    mean: dict[str, Tensor] = {name: torch.zeros_like(v) for name, v in theta.items()}
    for at, user in enumerate(users.tolist()):
        free = {name: value.clone().requires_grad_() for name, value in theta.items()}
        made = generate(free, free["embedding/users"][trained.index(user)])
        start = {name: value.detach() for name, value in made.items()}
        phi = METHODS["fedavg-ft"].adapt(Primal(run.model), start, only(double, at), run.train)
        moved = torch.stack([(made[n] * (start[n] - phi[n])).sum() for n in made]).sum()
        names = list(theta)
        for name, g in zip(names, torch.autograd.grad(moved, list(free.values())), strict=True):
            mean[name] += g if name == "embedding/users" else g / len(users)
    expected = {name: value - mean[name] for name, value in theta.items()}
    assert distance(last(run), expected) < 1e-12
    assert distance(last(run), theta) > 1e-3


@pytest.mark.parametrize("inner", ["full", "minibatch", "momentum"])
def test_a_new_user_fits_his_embedding_only(inner: str) -> None:
    """Descent by autograd on the embedding, from the mean; what he is sent names no user."""
    model, mine, given = model_of("mlp"), only(tasks(83), 0), INNERS[inner]
    theta = theta_of(PFEDHN, model, 83)
    sent = generator().public(theta)
    assert sent["embedding/users"].shape == (1, theta["embedding/users"].shape[1])
    learner = Primal(model)
    e = theta["embedding/users"].mean(0).requires_grad_()
    velocity = torch.zeros_like(e)
    for step in range(given.steps):
        examples = learner.minibatch(mine.support, step, given.batch)
        (g,) = torch.autograd.grad(learner.loss(generate(theta, e), examples), e)
        velocity = given.momentum * velocity + g
        rate = given.options.embedding_rate * given.rate
        e = (e - rate * velocity).detach().requires_grad_()
    expected = generate(theta, e.detach())
    for params in (theta, sent):
        assert distance(PFEDHN.adapt(learner, params, mine, given), expected) < 1e-12
    assert distance(expected, part(theta, is_head)) > 1e-2


def test_contributions_apart_are_those_that_are_summed() -> None:
    model, task = model_of("mlp"), tasks(84)
    theta, weights = theta_of(PFEDHN, model, 84), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    args = (PFEDHN, model, theta, task, Inner(0.5, 3), weights)
    rows, whole = cohort.contribute(*args, apart=True), cohort.contribute(*args)
    assert torch.equal(rows.total[SHARE], weights)
    summed = {name: value.sum(0) for name, value in rows.total.items() if name != SHARE}
    assert distance(summed, whole.total) < 1e-12
    spoiled = task._replace(support=task.support._replace(x=task.support.x.clone()))
    spoiled.support.x[2, 0, 0] = torch.nan
    left = cohort.contribute(PFEDHN, model, theta, spoiled, *args[4:], apart=True)
    assert left.finite.tolist() == [True, True, False, True, True]
    others = [0, 1, 3, 4]
    expected = cohort.contribute(
        PFEDHN, model, theta, select(task, others), args[4], weights[others], apart=True
    )
    assert distance(left.total, expected.total) == 0.0


def test_who_sees_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the wire: neither network nor embeddings in training, no single user's in judging."""
    orders, replies = [], list[wire.Sum]()
    make, read = wire.order_message, wire.read_sum

    def spy(*args: object, **values: object) -> object:
        message = make(*args, **values)  # type: ignore[arg-type]
        orders.append((message.metadata.message_type, wire.params(args[0]), message))  # type: ignore[arg-type]
        return message

    def overhear(message: Message, how: wire.Read) -> wire.Sum:
        replies.append(read(message, how))
        return replies[-1]

    monkeypatch.setattr(wire, "order_message", spy)
    monkeypatch.setattr(wire, "read_sum", overhear)
    run = problem(method__name="pfedhn", federation__rounds=2)
    over_inline(run)
    head = set(part(initial(run), is_head))
    for kind, common, message in orders:
        made = wire.params(wire.read_made(message))
        if kind == "train":
            assert not common
            assert set(made) == head
            assert {len(v) for v in made.values()} == {len(wire.read_order(message)[1].users)}
        else:
            assert not made
            assert len(common["embedding/users"]) == 1
    assert {kind for kind, *_ in orders} == {"train", "evaluate"}
    assert replies
    for reply in replies:
        assert set(reply.total) == {*head, SHARE}
        assert {len(v) for v in reply.total.values()} == {reply.users}
    assert generation.public(METHODS["maml"], initial(run)) is not None
