"""The domain adversary of DaMSTF: both gradients, who has one, and what the trunk forgets."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.adversary import opposed
from fedmeta.params import DOMAIN, is_head, is_trunk, part
from fedmeta.problem import initial
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params
from tests.engine.cases import DOMAINS, distance, model_of, only, problem, tasks, theta_of
from tests.engine.slopes import agrees

DAMSTF = METHODS["damstf"]
SIZES = ((6, 2), (3, 2), (7, 1), (1, 2))
HOMES = torch.tensor([2, 0, 1, 2])


def inner(adversary: float = 0.4, progress: float = 0.07) -> Inner:
    return Inner(0.6, 4, options=MethodConfig(adversary=adversary), progress=progress)


@pytest.mark.parametrize("head", ["mlp", "scale-shift", "mmoe"])
def test_both_gradients(head: str) -> None:
    """The classifier goes down on the mean cross-entropy of the user's domain, the trunk up."""
    model, mine = model_of(head), only(tasks(81, SIZES), 0)
    learner, theta = Primal(model), theta_of(DAMSTF, model, 81)

    def entropy(at: Params) -> Tensor:
        h = model.head.embed(at, mine.support.x)
        z = at["adversary/weight"] @ h + at["adversary/bias"][:, None]
        return torch.nn.functional.cross_entropy(z.mT, torch.full((6,), 2))

    found = opposed(learner, {**theta, DOMAIN: torch.tensor(2)}, mine, inner())
    # 0.4 (2 / (1 + e^-0.7) - 1) = 0.4 tanh(0.35), and four steps of 0.6
    grown = 0.4 * torch.tanh(torch.tensor(0.35, dtype=torch.float64))
    slopes = {n: v / (-grown if is_trunk(n) else 1.0) / 2.4 for n, v in found.items()}
    free = part(theta, lambda name: not name.startswith("output."))
    assert set(slopes) == set(free)
    assert agrees(entropy, free, slopes)


@pytest.mark.parametrize("head", ["mlp", "scale-shift"])
def test_stacked_users_in_both_forms(head: str) -> None:
    """The adversary is added to what is sent without it, each user's own domain at a time."""
    model, task = model_of(head), tasks(82, SIZES)
    theta = theta_of(DAMSTF, model, 82)
    alone = cohort.contribute(DAMSTF, model, part(theta, is_head), task, inner()).total
    expected = dict(alone)
    for user, domain in enumerate(HOMES):
        own = {**theta, DOMAIN: domain}
        for name, value in opposed(Primal(model), own, only(task, user), inner()).items():
            expected[name] = expected[name] + value if name in expected else value
    assert set(expected) == set(theta)
    for dual in (False, None):
        memory = {DOMAIN: HOMES}
        sent = cohort.contribute(
            DAMSTF, model, theta, task, inner(), dual=dual, memory=memory
        ).total
        assert distance(sent, expected) < 1e-10
        other = cohort.contribute(
            DAMSTF, model, theta, task, inner(), dual=dual, memory={DOMAIN: HOMES.roll(1)}
        ).total
        assert distance(other, expected) > 1e-3


def test_it_grows_from_nothing() -> None:
    model, mine = model_of("mlp"), only(tasks(83, SIZES), 0)
    theta = {**theta_of(DAMSTF, model, 83), DOMAIN: torch.tensor(1)}
    early, late = (
        opposed(Primal(model), theta, mine, inner(progress=p))["hidden.weight"].norm()
        for p in (0.0, 1.0)
    )
    assert float(early) == 0.0
    assert float(late) > 0.0


def test_who_has_one() -> None:
    """Only where users have domains, and the head a trunk, and nobody has turned it off."""
    with_domains = {"data__domains": 3, "method__name": "damstf"}
    held = _server(**with_domains)
    assert held["adversary/weight"].shape == (3, 5)
    for other in (
        {"method__name": "damstf"},
        {**with_domains, "head__name": "linear"},
        {**with_domains, "method__adversary": 0.0},
    ):
        assert all(is_head(name) for name in _server(**other))


def _server(**values: object) -> Params:
    return initial(problem(**values))


def test_the_trunk_forgets_domains() -> None:
    """The classifier finds a user's domain in most of his examples, or in few more than a third."""
    found = [_separable(weight) for weight in (1e-9, 3.0)]
    assert found[0] > 0.85
    assert found[1] < found[0] - 0.15


def _separable(adversary: float) -> float:
    """Accuracy of the server's classifier after rounds of users whose features tell domains."""
    random = torch.Generator().manual_seed(5)
    model, settings = model_of("mlp"), replace(inner(adversary, 1.0), rate=0.3)
    task = tasks(84, ((8, 0),) * 30)
    homes = torch.arange(30) % DOMAINS
    x = task.support.x.clone()
    x[..., :DOMAINS] += 1.5 * torch.nn.functional.one_hot(homes, DOMAINS)[:, None]
    task = task._replace(support=task.support._replace(x=x))
    theta = {
        n: 0.3 * torch.randn(v.shape, generator=random, dtype=torch.float64)
        for n, v in theta_of(DAMSTF, model, 84).items()
    }
    for _ in range(60):
        sent = cohort.contribute(DAMSTF, model, theta, task, settings, memory={DOMAIN: homes})
        theta = {n: v - 0.5 * sent.total[n] / sent.weight for n, v in theta.items()}
    h = torch.stack([model.head.embed(theta, one) for one in x])
    z = theta["adversary/weight"] @ h + theta["adversary/bias"][:, None]
    return float((z.argmax(1) == homes[:, None]).double().mean())
