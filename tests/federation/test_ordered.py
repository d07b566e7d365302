"""The running sum does not depend on the order of arrival, to the last bit."""

import itertools

import numpy as np
import pytest

from clients.wire import Sum
from strategies.ordered import OrderedSum


def terms(count: int) -> list[Sum]:
    """Terms of very different sizes, so that another order gives other bits."""
    random = np.random.default_rng(5)
    return [
        Sum(
            chunk,
            {"w": random.normal(size=40) * 10.0 ** random.integers(-6, 6, size=40)},
            float(random.uniform(0.1, 2)),
            int(random.integers(1, 9)),
            [],
            "",
        )
        for chunk in range(count)
    ]


def added(order: list[Sum]) -> OrderedSum:
    ordered = OrderedSum()
    for term in order:
        ordered.add(term)
    return ordered


def test_every_order_of_arrival_gives_the_same_bits() -> None:
    given = terms(5)
    expected = given[0].total["w"]
    for term in given[1:]:
        expected = expected + term.total["w"]
    naive = set()
    for order in itertools.permutations(given):
        ordered = added(list(order))
        np.testing.assert_array_equal(ordered.finish()["w"], expected)
        assert ordered.weight == added(given).weight
        assert ordered.users == sum(term.users for term in given)
        naive.add(sum(term.total["w"] for term in order).tobytes())  # type: ignore[union-attr]
    assert len(naive) > 1  # the terms would tell


@pytest.mark.parametrize("waiting", [False, True])
def test_a_second_reply_is_refused(waiting: bool) -> None:
    ordered, given = OrderedSum(), terms(3)
    ordered.add(given[2 if waiting else 0])
    with pytest.raises(ValueError, match="replied twice"):
        ordered.add(given[2 if waiting else 0])


def test_a_missing_chunk_is_passed_over_at_the_end_only() -> None:
    given = terms(5)
    ordered = added([given[4], given[0], given[3], given[1]])
    np.testing.assert_array_equal(ordered.total["w"], given[0].total["w"] + given[1].total["w"])
    expected = given[0].total["w"] + given[1].total["w"] + given[3].total["w"] + given[4].total["w"]
    np.testing.assert_array_equal(ordered.finish()["w"], expected)
    assert ordered.users == sum(given[i].users for i in (0, 1, 3, 4))
    assert ordered.weight == pytest.approx(sum(given[i].weight for i in (0, 1, 3, 4)))


def test_what_is_given_stays_as_it_is() -> None:
    given = terms(3)
    copies = [term.total["w"].copy() for term in given]
    added(given).finish()
    assert all(np.array_equal(a, t.total["w"]) for a, t in zip(copies, given, strict=True))


def test_few_terms_wait_when_replies_are_nearly_in_order() -> None:
    given = terms(60)
    order = [given[i ^ 1] for i in range(60)]  # neighbours swapped
    ordered, most = OrderedSum(), 0
    for term in order:
        ordered.add(term)
        most = max(most, len(ordered._waiting))
    assert most == 1
    assert not ordered._waiting


def test_nothing() -> None:
    ordered = OrderedSum()
    assert ordered.finish() == {}
    assert (ordered.weight, ordered.users) == (0.0, 0)
