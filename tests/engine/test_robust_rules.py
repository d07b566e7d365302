"""Robust rules against plain loops written from the papers' definitions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.robust import aggregate
from fedmeta.robust.rules import RULES, bounded
from fedmeta.sections.robust import RobustConfig

Rows = list[list[float]]


def updates(n: int, d: int, seed: int = 0) -> Tensor:
    """Updates around a point that is not zero, of unequal spread in each coordinate."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(3.0 + random.normal(size=(n, d)) * (1 + np.arange(d)))


def far(rows: Tensor, f: int, value: float = 1e30) -> Tensor:
    """The last f users send the same, far away."""
    out = rows.clone()
    out[len(out) - f :] = value
    return out


def middle(values: list[float]) -> float:
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def krum_order(rows: Rows, f: int) -> list[int]:
    """Users by the sum of squared distances to their n - f - 2 nearest others, the least first."""
    scores = []
    for i, mine in enumerate(rows):
        others = sorted(squared(mine, other) for j, other in enumerate(rows) if j != i)
        scores.append(sum(others[: len(rows) - f - 2]))
    return sorted(range(len(rows)), key=lambda i: scores[i])


def average(rows: Rows) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def slow_median(rows: Rows, f: int) -> list[float]:
    return [middle(list(column)) for column in zip(*rows, strict=True)]


def slow_trimmed(rows: Rows, f: int) -> list[float]:
    kept = [sorted(column)[f : len(rows) - f] for column in zip(*rows, strict=True)]
    return [sum(column) / len(column) for column in kept]


def slow_krum(rows: Rows, f: int) -> list[float]:
    return rows[krum_order(rows, f)[0]]


def slow_multi_krum(rows: Rows, f: int) -> list[float]:
    return average([rows[i] for i in krum_order(rows, f)[: len(rows) - f - 2]])


def slow_bulyan(rows: Rows, f: int) -> list[float]:
    left = list(rows)
    chosen: Rows = []
    while len(chosen) < len(rows) - 2 * f - 2:
        chosen.append(left.pop(krum_order(left, f)[0]))
    out = []
    for column in zip(*chosen, strict=True):
        m = middle(list(column))
        near = sorted(column, key=lambda value: abs(value - m))[: len(chosen) - 2 * f]
        out.append(sum(near) / len(near))
    return out


def cosine(a: list[float], b: list[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(squared(a, [0.0] * len(a)) * squared(b, [0.0] * len(b)))


def slow_kept(rows: Rows, f: int) -> list[int]:
    """Whom `dissimilar` keeps; of equals he goes who is higher in the first coordinate."""
    like = [[cosine(a, b) for b in rows] for a in rows]
    users = range(len(rows))

    def nearest(i: int) -> float:
        return sum(sorted((like[i][j] for j in users if j != i), reverse=True)[: max(f // 2, 1)])

    kept = sorted(users, key=lambda i: (nearest(i), rows[i]))[: len(rows) - 3 * f // 2]
    for _ in range(3 * f // 2):
        kept.remove(min(kept, key=lambda i: (sum(like[i][j] for j in kept if j != i), rows[i])))
    return kept


def slow_dissimilar(rows: Rows, f: int) -> list[float]:
    return average([rows[i] for i in slow_kept(rows, f)])


SLOW: dict[str, Callable[[Rows, int], list[float]]] = {
    "norm-bound": lambda rows, f: average(rows),
    "median": slow_median,
    "trimmed-mean": slow_trimmed,
    "krum": slow_krum,
    "multi-krum": slow_multi_krum,
    "bulyan": slow_bulyan,
    "dissimilar": slow_dissimilar,
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize(("n", "f"), [(11, 2), (12, 2), (16, 3), (7, 1), (5, 0)])
def test_rule_equals_its_definition(name: str, n: int, f: int) -> None:
    for attacked in (False, True):
        rows = updates(n, 4, seed=n) - (3.0 if name == "dissimilar" else 0.0)
        rows = far(rows, f, -50.0) if attacked else rows
        found = RULES[name].apply(rows, f)
        expected = SLOW[name](rows.tolist(), f)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_geometric_median_has_the_least_sum_of_distances() -> None:
    """The gradient of the sum of distances is zero there (no update lies on it)."""
    rows = far(updates(9, 3), 2, 40.0)
    point = RULES["geometric-median"].apply(rows, 2)
    gap = point - rows
    gradient = (gap / gap.norm(dim=1, keepdim=True)).sum(0)
    assert float(gradient.abs().max()) < 1e-9
    assert float(gap.norm(dim=1).min()) > 0.1
    # Of three points with an angle of 120 degrees or more it is the one in the middle.
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
    found = RULES["geometric-median"].apply(line, 1)
    np.testing.assert_allclose(found.numpy(), [1.0, 0.0], atol=1e-9)


def test_bound_scales_the_long_ones_alone() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.6, 0.8], [30.0, 40.0]], dtype=torch.float64)
    # Lengths 5, 1, 1, 50: the lower median is 1.
    found = bounded(rows, 2.0)
    np.testing.assert_allclose(found.norm(dim=1).numpy(), [2.0, 1.0, 1.0, 2.0], rtol=1e-15)
    np.testing.assert_allclose(found[0].numpy(), [1.2, 1.6], rtol=1e-15)
    assert torch.equal(found[1:3], rows[1:3])
    zero = torch.zeros(3, 2, dtype=torch.float64)
    assert torch.equal(bounded(zero, 1.0), zero)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("f", [0, 1, 3])
def test_the_order_of_users_does_not_matter(name: str, f: int) -> None:
    n = max(RULES[name].least(f), 3)
    random = np.random.default_rng(f)
    for size in (n, n + 1):
        rows = far(updates(size, 5, seed=f), f, 7.0)
        rows[1] = rows[0]  # and ties do not
        expected = RULES[name].apply(rows, f)
        for _ in range(5):
            again = RULES[name].apply(rows[random.permutation(size)], f)
            np.testing.assert_allclose(again.numpy(), expected.numpy(), rtol=1e-11)


@pytest.mark.parametrize("name", [name for name in RULES if name != "norm-bound"])
@pytest.mark.parametrize("value", [1e30, -1e6])
def test_f_of_them_cannot_carry_it_off(name: str, value: float) -> None:
    """With the fewest users that it asks for, however far f of them go; one more of them can."""
    f = 2
    n = RULES[name].least(f)
    rows = updates(n, 3)
    honest = rows[: n - f]
    low, high = honest.min(0).values, honest.max(0).values
    room = 2 * (high - low)
    found = RULES[name].apply(far(rows, f, value), f)
    assert bool(((found >= low - room) & (found <= high + room)).all())
    mean = RULES["norm-bound"].apply(far(rows, f, value), f)
    assert float((mean - honest.mean(0)).abs().max()) > 1e5


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "geometric-median"])
def test_a_majority_carries_it_off(name: str) -> None:
    rows = far(updates(5, 3), 3, 1e9)
    assert float(RULES[name].apply(rows, 2).max()) > 1e8


def test_krum_follows_a_crowd_that_is_larger_than_f() -> None:
    """n = 2f + 3 is needed: of 7 with f = 2 four that agree win."""
    rows = far(updates(7, 3), 4, 1e9)
    assert float(RULES["krum"].apply(rows, 2).max()) == 1e9


@pytest.mark.parametrize("rule", [name for name in RULES if name != "dissimilar"])
def test_parameters_are_one_vector(rule: str) -> None:
    flat = updates(11, 7)
    settings = RobustConfig(rule=rule, byzantine=2, norm_bound=0.0)  # type: ignore[arg-type]
    rows = {"b": flat[:, :1].reshape(11), "w": flat[:, 1:].reshape(11, 2, 3)}
    found = aggregate(settings, rows)
    expected = RULES[rule].apply(flat, 2)
    assert torch.equal(found["b"], expected[0])
    assert torch.equal(found["w"], expected[1:].view(2, 3))


def test_settings_of_the_rules() -> None:
    rows = {"w": far(updates(10, 3), 2)}

    def found(**values: float) -> NDArray[np.float64]:
        settings = RobustConfig(rule="trimmed-mean", **values)
        return aggregate(settings, rows)["w"].numpy()

    slow = [slow_trimmed(rows["w"].tolist(), k) for k in range(5)]
    np.testing.assert_allclose(found(norm_bound=0.0), slow[2])
    np.testing.assert_allclose(found(byzantine=0.21, norm_bound=0.0), slow[3])
    np.testing.assert_allclose(found(byzantine=3.0, norm_bound=0.0), slow[3])
    np.testing.assert_allclose(found(trim=0.4, norm_bound=0.0), slow[4])
    lengths = sorted(math.dist(row, [0, 0, 0]) for row in rows["w"].tolist())
    cap = 1.5 * lengths[4]
    short = [
        [x * min(1.0, cap / math.dist(row, [0, 0, 0])) for x in row] for row in rows["w"].tolist()
    ]
    np.testing.assert_allclose(found(norm_bound=1.5), slow_trimmed(short, 2))


def test_too_few_users_are_named() -> None:
    settings = RobustConfig(rule="bulyan", byzantine=3)
    with pytest.raises(ValueError, match=r"n >= 4f \+ 3, that is 15 users, and 11 users are"):
        aggregate(settings, {"w": updates(11, 2)})


def test_a_trim_that_leaves_nobody_is_refused() -> None:
    settings = RobustConfig(rule="trimmed-mean", byzantine=0, trim=0.49)
    with pytest.raises(ValueError, match=r"leaves out 2 of 3 users at each end.* = 0.33 or less"):
        aggregate(settings, {"w": updates(3, 2)})
    with pytest.raises(ValueError, match=r"leaves out 2 of 4 users at each end"):
        aggregate(settings, {"w": updates(4, 2)})
    assert aggregate(settings, {"w": updates(51, 2)})["w"].isfinite().all()
