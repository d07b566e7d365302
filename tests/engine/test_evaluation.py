"""Judging: before and after on the same query, plain means, honest choice of the inner loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from fedmeta import evaluation, seeding, unseen
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from tests.engine.cases import only, predicted, problem
from tests.engine.test_predict import cut

FACTS = {"domains", "key"}


def theta_of(run: Problem) -> Params:
    """Not the initialization, which for a linear head is zero."""
    random = torch.Generator().manual_seed(3)
    return {n: v + 0.3 * torch.randn(v.shape, generator=random) for n, v in initial(run).items()}


# Those that know more of a user than his examples are left to their own tests.
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.needs & FACTS])
def test_scores_are_plain_accuracies_of_each_user(name: str) -> None:
    """No moving average, no leak: the numbers that anybody would compute by hand."""
    run = problem(method__name=name, head__name=METHODS[name].head or "mlp")
    theta, users = theta_of(run), run.population.store.users("test")
    trials = [Trial(run.adapt, 0), Trial(run.adapt, 4)]
    scores = evaluation.evaluate(run, theta, users, trials)
    task = unseen.judging(run.population, users, seeding.key(0, "support"), 4)
    learner = Primal(run.model)
    for at in range(len(users)):
        mine = only(task, at)
        labels = mine.query.y.argmax(0).numpy()
        for trial, given in ((0, cut(task, at, 0)), (1, mine)):
            said = predicted(run.method, learner, theta, given, run.adapt).argmax(0).numpy()
            assert scores[trial, 0, at] == pytest.approx(accuracy_score(labels, said))
            assert scores[trial, 3, at] == len(labels)


def test_every_trial_is_scored_on_the_same_query() -> None:
    run = problem(head__name="mlp")
    users, theta = run.population.store.users("test"), theta_of(run)
    many = evaluation.evaluate(run, theta, users, [Trial(run.adapt, k) for k in (0, 1, 2, 4)])
    assert (many[:, 3] == many[0, 3]).all()
    assert (many[0, 3] == run.population.store.sizes()[users] - 4).all()
    alone = evaluation.evaluate(run, theta, users, [Trial(run.adapt, 4)])
    np.testing.assert_array_equal(alone[0], many[3])
    assert not np.array_equal(many[0, 2], many[3, 2])


def test_users_are_scored_independently_of_each_other() -> None:
    run = problem(head__name="mlp")
    users, theta = run.population.store.users("test"), theta_of(run)
    together = evaluation.evaluate(run, theta, users, [Trial(run.adapt, 4)])
    for at in range(len(users)):
        alone = evaluation.evaluate(run, theta, users[at : at + 1], [Trial(run.adapt, 4)])
        np.testing.assert_allclose(alone[..., 0], together[..., at], rtol=1e-5)


def test_shots() -> None:
    def shots(text: str) -> list[int]:
        return evaluation.shots_of(problem(evaluation__shots=text).config)

    assert shots("") == shots("99") == [0, 4]
    assert shots("3, 1,1") == [0, 1, 3, 4]
    for text in ("1,x", "-1", "1.5"):
        with pytest.raises(ConfigError, match=r"evaluation\.shots"):
            shots(text)


@pytest.mark.parametrize("name", METHODS)
def test_candidates(name: str) -> None:
    run = problem(method__name=name, evaluation__tune=True, method__adapt_steps=7)
    options = evaluation.candidates(run)
    assert run.adapt in options
    gentle = [option.rate * option.steps for option in options]
    assert gentle == sorted(gentle)
    assert len(set(options)) == len(options)
    assert all(replace(o, rate=run.adapt.rate, steps=7) == run.adapt for o in options)
    assert (len(options) > 1) == run.method.personalizes
    assert evaluation.candidates(problem(method__name=name)) == [problem(method__name=name).adapt]
