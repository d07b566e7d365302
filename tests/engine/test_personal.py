"""A personal model says what evaluation finds for its user, whatever the method and the form."""

import pytest
import torch

from fedmeta import cohort, personal
from fedmeta.cohort import Trial
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.params import DOMAIN, KEY
from tests.engine.cases import (
    DOMAINS,
    INNERS,
    PAIRS,
    forms,
    model_of,
    tasks,
    theta_of,
    varied,
)

SIZES = ((4, 3), (2, 5), (7, 1), (3, 2))


@pytest.mark.parametrize(("name", "head", "kind", "inner"), varied(PAIRS)[::2])
def test_says_what_evaluation_does(name: str, head: str, kind: str, inner: str) -> None:
    method, model, how = METHODS[name], model_of(head, kind), INNERS[inner]
    theta, task = theta_of(method, model, 51), tasks(51, SIZES, kind, pad=1)
    facts = {}
    if "domains" in method.needs:
        facts[DOMAIN] = torch.arange(len(SIZES)) % DOMAINS
    if "key" in method.needs:
        facts[KEY] = torch.arange(len(SIZES)) * 2**40 + 7
    [expected] = cohort.predict(method, model, theta, task, [Trial(how, 99)], facts)
    for dual in forms(name, head, training=False):
        mine = personal.personalize(method, model, theta, task.support, how, facts, dual)
        found = personal.answer(method, model, theta, mine, task.query.x, how)
        for user, (_, queries) in enumerate(SIZES):
            torch.testing.assert_close(
                found[user, :, :queries], expected[user, :, :queries], rtol=1e-11, atol=1e-12
            )


def test_is_of_the_head_alone() -> None:
    """What a method keeps beside the head (rates, a public set) is no part of a personal model."""
    for name, head in PAIRS:
        method, model = METHODS[name], model_of(head)
        theta, task = theta_of(method, model, 52), tasks(52, SIZES)
        given = [own for need, own in (("domains", DOMAIN), ("key", KEY)) if need in method.needs]
        facts = {own: torch.zeros(len(SIZES), dtype=torch.int64) for own in given}
        mine = personal.personalize(method, model, theta, task.support, Inner(0.5, 2), facts)
        if personal.remembers(method):
            assert {n for n in mine if not n.startswith("own/")} == {
                "support/x",
                "support/y",
                "support/weight",
            }
        else:
            wanted = {n: v.shape for n, v in model.head.init(torch.Generator()).items()}
            assert {n: v.shape[1:] for n, v in mine.items()} == wanted, name
