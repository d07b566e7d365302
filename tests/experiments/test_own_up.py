"""The epsilon of a summary is never less than the ledger's."""

from pathlib import Path
from typing import Any

import pytest

from clients import ledger
from clients.ledger import EVERYBODY, Budget, Release
from experiments.running import _own_up
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.event import Charge, Event

ONCE: Charge = ((Event(4.0, 0.25),),)
DELTA = 1e-5


def told(rounds: int) -> float:
    return epsilon(((Event(4.0, 0.25, rounds),),), DELTA)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_round_that_was_released_again_with_fresh_noise_is_told(
    fresh: bool, tmp_path: Path
) -> None:
    # Three rounds, a crash after the second that no checkpoint knows of, and both once more.
    for number in (1, 2, 1, 2, 3):
        sign = "" if fresh else f"theta {number}"
        release = Release("server", number, sign, ONCE)
        assert ledger.charge(tmp_path, [EVERYBODY], release, Budget(0.0, DELTA)).all()
    summary: dict[str, Any] = {"privacy": {"epsilon": told(3), "delta": DELTA}, "notes": []}
    _own_up(tmp_path, summary)
    assert summary["privacy"]["epsilon"] == pytest.approx(told(5 if fresh else 3), rel=1e-9)
    assert len(summary["notes"]) == fresh


def test_without_a_ledger_or_a_claim_nothing_is_told(tmp_path: Path) -> None:
    for claim in (None, {"epsilon": 1.0, "delta": DELTA}):
        summary: dict[str, Any] = {"privacy": claim, "notes": []}
        _own_up(tmp_path, summary)
        assert summary == {"privacy": claim, "notes": []}
