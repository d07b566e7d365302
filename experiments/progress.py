"""Live progress on a terminal, plain lines elsewhere; always on standard error."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from strategies.events import Event, Listener, Phase, Resumed, RoundDone

EVERY = 5.0
"""Seconds between plain lines."""


class Display:
    """Rounds, users per second, remaining time and validation measure of each run."""

    def __init__(self, quiet: bool = False) -> None:
        """``quiet`` shows nothing at all; remaining time of several runs counts from here."""
        self._console = Console(stderr=True, quiet=quiet)
        self._live = self._console.is_terminal and not quiet
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._live,
        )
        self._said = 0.0
        self._began = time.perf_counter()
        self._all: TaskID | None = None

    def __enter__(self) -> Self:
        """Start the live display."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def encoded(self) -> "Encoding":
        """A listener for the encoding of texts."""
        return Encoding(self)

    def run(self, label: str) -> Listener:
        """A listener for one run."""
        bar: TaskID | None = None
        measure = ""
        began, first = 0.0, 1

        def tell(event: Event) -> None:
            nonlocal bar, measure, began, first
            if isinstance(event, Resumed):
                done = len(event.history)
                first = done + 1
                self.line(f"{label}: goes on after round {done}", urgent=True)
                return
            if isinstance(event, Phase):
                self.line(f"{label}: {event.name}", urgent=False)
                if bar is not None:
                    self._bars.update(bar, note=f"{measure} {event.name}")
                return
            if bar is None:
                bar = self._bars.add_task(label, total=event.rounds, note="")
                began = time.perf_counter()  # after the first round, in which workers load the data
            if event.valid is not None:
                measure = f"valid {event.valid:.3f}"
            note = f"{event.users / max(event.seconds, 1e-9):,.0f} users/s  {measure}"
            self._bars.update(bar, completed=event.round, note=note)
            elapsed = time.perf_counter() - began
            urgent = event.round == event.rounds or bool(event.why) or not event.counted
            self.line(_line(label, event, note, elapsed, first), urgent)

        return tell

    def runs(self, done: int, total: int) -> None:
        """``done`` of ``total`` runs of a comparison are over."""
        if total < 2:
            return
        elapsed = time.perf_counter() - self._began
        left = f"about {elapsed / done * (total - done):.0f} s left" if done < total else "done"
        self._all = self.bar("runs", done, total, self._all)
        self.line(f"{done} of {total} runs in {elapsed:.0f} s, {left}", urgent=True)

    def bar(self, label: str, done: int, total: int, bar: TaskID | None) -> TaskID:
        """Advance a bar of its own, made at the first call."""
        if bar is None:
            bar = self._bars.add_task(label, total=total, note="")
        self._bars.update(bar, completed=done)
        return bar

    def line(self, text: str, urgent: bool) -> None:
        """A plain line, at most one in :data:`EVERY` seconds unless it is urgent."""
        if not self._live and (urgent or time.monotonic() - self._said >= EVERY):
            self._said = time.monotonic()
            self._console.print(text, highlight=False, markup=False)


class Encoding:
    """Counts texts while they are encoded."""

    def __init__(self, display: Display) -> None:
        """Shown on ``display`` from the first batch on."""
        self._display = display
        self._bar: TaskID | None = None

    def __call__(self, done: int, total: int) -> None:
        """``done`` of ``total`` texts are encoded."""
        self._bar = self._display.bar("encoding texts", done, total, self._bar)
        self._display.line(f"encoding texts: {done}/{total}", urgent=done == total)


def _line(label: str, event: RoundDone, note: str, elapsed: float, first: int) -> str:
    text = f"{label}: round {event.round}/{event.rounds}  {note}"
    if event.why:
        text += f"  refused {sum(event.refused.values())}, first {event.why}"
    if not event.counted:
        text += f"  does not count: {event.failed} users are missing"
    if event.round <= first:
        return text
    return f"{text}  {elapsed / (event.round - first) * (event.rounds - event.round):.0f} s left"
