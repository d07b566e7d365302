"""The domain of a user: of one who is judged it is what his support set says, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmeta import cohort, evaluation, loop, seeding, unseen
from fedmeta.data.selection import UNSEEN_FOLD
from fedmeta.params import DOMAIN
from fedmeta.population import homes
from fedmeta.problem import Problem, initial
from tests.engine.cases import problem

SUPPORT = 4


def mixed(unseen: bool) -> Problem:
    """Users with messages of several topics, which are the domains."""
    return problem(
        method__name="multi-task",
        head__name="mlp",
        data__domain_column="topic",
        data__domains=1,
        data__support=SUPPORT,
        data__unseen_items=unseen,
        data__examples=20,
    )


def support_rows(run: Problem, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that the users adapt on, found by their features in the tasks that are judged."""
    stream = seeding.key(run.config.run.seed, "support")
    task = unseen.judging(run.population, users, stream, SUPPORT)
    store, found = run.population.store, []
    for at, user in enumerate(users):
        rows = np.arange(store.offsets[user], store.offsets[user + 1])
        x = run.population.features[run.population.item[rows]]
        seen = task.support.x[at][task.support.weight[at] > 0]
        same = (seen[:, None] == x[None]).all(-1)
        found.append(rows[same.float().argmax(1).numpy()])
    return np.concatenate(found)


def turned(run: Problem, rows: NDArray[np.int64]) -> Problem:
    """The problem with these rows in another domain than they are."""
    store = run.population.store
    assert store.domain is not None
    domain = store.domain.copy()
    domain[rows] = (domain[rows] + 1) % len(store.domains)
    population = replace(run.population, store=replace(store, domain=domain))
    return run._replace(population=population)


@pytest.mark.parametrize("unseen", [False, True])
def test_what_is_scored_has_no_say(unseen: bool) -> None:
    run = mixed(unseen)
    store = run.population.store
    users = store.users("test")
    shown = support_rows(run, users)
    whole = np.concatenate([np.arange(store.offsets[u], store.offsets[u + 1]) for u in users])
    hidden = np.setdiff1d(whole, shown)
    assert len(shown) == SUPPORT * len(users) < len(hidden)
    trial, theta = cohort.Trial(run.adapt, SUPPORT), initial(run)

    def outcome(given: Problem) -> tuple[list[int], bytes]:
        scores = evaluation.evaluate(given, theta, users, [trial])
        return loop.facts_of(given, users, judged=True)[DOMAIN].tolist(), scores.tobytes()

    expected = outcome(run)
    assert store.domain is not None
    for user, home in zip(users, expected[0], strict=True):
        mine = shown[(shown >= store.offsets[user]) & (shown < store.offsets[user + 1])]
        assert np.bincount(store.domain[mine], minlength=len(store.domains)).argmax() == home
    assert outcome(turned(run, hidden)) == expected
    assert outcome(turned(run, shown))[0] != expected[0]
    assert len(set(expected[0])) > 1


def test_training_users_have_that_of_what_they_learn_from() -> None:
    """Of others nothing is known before they show their support set."""
    run = mixed(unseen=True)
    population, store = run.population, run.population.store
    assert store.domain is not None
    assert store.fold is not None
    for user in range(len(store.ids)):
        rows = np.arange(store.offsets[user], store.offsets[user + 1])
        learned = store.domain[rows[store.fold[rows] != UNSEEN_FOLD]]
        expected = np.bincount(learned, minlength=len(store.domains)).argmax()
        assert population.home[user] == (expected if store.split[user] == 0 else -1)
    plain = problem()
    assert not plain.population.home.any()
    assert homes(plain.population.store, np.zeros(3, int), np.arange(3), 2).tolist() == [0, 0]
