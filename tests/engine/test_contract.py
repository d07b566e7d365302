"""Laws that every method keeps with every head: an added one is covered by itself.

A chunk in the plain form, in the dual form and a loop over single users agree; padding,
permuting and re-chunking users changes nothing.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.params import add
from fedmeta.types import Params, Task
from tests.engine.cases import (
    FEDERATED,
    INNERS,
    PAIRS,
    SIZES,
    distance,
    forms,
    model_of,
    one_by_one,
    select,
    tasks,
    theta_of,
    varied,
)

EXACT, CLOSE = 1e-12, 1e-6
ALIGNED = ((6, 3), (6, 3), (6, 2))
SENDING = [(name, head) for name, head in PAIRS if name in FEDERATED]
every_pair = pytest.mark.parametrize(("name", "head"), SENDING)


def total(
    name: str, head: str, task: Task, inner: Inner, dual: bool, weight: Tensor | None = None
) -> Params:
    model, method = model_of(head), METHODS[name]
    theta = theta_of(method, model, 21, task.support.x.dtype)
    return cohort.contribute(method, model, theta, task, inner, weight, dual=dual).total


@pytest.mark.parametrize(("name", "head", "kind", "inner"), varied(SENDING))
def test_chunk_equals_loop(name: str, head: str, kind: str, inner: str) -> None:
    method, model = METHODS[name], model_of(head, kind)
    theta = theta_of(method, model, 22)
    weights = [1.5, 2.0, 0.25, 3.0, 1.0]
    for sizes in (SIZES, ALIGNED):
        task = tasks(22, sizes, kind)
        w = weights[: len(sizes)]
        expected = one_by_one(method, model, theta, task, INNERS[inner], w)
        for dual in forms(name, head):
            update = cohort.contribute(
                method, model, theta, task, INNERS[inner], torch.tensor(w), dual=dual
            )
            assert distance(update.total, expected) < EXACT
            if not method.weighs:
                assert float(update.weight) == sum(w)
            assert update.finite.tolist() == [True] * len(sizes)


@every_pair
def test_chunk_equals_loop_in_float32(name: str, head: str) -> None:
    method, model = METHODS[name], model_of(head)
    theta = theta_of(method, model, 23, torch.float32)
    task = tasks(23, dtype=torch.float32)
    # Prototypes of features that are scaled by up to 3: their squared norms cost a digit.
    close = 3 * CLOSE if head == "scale-shift" else CLOSE
    expected = one_by_one(method, model, theta, task, INNERS["full"])
    for dual in forms(name, head):
        found = cohort.contribute(method, model, theta, task, INNERS["full"], dual=dual).total
        assert all(value.dtype == torch.float64 for value in found.values())
        assert distance(found, expected) < close
        singles = [
            cohort.contribute(method, model, theta, select(task, [u]), INNERS["full"], dual=dual)
            for u in range(len(SIZES))
        ]
        assert distance(_added([one.total for one in singles]), found) < close


@every_pair
def test_wide_first_layers(name: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide layers meet all users in one product; here that is every layer."""
    monkeypatch.setattr("fedmeta.gram.WIDE", 1)
    method, model = METHODS[name], model_of(head)
    theta, task = theta_of(method, model, 29), tasks(29)
    expected = one_by_one(method, model, theta, task, INNERS["full"])
    for dual in forms(name, head):
        found = cohort.contribute(method, model, theta, task, INNERS["full"], dual=dual)
        assert distance(found.total, expected) < EXACT


@every_pair
def test_padding_and_order_change_nothing(name: str, head: str) -> None:
    for inner in ("full", "minibatch", "larger"):
        for dual in forms(name, head):
            expected = total(name, head, tasks(24), INNERS[inner], dual)
            wide = _padded(tasks(24), 3)
            assert distance(total(name, head, wide, INNERS[inner], dual), expected) < EXACT
            turned = select(tasks(24), [3, 0, 4, 2, 1])
            assert distance(total(name, head, turned, INNERS[inner], dual), expected) < EXACT


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    cut=st.integers(1, 4),
    seed=st.integers(0, 1000),
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=5, max_size=5),
    inner=st.sampled_from(sorted(INNERS)),
)
@every_pair
def test_chunks_add_up(
    name: str, head: str, cut: int, seed: int, sizes: list[tuple[int, int]], inner: str
) -> None:
    task = tasks(seed, [(4, 3), *sizes])
    for dual in forms(name, head):
        whole = total(name, head, task, INNERS[inner], dual)
        parts = [select(task, range(cut)), select(task, range(cut, 6))]
        added = _added([total(name, head, part, INNERS[inner], dual) for part in parts])
        assert distance(added, whole) < EXACT


@every_pair
def test_support_and_query_are_both_used(name: str, head: str) -> None:
    """A user's sent sum depends on the support always, and on the query if the method splits."""
    task = tasks(25)
    other = tasks(26)
    expected = total(name, head, task, INNERS["full"], False)
    support = total(name, head, task._replace(support=other.support), INNERS["full"], False)
    query = total(name, head, task._replace(query=other.query), INNERS["full"], False)
    assert distance(support, expected) > 1e-2
    assert (distance(query, expected) > 1e-2) == METHODS[name].splits


@every_pair
def test_what_is_sent_has_the_servers_names_and_shapes(name: str, head: str) -> None:
    method, model = METHODS[name], model_of(head)
    theta = theta_of(method, model, 27)
    for dual in forms(name, head):
        sent = total(name, head, tasks(27), INNERS["full"], dual)
        if method.finish:
            sent = method.finish(sent, theta)
        assert {n: v.shape for n, v in sent.items()} == {n: theta[n].shape for n in sent}
        assert all(v.isfinite().all() and v.count_nonzero() for v in sent.values())


def test_forms_that_do_not_apply_are_refused() -> None:
    task, model = tasks(28), model_of("linear")
    meta_sgd, local = METHODS["meta-sgd"], METHODS["local"]
    with pytest.raises(ValueError, match="per-weight rates"):
        total("meta-sgd", "linear", task, INNERS["full"], True)
    with pytest.raises(ValueError, match="nothing to contribute"):
        cohort.contribute(local, model, theta_of(meta_sgd, model, 1), task, INNERS["full"])


def _added(parts: list[Params]) -> Params:
    out: Params = {}
    for part in parts:
        out = add(out, part)
    return out


def _padded(task: Task, more: int) -> Task:
    """More padding, with copies of real examples."""

    sides = []
    for x, y, weight in task:
        sides.append(
            task.support._replace(
                x=torch.cat([x, x[:, :1].expand(-1, more, -1)], 1),
                y=torch.cat([y, y[..., :1].expand(-1, -1, more)], 2),
                weight=torch.cat([weight, torch.zeros(len(weight), more)], 1),
            )
        )
    return Task(*sides)
