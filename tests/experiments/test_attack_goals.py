"""What the shipped robust rule bears, on generated users and the default encoder (minutes)."""

from pathlib import Path

import pytest

from experiments import settings
from experiments.attack.command import DEFAULT
from experiments.attack.grid import Asked, attack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

UPDATES = ("sign-flip", "random", "zero", "huge", "alie")


def test_two_attackers_of_ten_cost_five_points_at_most(tmp_path: Path) -> None:
    """In every round two attackers of ten users, and all rules bound the lengths of updates.

    The loss is against the mean that nobody attacks, so what a rule costs by itself is in it; the
    trimmed mean leaves out one value at each end, since leaving out two costs five points alone.
    """
    config = settings.read(DEFAULT, ["federation.users-per-round=10", "robust.trim=0.1"])
    rules = ("norm-bound", "trimmed-mean", "geometric-median")
    found = attack(config, Asked(UPDATES, rules, 0.2, True), tmp_path / "out").content
    loss = {(run["attack"], run["rule"]): run["loss"]["mean"] for run in found["runs"]}
    assert all(loss[name, rule] <= 0.05 for name in UPDATES for rule in rules), loss
    # And the attacks are attacks: the mean falls for the loudest of them.
    assert min(loss["sign-flip", "mean"], loss["huge", "mean"]) > 0.08, loss
