"""The rule that leaves out those who want the same, and those who want the opposite."""

import numpy as np
import torch

from fedmeta.robust import aggregate
from fedmeta.robust.rules import RULES, bounded
from fedmeta.sections.robust import RobustConfig
from tests.engine.test_robust_rules import slow_kept

Rows = list[list[float]]


def test_those_who_want_the_same_are_left_out() -> None:
    """Users of lengths like all others', whom no bound and no middle of coordinates tells apart."""
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.normal(size=(20, 200)))
    shared = torch.from_numpy(random.normal(size=200))
    rows[16:] = 0.8 * rows[16:] + 0.6 * shared
    honest = rows[:16].mean(0)

    def drift(name: str) -> float:
        found = RULES[name].apply(bounded(rows, 1.0), 4) - honest
        return float(found @ shared / shared.square().sum())

    assert drift("dissimilar") < 0.02
    assert min(drift(name) for name in RULES if name not in ("dissimilar", "krum")) > 0.05
    nothing = torch.zeros(5, 3, dtype=torch.float64)
    assert torch.equal(RULES["dissimilar"].apply(nothing, 1), nothing[0])


def test_those_who_send_the_opposite_are_left_out() -> None:
    """Four of twenty flip the update that they would have sent; lengths are alike."""
    random = np.random.default_rng(0)
    common = torch.from_numpy(random.normal(size=200))
    rows = 0.5 * common + torch.from_numpy(random.normal(size=(20, 200)))
    rows[16:] *= -1.0

    def along(name: str) -> float:
        found = RULES[name].apply(bounded(rows, 1.0), 4)
        return float(found @ common / common.square().sum())

    honest = float(rows[:16].mean(0) @ common / common.square().sum())
    assert along("dissimilar") > 0.9 * honest > 1.2 * along("norm-bound")


def test_the_largest_array_is_compared() -> None:
    random = np.random.default_rng(0)
    wide, other = (torch.from_numpy(random.normal(size=(9, d))) for d in (12, 5))
    wide[7:] = wide[6]  # alike there, unlike in the rest
    rows = {"a": 9.0 * other, "b": wide.reshape(9, 3, 4)}
    settings = RobustConfig(rule="dissimilar", byzantine=2, norm_bound=0.0)
    flat = torch.cat([rows["a"], wide], 1)
    kept = slow_kept(wide.tolist(), 2)
    assert len(kept) == 3
    assert not {7, 8} & set(kept)
    found = aggregate(settings, rows)
    np.testing.assert_allclose(found["a"].numpy(), flat[kept, :5].mean(0).numpy())
    np.testing.assert_allclose(found["b"].flatten().numpy(), flat[kept, 5:].mean(0).numpy())


def test_who_agrees_in_what_is_compared_is_chosen_in_any_order() -> None:
    """Copies of one array, and its opposites, differ in what is not compared alone."""
    random = np.random.default_rng(0)
    settings = RobustConfig(rule="dissimilar", byzantine=4, norm_bound=0.0)
    for _ in range(20):
        wide = random.normal(size=(17, 40))
        wide[9:13], wide[13:] = 3.0 * wide[8], -7.0 * wide[8]
        rows = {"a": torch.from_numpy(random.normal(size=(17, 2))), "b": torch.from_numpy(wide)}
        order = torch.from_numpy(random.permutation(17))
        found = aggregate(settings, rows)
        other = aggregate(settings, {name: value[order] for name, value in rows.items()})
        for name in rows:
            np.testing.assert_allclose(found[name].numpy(), other[name].numpy(), atol=1e-12)
