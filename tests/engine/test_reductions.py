"""Where two methods coincide under some setting, they do; where they differ, they do."""

from dataclasses import replace

import pytest
import torch

from fedmeta import cohort, loop
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.params import add
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from tests.engine.cases import (
    VECTOR_HEADS,
    distance,
    flat,
    model_of,
    only,
    problem,
    tasks,
    theta_of,
)

every_head = pytest.mark.parametrize("head", VECTOR_HEADS)
SAME = {"method__rate": 0.8, "method__steps": 4, "server__optimizer": "sgd", "server__rate": 1.0}


def last(run: Problem) -> Params:
    """The parameters after a whole run of the loop, in float64."""
    *_, state = loop.train(run, torch.float64)
    return state.meta


@every_head
@pytest.mark.parametrize("name", ["maml", "fomaml", "meta-sgd"])
def test_without_inner_steps_it_is_federated_sgd(name: str, head: str) -> None:
    """Inner rate 0: the gradient of the query loss at the server's parameters."""
    method, model, task = METHODS[name], model_of(head), tasks(51)
    theta = theta_of(method, model, 51)
    theta |= {n: torch.zeros_like(v) for n, v in theta.items() if "/" in n}
    expected: Params = {}
    for user in range(len(task.query.weight)):
        expected = add(expected, Primal(model).grad(theta, only(task, user).query))
    found = cohort.contribute(method, model, theta, task, Inner(0.0, 3)).total
    assert distance({n: found[n] for n in expected}, expected) < 1e-12


@every_head
def test_second_derivatives_matter_in_a_run(head: str) -> None:
    runs = [problem(method__name=name, head__name=head) for name in ("maml", "fomaml")]
    maml, fomaml = (last(run) for run in runs)
    assert distance(fomaml, maml) > 1e-3


@every_head
def test_fedavg_is_reptile_with_outer_rate_one(head: str) -> None:
    runs = [last(problem(method__name=n, head__name=head, **SAME)) for n in ("fedavg", "reptile")]
    assert distance(*runs) == 0.0
    half = last(problem(method__name="reptile", head__name=head, **SAME | {"server__rate": 0.5}))
    assert distance(half, runs[0]) > 1e-3


@every_head
def test_fedprox_without_its_term_is_fedavg(head: str) -> None:
    averaged = last(problem(method__name="fedavg", head__name=head, **SAME))
    without = problem(method__name="fedprox", method__mu=0.0, head__name=head, **SAME)
    assert distance(last(without), averaged) == 0.0


@every_head
def test_fedprox_moves_less(head: str) -> None:
    moved = []
    for mu in (0.0, 0.5, 2.0):
        run = problem(
            method__name="fedprox", method__mu=mu, head__name=head, federation__rounds=1, **SAME
        )
        start = initial(run)
        moved.append(float((flat(last(run)) - flat(start)).norm()))
    assert moved[0] > 1.05 * moved[1] > 1.05**2 * moved[2] > 0


@pytest.mark.parametrize("name", ["fedavg", "maml"])
def test_weighting_by_examples(name: str) -> None:
    """A hand-computed weighted mean of contributions, and not the plain one."""
    given = {"federation__weighting": "examples", "federation__rounds": 1}
    run = problem(method__name=name, server__optimizer="sgd", server__rate=1.0, **given)
    users = loop.cohort_of(run.population, run.config, 1)
    task = loop.tasks_of(run, users, 1)
    double = type(task)(*(type(s)(*(f.double() for f in s)) for s in task))
    sizes = run.population.store.sizes()[users].clip(max=4 + 6)
    assert len(set(sizes.tolist())) > 2
    start = {n: v.double() for n, v in initial(run).items()}
    mean: Params = {}
    for user, size in enumerate(sizes.tolist()):
        if run.method.contribute is None:
            raise ValueError
        sent = run.method.contribute(Primal(run.model), start, only(double, user), run.train)
        mean = add(mean, sent, size / float(sizes.sum()))
    assert distance(last(run), add(start, mean, -1.0)) < 1e-12
    uniform = problem(method__name=name, server__optimizer="sgd", server__rate=1.0)
    assert distance(last(replace_rounds(uniform, 1)), last(run)) > 1e-3


def replace_rounds(run: Problem, rounds: int) -> Problem:
    """The same problem with another number of rounds."""
    federation = run.config.federation.model_copy(update={"rounds": rounds})
    return run._replace(config=run.config.model_copy(update={"federation": federation}))


def test_fedavg_and_its_fine_tuned_form_train_alike() -> None:
    tuned = replace(METHODS["fedavg-ft"], name="fedavg", adapt=METHODS["fedavg"].adapt)
    assert tuned.contribute is METHODS["fedavg"].contribute
    runs = [last(problem(method__name=name, **SAME)) for name in ("fedavg", "fedavg-ft")]
    assert distance(*runs) == 0.0
