"""The ridge head (R2D2) against scikit-learn and by its own algebra."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.inner import Inner
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.methods.ridge import BIAS, LAMBDA, SCALE, ridge
from fedmeta.problem import initial
from fedmeta.types import Examples, Params
from tests.engine.cases import HIDDEN, model_of, only, problem, tasks, theta_of
from tests.engine.test_metric import embedded

RIDGE = METHODS["ridge"]
SIZES = ((3, 4), (12, 5), (2, 6), (1, 3))
"""Fewer and more examples than embeddings are wide."""


def penalized(theta: Params, penalty: float) -> Params:
    return {**theta, LAMBDA: torch.tensor(penalty, dtype=torch.float64).log()}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("pad", [0, 9])
def test_equals_scikit_learn(head: str, kind: str, pad: int) -> None:
    """One user after the other, in float64; padding also decides which form is taken."""
    model, task = model_of(head, kind), tasks(81, SIZES, kind, pad=pad)
    theta: Params = theta_of(RIDGE, model, 81)
    for penalty in (1e-3, 0.5, 20.0):
        theta = penalized(theta_of(RIDGE, model, 81), penalty)
        (found,) = cohort.predict(RIDGE, model, theta, task, [Trial(Inner(1.0, 1), 99)])
        for user, (_, queries) in enumerate(SIZES):
            mine = only(task, user)
            h, q = (
                embedded(theta, side.x) if head == "mlp" else side.x.numpy()
                for side in (mine.support, mine.query)
            )
            oracle = Ridge(alpha=penalty).fit(h, mine.support.y.numpy().T)
            said = torch.from_numpy(oracle.predict(q).reshape(queries, -1)).mT
            expected = theta[SCALE].exp() * said + theta[BIAS][:, None]
            torch.testing.assert_close(found[user, :, :queries], expected, rtol=1e-8, atol=1e-9)


def test_weights_of_examples_count() -> None:
    """As ``sample_weight`` does, times the number of examples."""
    random = np.random.default_rng(3)
    for n, width in ((7, 4), (4, 9)):
        h, y = random.normal(size=(n, width)), random.normal(size=(n, 2))
        weight = random.dirichlet(np.ones(n))
        examples = Examples(
            torch.empty(n, 0), torch.from_numpy(y.T.copy()), torch.from_numpy(weight)
        )
        penalty = torch.tensor(0.3, dtype=torch.float64)
        w, offset = ridge(torch.from_numpy(h.T.copy()), examples, penalty)
        oracle = Ridge(alpha=0.3).fit(h, y, sample_weight=weight * n)
        np.testing.assert_allclose(w.numpy(), oracle.coef_, rtol=1e-9)
        np.testing.assert_allclose(offset.numpy(), oracle.intercept_, rtol=1e-9)


def test_what_is_learned() -> None:
    """On the linear head lambda, scale and bias alone; lambda starts positive."""
    linear = initial(problem(method__name="ridge", head__name="linear"))
    assert set(linear) == {LAMBDA, SCALE, BIAS}
    assert float(linear[LAMBDA].exp()) > 0
    deep = initial(problem(method__name="ridge"))
    assert set(deep) == {"hidden.weight", "hidden.bias", *linear}


def test_without_examples_it_predicts_the_bias() -> None:
    model, task = model_of("mlp"), tasks(82, SIZES)
    theta = theta_of(RIDGE, model, 82)
    (found,) = cohort.predict(RIDGE, model, theta, task, [Trial(Inner(1.0, 1), 0)])
    torch.testing.assert_close(found, theta[BIAS][:, None].expand_as(found))
    assert theta["hidden.bias"].shape == (HIDDEN,)
