"""Prototype methods: ProtoNet, ProtoMAML and the rule for classes that a user does not show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.shown import complete, shown
from fedmeta.params import add, is_output
from fedmeta.problem import initial
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import HIDDEN, distance, model_of, only, problem, tasks, theta_of
from tests.engine.slopes import agrees

PROTO = ["protonet", "protomaml", "protomamln"]
MODEL = model_of("mlp")
INNER = Inner(0.7, 2)
SIZES = ((9, 4), (12, 5), (2, 6), (1, 3))
"""The last two show too few examples for all three classes."""


def embedded(theta: Params, x: Tensor) -> NDArray[np.float64]:
    weight, bias = theta["hidden.weight"].numpy(), theta["hidden.bias"].numpy()
    return np.asarray(np.maximum(x.numpy() @ weight.T + bias, 0))


def by_hand(support: NDArray[np.float64], y: Tensor, query: NDArray[np.float64]) -> Tensor:
    """Minus squared distances to the mean of each class, ``(C, Q)``, in plain loops."""
    label, out = y.argmax(0).numpy(), np.full((3, len(query)), np.nan)
    for k in set(label.tolist()):
        c = support[label == k].mean(0)
        out[k] = [-((f - c) ** 2).sum() for f in query]
    absent = [k for k in range(3) if k not in label]
    if absent:
        out[absent] = np.nanmean(out, axis=0) - np.log(1 + len(label))
    return torch.from_numpy(out)


def centred(logits: Tensor) -> Tensor:
    """Without what all classes have in common."""
    return logits - logits.mean(-2, keepdim=True)


def test_protonet_by_hand() -> None:
    """Also that padding, which is random here, is in no prototype."""
    method, task = METHODS["protonet"], tasks(61, SIZES, pad=2)
    theta = theta_of(method, MODEL, 61)
    (found,) = cohort.predict(method, MODEL, theta, task, [Trial(INNER, 99)])
    frozen = METHODS["protonet-frozen"]
    (plain,) = cohort.predict(frozen, model_of("linear"), {}, task, [Trial(INNER, 99)])
    seen = set()
    for user, (_, queries) in enumerate(SIZES):
        mine = only(task, user)
        seen.add(int(mine.support.y.sum(1).count_nonzero()))
        h, q = embedded(theta, mine.support.x), embedded(theta, mine.query.x)
        expected = centred(by_hand(h, mine.support.y, q))
        torch.testing.assert_close(centred(found[user, :, :queries]), expected)
        expected = by_hand(mine.support.x.numpy(), mine.support.y, mine.query.x.numpy())
        torch.testing.assert_close(plain[user, :, :queries], expected)
    assert seen == {1, 2, 3}


@pytest.mark.parametrize("name", ["protonet-frozen", *PROTO])
def test_classes_that_are_not_shown(name: str) -> None:
    """As likely as none shown / (1 + n) of the geometric mean of the others; never the first."""
    method, task = METHODS[name], tasks(62, SIZES, pad=1)
    theta = theta_of(method, MODEL, 62)
    nothing, one, all_of_them = cohort.predict(
        method, MODEL, theta, task, [Trial(replace(INNER, steps=0), n) for n in (0, 1, 99)]
    )
    torch.testing.assert_close(nothing, nothing[:, :1].expand_as(nothing))
    first = task.support.y[:, :, 0].argmax(-1)
    assert bool((one.argmax(1) == first[:, None]).all())
    probability = torch.softmax(one, 1).gather(1, first[:, None, None].expand(-1, 1, 6))
    torch.testing.assert_close(probability, torch.full_like(probability, 0.5))  # 1 : 1/2 : 1/2
    there = (task.support.y * task.support.weight[:, None]).sum(-1) > 0
    said = torch.zeros_like(all_of_them).scatter(1, all_of_them.argmax(1, keepdim=True), 1.0)
    assert not bool((said * ~there[..., None]).any())


def test_completed_scores() -> None:
    y = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    support = Examples(torch.zeros(4, 1), y, torch.tensor([1 / 3] * 3 + [0.0]).double())
    scores = torch.tensor([[1.0, 5.0], [2.0, -3.0], [torch.nan, 9.0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 5.0], [2.0, -3.0], [1.5, 1.0]], dtype=torch.float64)
    expected[2] -= np.log(4)
    torch.testing.assert_close(complete(scores, shown(support)), expected)


def test_protomaml_starts_as_protonet() -> None:
    """Its logits differ by ``||f||^2``, the same for all classes: the bias is squared."""
    task, theta = tasks(63, SIZES), theta_of(METHODS["protonet"], MODEL, 63)
    still = [Trial(replace(INNER, steps=0), n) for n in (2, 5, 99)]
    net, maml, unit = (cohort.predict(METHODS[n], MODEL, theta, task, still) for n in PROTO)
    for a, b, c in zip(net, maml, unit, strict=True):
        assert torch.equal(a.argmax(1), b.argmax(1))
        torch.testing.assert_close(torch.softmax(a, 1), torch.softmax(b, 1))
        assert float((a - c).abs().max()) > 0.1
    (moved,) = cohort.predict(METHODS["protomaml"], MODEL, theta, task, [Trial(INNER, 99)])
    assert float((moved - maml[-1]).abs().max()) > 0.1


def test_prototypes_of_unit_norm() -> None:
    mine = only(tasks(64, SIZES), 1)
    theta = theta_of(METHODS["protomamln"], MODEL, 64)
    start = METHODS["protomamln"].adapt(Primal(MODEL), theta, mine, replace(INNER, steps=0))
    norm = torch.full((3,), 2.0, dtype=torch.float64)
    torch.testing.assert_close(start["output.weight"].norm(dim=1), norm)
    torch.testing.assert_close(start["output.bias"], torch.full_like(norm, -1.0))
    bare = replace(INNER, steps=0, options=MethodConfig(prototype_bias="none"))
    start = METHODS["protomaml"].adapt(Primal(MODEL), theta, mine, bare)
    assert not start["output.bias"].any()


@pytest.mark.parametrize("name", PROTO)
def test_the_output_layer_is_the_users_alone(name: str) -> None:
    """The server neither holds nor is sent one; it is made of a support set."""
    run = problem(method__name=name)
    assert set(initial(run)) == {"hidden.weight", "hidden.bias"}
    method, theta = METHODS[name], theta_of(METHODS[name], MODEL, 65)
    full = {**theta, "output.weight": torch.randn(3, HIDDEN), "output.bias": torch.randn(3)}
    mine = only(tasks(65, SIZES), 0)
    assert method.contribute is not None
    sent = method.contribute(Primal(MODEL), theta, mine, INNER)
    assert not any(is_output(param) for param in sent)
    given = method.contribute(Primal(MODEL), full, mine, INNER)
    assert distance({p: given[p] for p in sent}, sent) == 0.0


def frozen_loss(theta: Params, mine: Task, prototypes: bool) -> tuple[Tensor, Params]:
    """Query loss with the moves of the inner loop, and maybe the prototypes, held at theta's."""
    method, learner = METHODS["protomaml"], Primal(MODEL)
    start = method.adapt(learner, theta, mine, replace(INNER, steps=0))
    moved = add(method.adapt(learner, theta, mine, INNER), start, -1.0)

    def loss(at: Params) -> Tensor:
        here = method.adapt(learner, at, mine, replace(INNER, steps=0))
        here = {**here, **{n: start[n] for n in start if prototypes and is_output(n)}}
        return learner.loss(add(here, moved), mine.query)

    return loss(theta), learner.through(loss, theta)


def test_first_order_and_detached_prototypes() -> None:
    method, learner, mine = METHODS["protomaml"], Primal(MODEL), only(tasks(66, SIZES), 0)
    assert method.contribute is not None
    theta, found = theta_of(method, MODEL, 66), []
    for first_order in (False, True):
        for detach in (False, True):
            options = MethodConfig(first_order=first_order, detach_prototypes=detach)
            inner = replace(INNER, options=options)
            sent = method.contribute(learner, theta, mine, inner)
            phi = method.adapt(learner, theta, mine, inner)
            loss, expected = frozen_loss(theta, mine, detach)
            torch.testing.assert_close(learner.loss(phi, mine.query), loss)
            assert (distance(sent, expected) < 1e-12) == first_order
            found.append(sent)
    gaps = [distance(a, b) for i, a in enumerate(found) for b in found[:i]]
    assert min(gaps) > 1e-2


def test_protonet_gradient_is_that_of_its_own_loss() -> None:
    """Cross-entropy of minus squared distances, written out with loops over the classes."""
    method, mine = METHODS["protonet"], only(tasks(67, SIZES), 1)
    theta = theta_of(method, MODEL, 67)

    def loss(at: Params) -> Tensor:
        h, q = embedded(at, mine.support.x), embedded(at, mine.query.x)
        z = by_hand(h, mine.support.y, q)
        return torch.nn.functional.cross_entropy(z.mT, mine.query.y.argmax(0))

    assert method.contribute is not None
    assert agrees(loss, theta, method.contribute(Primal(MODEL), theta, mine, INNER))


@pytest.mark.parametrize("name", PROTO)
def test_without_a_trunk_there_is_nothing_to_share(name: str) -> None:
    with pytest.raises(ConfigError, match="needs a trunk"):
        problem(method__name=name, head__name="linear")
    assert initial(problem(method__name="protonet-frozen", head__name="linear"))
