"""MetaAdapt: users count by the cosine with the target's meta-gradient."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmeta import cohort, loop
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.methods.metaadapt import cosine
from fedmeta.params import DOMAIN, is_head, part
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params
from tests.engine.cases import (
    DOMAINS,
    VECTOR_HEADS,
    distance,
    flat,
    model_of,
    problem,
    select,
    tasks,
    theta_of,
)

METHOD = METHODS["metaadapt"]
HOME = {DOMAIN: torch.tensor([0, 1, 1, 0, 2])}
every_head = pytest.mark.parametrize("head", VECTOR_HEADS)


def settings(temperature: float = 0.2, target: int = 1) -> Inner:
    return Inner(0.5, 3, options=MethodConfig(temperature=temperature, target_domain=target))


def gradients(head: str, theta: Params) -> list[Tensor]:
    """Each user's exact meta-gradient."""
    task, plain = tasks(91), part(theta, is_head)
    return [
        flat(cohort.contribute(METHODS["maml"], model_of(head), plain, one, settings()).total)
        for one in (select(task, [user]) for user in range(5))
    ]


def of(theta: Params, prefix: str) -> Tensor:
    return flat({n: v for n, v in theta.items() if n.startswith(prefix) and "users" not in n})


def test_cosine_of_gradients_made_by_hand() -> None:
    a = {"output.weight": torch.tensor([[3.0, 0.0]]), "output.bias": torch.tensor([4.0])}
    for bias, expected in ((0.0, 0.6), (-4.0 / 3.0, -7 / 25 / (5 / 3) * 5 / 3), (2.25, 0.96)):
        b = {"output.weight": torch.tensor([[1.0, 0.0]]), "output.bias": torch.tensor([bias])}
        b["output.weight"] = b["output.weight"] * (3.0 if bias == 2.25 else 1.0)
        assert float(cosine(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(cosine(a, {n: -2 * v for n, v in a.items()})) == pytest.approx(-1.0)
    assert float(cosine(a, {n: 0 * v for n, v in a.items()})) == 0.0


@every_head
def test_weights_and_reference_by_their_formula(head: str) -> None:
    theta = theta_of(METHOD, model_of(head), 91)
    g, reference = np.stack(gradients(head, theta)), of(theta, "reference/").numpy()
    norms = np.linalg.norm(g, axis=1) * np.linalg.norm(reference)
    assert norms.min() == 0  # a user without query examples has no gradient, and counts once
    cosines = g @ reference / np.where(norms, norms, 1)
    share = np.exp(cosines / 0.2)
    assert np.ptp(share) > 0.5
    weight = torch.tensor([1.0, 2.0, 1.0, 1.0, 3.0])
    update = cohort.contribute(
        METHOD, model_of(head), theta, tasks(91), settings(), weight, memory=HOME
    )
    both = share * weight.numpy()
    assert float(update.weight) == pytest.approx(both.sum(), rel=1e-12)
    mean = {name: value / update.weight for name, value in update.total.items()}
    np.testing.assert_allclose(flat(part(mean, is_head)), both @ g / both.sum(), rtol=1e-10)
    if METHOD.finish is None:
        raise ValueError
    moved = METHOD.finish(mean, theta)
    assert set(moved) == set(theta)
    # Users 1 and 2 are of the target domain, with weights 2 and 1, whatever their shares.
    newest = (2 * g[1] + g[2]) / 3
    found = reference - of(moved, "reference/").numpy()
    np.testing.assert_allclose(found, 0.9 * reference + 0.1 * newest, rtol=1e-10)


def test_without_target_users_the_reference_stays() -> None:
    theta = theta_of(METHOD, model_of("linear"), 92)
    inner = settings(target=7)
    update = cohort.contribute(METHOD, model_of("linear"), theta, tasks(92), inner, memory=HOME)
    if METHOD.finish is None:
        raise ValueError
    moved = METHOD.finish({n: v / update.weight for n, v in update.total.items()}, theta)
    assert not of(moved, "reference/").any()


@every_head
def test_without_a_reference_it_is_maml(head: str) -> None:
    theta = theta_of(METHOD, model_of(head), 91)
    theta |= {n: torch.zeros_like(v) for n, v in theta.items() if "/" in n}
    update = cohort.contribute(METHOD, model_of(head), theta, tasks(91), settings(), memory=HOME)
    assert float(update.weight) == 5.0
    expected = torch.stack(gradients(head, theta)).sum(0)
    torch.testing.assert_close(flat(part(update.total, is_head)), expected, rtol=1e-11, atol=1e-13)


def test_a_hot_run_is_one_of_maml_and_a_cold_one_is_not() -> None:
    values = {"data__domains": 2, "head__name": "mlp"}
    *_, maml = loop.train(problem(method__name="maml", **values), torch.float64)
    gaps = []
    for temperature in (1e9, 0.1):
        run = problem(method__name="metaadapt", method__temperature=temperature, **values)
        *_, state = loop.train(run, torch.float64)
        gaps.append(distance(part(state.meta, is_head), maml.meta))
    assert gaps[0] < 1e-6
    assert gaps[1] > 1e-3


def test_a_target_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"domains 0 to {DOMAINS - 1}"):
        problem(method__name="metaadapt", method__target_domain=DOMAINS)
    problem(method__name="metaadapt", method__target_domain=DOMAINS - 1)
