"""What the shipped robust rule bears, on generated users and the default encoder (minutes)."""

from pathlib import Path

import pytest

from experiments import settings
from experiments.attack.command import DEFAULT
from experiments.attack.grid import Asked, attack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

UPDATES = ("sign-flip", "random", "zero", "huge", "alie")


def test_two_attackers_of_ten_cost_five_points_at_most(tmp_path: Path) -> None:
    """The bound on lengths and the trimmed mean, in every round two attackers of ten users."""
    config = settings.read(DEFAULT, ["federation.users-per-round=10"])
    asked = Asked(UPDATES, ("trimmed-mean",), 0.2, True)
    found = attack(config, asked, tmp_path / "out").content
    loss = {(run["attack"], run["rule"]): run["loss"]["mean"] for run in found["runs"]}
    assert all(loss[name, "trimmed-mean"] <= 0.05 for name in UPDATES), loss
    # And the attacks are attacks: the mean falls for the loudest of them.
    assert max(loss["sign-flip", "mean"], loss["huge", "mean"]) > 0.08, loss
