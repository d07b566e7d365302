"""Tells the trackers of a run what happens, and keeps their failures away from it."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from experiments.tracking.known import TRACKERS, asked
from experiments.tracking.tracker import Ended, Started, Tracker
from fedmeta.config import Config, flatten
from strategies.events import Event, Resumed, RoundDone

SECTIONS = ("valid", "test", "speed", "clock", "privacy", "best_round", "failed_updates", "support")
"""Parts of a summary whose numbers are told."""
TEXTS = ("method", "seed", "weights_sha256", "model_sha256")
FILES = ("config.toml",)
COUNTS = ("users", "failed", "quarantined", "again", "spent", "seconds")
SECRET = ("failed_updates", "speed/user_updates_per_s")
"""What, beside the counts of rounds, tells which training users came or failed."""


class Following:
    """The trackers of one run that have not failed yet, and what became of the others."""

    def __init__(self, guarded: bool = False) -> None:
        """``guarded``: who takes part is protected, and no count of users is told.

        Counts have no noise, and trackers are often on machines of others.
        """
        self.guarded = guarded
        self.trackers: dict[str, Tracker] = {}
        self.notes: list[str] = []

    def attempt(self, name: str, act: Callable[[], None]) -> None:
        """Do something with a tracker; where that fails it is done with.

        Its package may raise anything. What ends the process (Ctrl-C) is not caught.
        """
        try:
            act()
        except Exception as error:
            self.trackers.pop(name, None)
            why = " ".join(str(error).split())[:300] or type(error).__name__
            self.notes.append(f"WARNING: {name} was told no more of this run, it failed: {why}")
            logging.getLogger(__name__).warning(self.notes[-1])

    def open(self, name: str, started: Started) -> None:
        """Open a tracker."""

        def opened() -> None:
            self.trackers[name] = TRACKERS[name].open(started)

        self.attempt(name, opened)

    def __call__(self, event: Event) -> None:
        """A listener: rounds as they end, and after a resume those before it."""
        if isinstance(event, Resumed):
            for one in event.history:
                self._round(one)
        elif isinstance(event, RoundDone):
            self._round(event)

    def _round(self, event: RoundDone) -> None:
        found = _figures(event, () if self.guarded else COUNTS)
        self._all(lambda tracker: tracker.log(found, event.round))

    def done(self, folder: Path, summary: dict[str, Any]) -> list[str]:
        """Tell the result and close; notes for the summary, one for each tracker that failed."""
        told = {key: summary[key] for key in SECTIONS if summary.get(key) is not None}
        texts = {key: str(summary[key]) for key in TEXTS}
        figures = dict(numbers(told))
        for name in SECRET if self.guarded else ():
            figures.pop(name, None)
        # So that nobody takes it for that of the users of this run.
        if figures.get("privacy/extrapolated") and "privacy/epsilon" in figures:
            figures["privacy/epsilon_extrapolated"] = figures.pop("privacy/epsilon")
        ended = Ended(figures, texts, [folder / name for name in FILES])
        self._all(lambda tracker: tracker.result(ended))
        self.close(True)
        return self.notes

    def close(self, finished: bool) -> None:
        """Close those that are open."""
        self._all(lambda tracker: tracker.close(finished))
        self.trackers.clear()

    def _all(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            self.attempt(name, partial(act, tracker))


@contextmanager
def following(config: Config, folder: Path) -> Iterator[Following]:
    """The trackers that ``run.track`` names, closed however the run ends."""
    follow = Following(config.privacy.unit == "user")
    try:
        for name in asked(config):
            home = folder.absolute()
            follow.open(name, Started(home.name, home.parent.name, home, flatten(config)))
        yield follow
    finally:
        follow.close(False)


def numbers(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of a nested table by path; intervals give two.

    >>> dict(numbers({"gain": {"mean": 0.5, "ci95": [0.25, 1.0]}, "note": "", "loss": math.nan}))
    {'gain/mean': 0.5, 'gain/ci95/low': 0.25, 'gain/ci95/high': 1.0}
    """
    for key, value in tree.items():
        at = f"{path}{key}"
        if key == "ci95" and isinstance(value, list | tuple):
            value = dict(zip(("low", "high"), value, strict=True))
        if isinstance(value, Mapping):
            yield from numbers(value, f"{at}/")
        elif type(value) in (int, float) and math.isfinite(value):
            yield at, float(value)


def _figures(event: RoundDone, counts: Sequence[str]) -> dict[str, float]:
    """The numbers of a round; the measure of validation users where it was evaluated.

    All under ``round/``: MLflow's files admit no name beside names that go on from it.
    """
    found = {name: float(getattr(event, name)) for name in counts}
    if counts:
        found["refused"] = float(sum(event.refused.values()))
    for name in ("valid", "clock"):
        value = getattr(event, name)
        if value is not None and math.isfinite(value):
            found[name] = value
    return {f"round/{name}": value for name, value in found.items()}
