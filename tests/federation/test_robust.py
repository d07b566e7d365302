"""Robust rules in a run: the loop is the oracle, the order of replies does not show."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from clients.wire import Sum
from fedmeta import cohort, loop
from fedmeta.config import ConfigError
from fedmeta.head_file import weights_sha256
from fedmeta.methods import METHODS
from fedmeta.params import SHARE
from fedmeta.problem import Problem, initial
from fedmeta.robust import RULES
from fedmeta.sections.robust import RobustConfig
from strategies.errors import ClientError
from strategies.robust import Stack
from tests.engine.cases import (
    FITS,
    INNERS,
    distance,
    flat,
    forms,
    model_of,
    only,
    tasks,
    theta_of,
)
from tests.engine.cases import problem as small
from tests.federation.runs import over_inline

OTHERS = ("fedprox", "ditto", "meta-sgd", "fedmd", "maml-pp")
"""One of each kind: a proximal term, what users own, learned rates, logits instead of weights."""


def problem(**values: Any) -> Problem:
    return small(**{"robust__rule": "median", "robust__byzantine": 1.0, **values})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "head"), [("reptile", "mlp"), ("maml", "linear")])
def test_flower_equals_loop(rule: str, name: str, head: str) -> None:
    run = problem(method__name=name, head__name=head, robust__rule=rule)
    outcome = over_inline(run)
    for dtype in (torch.float32, torch.float64):
        *_, state = loop.train(run, dtype)
        assert distance(outcome.last, state.meta) < 1e-6
    *_, plain = loop.train(small(method__name=name, head__name=head), torch.float64)
    assert distance(plain.meta, state.meta) > 1e-3
    assert distance(outcome.last, initial(run)) > 0.01


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_that_send_directions(name: str) -> None:
    run = problem(method__name=name, head__name=FITS[name][0], federation__rounds=2)
    outcome = over_inline(run)
    *_, state = loop.train(run, torch.float64)
    assert distance(outcome.last, state.meta) < 1e-6


@pytest.mark.parametrize("name", ["fedavg", "maml", "fedprox", "meta-sgd"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_contributions_one_by_one_are_those_of_users_alone(name: str, head: str) -> None:
    method, model, inner = METHODS[name], model_of(head), INNERS["minibatch"]
    task, theta = tasks(0), theta_of(METHODS[name], model_of(head), 0)
    for dual in forms(name, head):
        found = cohort.contribute(method, model, theta, task, inner, dual=dual, apart=True)
        assert torch.equal(found.total[SHARE], torch.ones(5, dtype=torch.float64))
        for user in range(5):
            one = only(task, user)
            stacked = type(one)(*(type(s)(*(f[None] for f in s)) for s in one))
            alone = cohort.contribute(method, model, theta, stacked, inner, dual=False)
            mine = {n: v[user] for n, v in found.total.items() if n != SHARE}
            assert float((flat(mine) - flat(alone.total)).norm()) < 1e-12 * float(
                1 + flat(alone.total).norm()
            )


def test_the_order_of_replies_does_not_show() -> None:
    random = np.random.default_rng(0)
    users = [np.array([7, 2]), np.array([9]), np.array([4, 1, 3])]
    terms = [
        Sum(n, {"w": random.normal(size=(len(u), 2)), SHARE: np.ones(len(u))}, 1.0, len(u), [], "")
        for n, u in enumerate(users)
    ]
    settings = RobustConfig(rule="multi-krum", byzantine=1)
    results = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        stack = Stack(settings, lambda term: users[term.chunk])
        for at in order:
            stack.add(terms[at])
        with pytest.raises(ValueError, match="chunk 1 replied twice"):
            stack.add(terms[1])
        assert (stack.users, stack.weight) == (6, 1.0)
        results.append(stack.finish()["w"])
    assert all((found == results[0]).all() for found in results)


def test_replies_with_rows_of_nobody_are_refused() -> None:
    stack = Stack(RobustConfig(rule="median"), lambda term: np.array([1, 2]))
    with pytest.raises(ValueError, match="'w' has 3 rows for 2 users"):
        stack.add(Sum(0, {"w": np.zeros((3, 2))}, 1.0, 2, [], ""))


def test_workers_change_no_bit() -> None:
    given = problem(method__name="maml", head__name="mlp", robust__rule="geometric-median")
    a, b = (over_inline(given, nodes=n) for n in (1, 3))
    assert weights_sha256(a.last) == weights_sha256(b.last)
    again = over_inline(problem(method__name="maml", head__name="mlp", run__seed=1))
    assert weights_sha256(again.last) != weights_sha256(a.last)


def hostile(users: set[int]) -> ClientApp:
    """The app of the tool, but that some users send what is far away."""
    app = ClientApp()
    app.evaluate()(clients.app.evaluate)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        _, order = wire.read_order(message)
        term = wire.read_sum(reply)
        total = {name: value.copy() for name, value in term.total.items()}
        for name, value in total.items():
            if name != SHARE:
                for row, user in enumerate(order.users):
                    if user in users:
                        value[row] = 1e30
        return wire.sum_reply(message, term._replace(total=total))

    return app


@pytest.mark.parametrize("rule", RULES)
def test_one_attacker_in_seven_is_borne(rule: str) -> None:
    alone: dict[str, Any] = {"validation__max_norm": 0.0, "validation__max_ratio": 0.0}
    given = problem(method__name="reptile", head__name="linear", robust__rule=rule, **alone)
    rounds = [loop.cohort_of(given.population, given.config, r).tolist() for r in (1, 2, 3)]
    honest, attacked = over_inline(given), over_inline(given, app=hostile({rounds[0][0]}))
    # Krum passes him over without a trace; `dissimilar` takes five of the seven, and him with them.
    assert (distance(attacked.last, honest.last) > 0) == (rule != "krum")
    assert distance(attacked.last, honest.last) < (1.4 if rule == "dissimilar" else 1.0)


def refusals() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"robust__byzantine": 1.5}, r"robust.byzantine = 1.5: expected a share below 1, or a wh"),
        ({"robust__byzantine": 4.0}, r"'median' bears f = 4 .* n >= 2f \+ 1, that is 9 users, and"
         r" 7 users .* use robust.byzantine = 3 or less"),
        ({"robust__rule": "bulyan", "robust__byzantine": 2.0}, "4f.*11 users, and 7.*= 1 or less.*"
         "trimmed-mean"),
        ({"robust__rule": "norm-bound", "robust__norm_bound": 0.0}, "bounds nobody's length"),
        ({"robust__rule": "dissimilar", "robust__norm_bound": 0.0}, "bounds nobody's length"),
        ({"federation__weighting": "examples"}, "federation.weighting = 'examples'.*'uniform'"),
        ({"method__name": "pfedhn"}, "'pfedhn': each user is sent parameters of his own.*reptile"),
        ({"method__name": "metaadapt"}, "'metaadapt': a user's weight depends on his data"),
        ({"method__name": "multi-task", "head__name": "mlp"}, "'multi-task': users also send"),
        ({"method__name": "meta-fine-tuning"}, "'meta-fine-tuning': users also send"),
    ]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), refusals())
def test_what_has_no_mean_of_directions_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        problem(**values)


@pytest.mark.parametrize("unit", ["user", "example"])
def test_privacy_is_refused(unit: str) -> None:
    with pytest.raises(ConfigError, match=f"privacy.unit = '{unit}': the noise is made for a sum"):
        problem(method__name="reptile", privacy__unit=unit, privacy__noise_multiplier=1.0)


def test_too_few_replies_end_the_run() -> None:
    given = problem(method__name="reptile", robust__byzantine=3.0, run__on_client_error="skip")
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if wire.read_order(message)[1].chunk == 1:
            raise ValueError("gone")
        return clients.app.train(message, context)

    with pytest.raises(ClientError, match=r"round 1: robust.rule = 'median' .* and 4 users are in"):
        over_inline(given, app=app)
