"""Disks that fill up in the middle of a run, clocks that jump, two runs that want one folder."""

import errno
import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.disk import sync_file
from experiments import artifacts
from experiments.running import simulate
from fedmeta.config import ConfigError
from strategies import checkpoint
from strategies.checkpoint import CheckpointError
from strategies.events import Event, RoundDone
from tests.experiments.runs import Result, sets
from tests.experiments.test_resume import config, results


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_checkpoint_ends_the_run_and_loses_nothing(
    error: int, fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the folder and what is saved, and the run goes on once there is room."""
    given = sets(method__name="fedper", federation__rounds=6)
    assert fedmeta("simulate", *given, "--out", "whole").code == 0
    left = 7

    def full(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(error, os.strerror(error))
        sync_file(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync_file", full)
        stopped = fedmeta("simulate", *given, "--out", "run")
    assert stopped.code != 0
    assert "Traceback" not in stopped.err
    for part in ("round 4 cannot be saved", "run/checkpoints", os.strerror(error), "round 3 is",
                 "--resume"):  # fmt: skip
        assert part in " ".join(stopped.err.split()), stopped.err
    assert sorted(checkpoint.rounds(Path("run/checkpoints"))) == [2, 3]
    assert fedmeta("simulate", "--resume", "run").code == 0
    assert results(Path("run")) == results(Path("whole"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_disk_that_takes_no_line_of_a_round_ends_the_run(tmp_path: Path) -> None:
    expected = results(simulate(config("fedper"), tmp_path / "whole").folder)
    lines = tmp_path / "run" / "rounds.jsonl"

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone) and event.round == 5:
            lines.unlink()
            lines.symlink_to("/dev/full")

    with pytest.raises(CheckpointError, match=r"round 6 .*No space left.*--resume"):
        simulate(config("fedper"), tmp_path / "run", listen)
    run = simulate(config("fedper"), resume=tmp_path / "run")
    assert results(run.folder) == expected


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years back and forth within a run, between two and in the times of its files."""
    expected = results(simulate(config("fedper"), tmp_path / "whole").folder)
    jumps, real = itertools.cycle([1e9, -1e9, 0.0, 3e8]), time.time

    class StoppedError(Exception):
        pass

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone):
            for path in (tmp_path / "run" / "checkpoints").rglob("*"):
                os.utime(path, (real() + next(jumps),) * 2)
            if event.round == 9:
                raise StoppedError

    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    with pytest.raises(StoppedError):
        simulate(config("fedper"), tmp_path / "run", listen)
    run = simulate(config("fedper"), resume=tmp_path / "run")
    assert run.outcome.before == 9
    assert results(run.folder) == expected


def _contend(
    folder: Path, shot: tuple[int, int], tried: tuple[int, int], wait: float, new: bool
) -> int:
    """A process that wants the folder at the starting shot; its exit code is 0 if it got it.

    It then keeps it until nobody is left who has not tried.
    """
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        os.close(shot[1])
        os.read(shot[0], 1)  # ends when everybody has closed the other end
        time.sleep(wait)
        if new:
            artifacts.make_folder(folder, "x")
        with artifacts.hold(folder):
            os.close(tried[1])
            os.read(tried[0], 1)
            code = 0
    except ConfigError:
        code = 1
    finally:
        os._exit(code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads
@pytest.mark.parametrize("new", [True, False])
def test_of_two_runs_in_twenty_races_one_gets_the_folder(tmp_path: Path, new: bool) -> None:
    draw = random.Random(0)
    for number in range(20):
        folder = tmp_path / str(number)
        if not new:
            artifacts.make_folder(folder, "x")
        shot, tried = os.pipe(), os.pipe()
        racers = [_contend(folder, shot, tried, 0.002 * draw.random(), new) for _ in range(2)]
        for end in (*tried, *shot):
            os.close(end)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(racer, 0)[1]) for racer in racers)
        assert codes == [0, 1], number
