"""What a run under user-level privacy tells outside its folder.

Nobody who came, and no more than it may claim.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.report import run_page
from experiments.running import simulate
from experiments.tracking import known
from experiments.tracking.tracker import Ended, Started
from fedmeta.config import parse
from tests.experiments.runs import TINY

COHORT = 1000


class Hearing:
    """Remembers the names of what it is told."""

    def __init__(self, started: Started) -> None:
        self.names: set[str] = set()
        HEARD.append(self)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.names |= set(figures)

    def result(self, ended: Ended) -> None:
        self.names |= set(ended.figures)

    def close(self, finished: bool) -> None:
        pass


HEARD: list[Hearing] = []


@pytest.mark.parametrize("unit", ["off", "user"])
def test_nobody_who_came_is_told(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known.TRACKERS, "hearing", known.Kind(Hearing, "sys"))
    given: dict[str, Any] = {"method.name": "reptile", "run.track": "hearing", "run.canaries": 0}
    if unit == "user":
        given |= {"privacy.unit": unit, "privacy.noise-multiplier": 1.0, "privacy.delta": 1e-4}
        given |= {"privacy.noise-cohort-size": COHORT}
    run = simulate(parse(TINY | given), tmp_path / "run")
    names = HEARD[-1].names
    counts = {"round/users", "round/failed", "round/refused", "failed_updates"}
    assert {"round/valid", "test/after/accuracy_macro"} <= names
    if unit == "off":
        assert counts <= names
        return
    assert {name for name in names if name.startswith("round/")} == {"round/valid"}
    assert not (counts | {"speed/user_updates_per_s", "privacy/epsilon"}) & names
    assert "privacy/epsilon_extrapolated" in names
    page = run_page.page_of([run.folder], "summary")
    (traffic,) = [plot for plot in page.plots if plot.key == "bytes"]
    assert "Who took part is protected" in traffic.missing
    (claim,) = [plot for plot in page.plots if plot.key == "privacy"]
    assert "Extrapolated" in claim.caption
    column = [name for name, _ in page.tables[0].columns].index("epsilon")
    assert page.tables[0].rows[0][column].text.endswith("extrapolated")
