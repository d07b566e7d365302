"""Laws of what users own, for every method that leaves something with them.

The contract suite meets newcomers; here users come with what earlier rounds left them.
"""

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.method import held
from fedmeta.params import DOMAIN, KEY, OWN, SHARE, add, part
from fedmeta.types import Params, Task, Update
from tests.engine.cases import (
    DOMAINS,
    FEDERATED,
    FITS,
    INNERS,
    SIZES,
    distance,
    flat,
    forms,
    model_of,
    only,
    select,
    tasks,
    theta_of,
)

USERS = len(SIZES)
FACTS = (DOMAIN, KEY)
"""What is told to a user anew in each round: he has it, but nothing of it is left by a round."""


def changing(params: Params) -> dict[str, Tensor]:
    """What rounds change; a key is so large that nothing else would count beside it."""
    return part(params, lambda name: name not in FACTS)


def owns(name: str, head: str) -> bool:
    method = METHODS[name]
    return method.own is not None and bool(
        changing(method.own(theta_of(method, model_of(head), 61)))
    )


OWNING = [(n, head) for n in FEDERATED for head in FITS[n] if owns(n, head)]
every_pair = pytest.mark.parametrize(("name", "head"), OWNING)


def memory_of(name: str, theta: Params, seed: int) -> dict[str, Tensor]:
    """What users might own after some rounds: each something else; facts are always the same."""
    random = torch.Generator().manual_seed(seed)
    own = METHODS[name].own
    assert own is not None
    fresh = own(theta)
    told = torch.Generator().manual_seed(60)
    facts = {
        DOMAIN: torch.randint(DOMAINS, (USERS,), generator=told),
        KEY: torch.randint(-(2**63), 2**63 - 1, (USERS,), generator=told),
    }
    left = {
        key: value + 0.2 * torch.randn(USERS, *value.shape, generator=random, dtype=value.dtype)
        for key, value in changing(fresh).items()
    }
    return left | part(facts, lambda key: key in fresh)


def run(
    name: str, head: str, task: Task, inner: Inner, memory: Params, dual: bool = False
) -> Update:
    method, model = METHODS[name], model_of(head)
    theta = theta_of(method, model, 61)
    return cohort.contribute(method, model, theta, task, inner, dual=dual, memory=memory)


def given(name: str, head: str, seed: int = 61) -> dict[str, Tensor]:
    return memory_of(name, theta_of(METHODS[name], model_of(head), 61), seed)


@pytest.mark.parametrize("inner", INNERS)
@every_pair
def test_chunk_equals_loop(name: str, head: str, inner: str) -> None:
    method, model, task, memory = METHODS[name], model_of(head), tasks(61), given(name, head)
    theta = theta_of(method, model, 61)
    assert method.contribute is not None
    total: Params = {}
    kept: list[Params] = []
    for user in range(USERS):
        mine = {key: value[user] for key, value in memory.items()}
        start = held(method, theta, mine)
        sent = method.contribute(Primal(model), start, only(task, user), INNERS[inner])
        leaves = part(sent, lambda key: not key.startswith((OWN, SHARE)))
        total = add(total, leaves, float(sent.get(SHARE, 1.0)))
        kept.append(part(sent, lambda key: key.startswith(OWN)))
    for dual in forms(name, head):
        found = run(name, head, task, INNERS[inner], memory, dual)
        assert distance(found.total, total) < 1e-12
        assert set(found.kept) == set(memory)
        for user in range(USERS):
            row = {key: value[user] for key, value in found.kept.items()}
            assert distance(changing(row), changing(kept[user])) < 1e-12


@every_pair
def test_what_is_kept_is_what_a_newcomer_owns(name: str, head: str) -> None:
    memory = given(name, head)
    for dual in forms(name, head):
        kept = run(name, head, tasks(62), INNERS["full"], memory, dual).kept
        assert {n: v.shape for n, v in kept.items()} == {n: v.shape for n, v in memory.items()}
        assert all(n.startswith(OWN) for n in kept)
        assert all(torch.equal(kept[n], memory[n]) for n in FACTS if n in memory)
        for user in range(USERS):  # every user's changes: all of them have examples
            before, after = (
                {n: v[user] for n, v in changing(side).items()} for side in (memory, kept)
            )
            assert distance(after, before) > 1e-3


@every_pair
def test_everybody_keeps_his_own(name: str, head: str) -> None:
    """Users in another order, or in other chunks, keep and send the same."""
    memory, task = given(name, head), tasks(63)
    order = [3, 0, 4, 2, 1]
    turned = {key: value[order] for key, value in memory.items()}
    for dual in forms(name, head):
        whole = run(name, head, task, INNERS["minibatch"], memory, dual)
        other = run(name, head, select(task, order), INNERS["minibatch"], turned, dual)
        assert distance(other.total, whole.total) < 1e-12
        for key, value in whole.kept.items():
            torch.testing.assert_close(other.kept[key], value[order], rtol=1e-12, atol=1e-13)
        alone = {key: value[2:3] for key, value in memory.items()}
        one = run(name, head, select(task, [2]), INNERS["minibatch"], alone, dual)
        for key, value in whole.kept.items():
            torch.testing.assert_close(one.kept[key], value[2:3], rtol=1e-12, atol=1e-13)


@every_pair
def test_memory_matters(name: str, head: str) -> None:
    kept = [
        changing(run(name, head, tasks(64), INNERS["full"], given(name, head, seed)).kept)
        for seed in (1, 2)
    ]
    assert float((flat(kept[0]) - flat(kept[1])).norm() / flat(kept[1]).norm()) > 1e-2


@every_pair
def test_a_user_who_diverges_keeps_nothing(name: str, head: str) -> None:
    """Neither does he spoil what others keep; the rows are those of the others."""
    memory, task = given(name, head), tasks(65)
    whole = run(name, head, task, INNERS["full"], memory)
    task.support.x[1] = torch.nan
    found = run(name, head, task, INNERS["full"], memory)
    assert found.finite.tolist() == [True, False, True, True, True]
    for key, value in whole.kept.items():
        torch.testing.assert_close(found.kept[key], value[[0, 2, 3, 4]], rtol=1e-12, atol=1e-13)
