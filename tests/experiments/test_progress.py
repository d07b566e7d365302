"""Progress: a live display on a terminal, plain lines elsewhere, nothing when asked to be quiet."""

import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from experiments import progress
from experiments.progress import Display
from strategies.events import Phase, RoundDone


def rounds(display: Display, count: int = 3, label: str = "maml [bold]") -> None:
    tell = display.run(label)
    for number in range(1, count + 1):
        tell(RoundDone(number, count, 50, 0, 0.5, 0.7 if number == count else None))
    tell(Phase("tuning"))
    tell(Phase("judging"))


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A pseudo terminal as standard error; the list has what was written to it, at the end."""
    master, slave = pty.openpty()
    parts: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(master, 4096):
                parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    written: list[str] = []
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr("sys.stderr", file)
            yield written
    finally:
        reader.join(timeout=10)
        os.close(master)
        written.append(b"".join(parts).decode())


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Display() as display:
        display.encoded()(64, 640)
        display.encoded()(640, 640)
        rounds(display)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = err.splitlines()
    assert lines[:2] == ["encoding texts: 64/640", "encoding texts: 640/640"]
    assert lines[2].startswith("maml [bold]: round 1/3  100 users/s")
    assert lines[3].startswith("maml [bold]: round 2/3  100 users/s")
    assert lines[3].endswith(" s left")
    assert lines[4].startswith("maml [bold]: round 3/3  100 users/s  valid 0.700")
    assert lines[5:] == ["maml [bold]: tuning", "maml [bold]: judging"]


def test_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """At most one in a while, but the last round always."""
    with Display() as display:
        rounds(display, 500)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 3
    assert any("round 500/500" in line for line in lines)


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=True) as display:
        display.encoded()(640, 640)
        rounds(display)
    assert capsys.readouterr() == ("", "")


def test_live(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal(monkeypatch) as written, Display() as display:
        display.encoded()(640, 640)
        rounds(display)
    (text,) = written
    assert "\x1b[?25l" in text  # the cursor is hidden ...
    assert "\x1b[?25h" in text  # ... and comes back
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    for part in ("encoding texts", "640/640", "maml [bold]", "3/3", "valid 0.700 judging"):
        assert part in shown
    assert "round 3/3" not in shown  # no plain lines between the bars
    assert capsys.readouterr().out == ""


def test_the_terminal_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        with Display() as display:
            rounds(display)
            raise KeyboardInterrupt

    with terminal(monkeypatch) as written, pytest.raises(KeyboardInterrupt):
        stopped()
    assert written[0].rindex("\x1b[?25h") > written[0].rindex("\x1b[?25l")


def test_quiet_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as written, Display(quiet=True) as display:
        rounds(display)
    assert written == [""]
