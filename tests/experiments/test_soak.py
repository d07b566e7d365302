"""Long runs: memory, threads and open files stay where they were after the first rounds."""

import gc
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.running import simulate
from fedmeta.config import parse
from strategies.events import Event, RoundDone
from tests.experiments.runs import TINY

WARM = 50
"""Rounds after which everything that is kept has been met."""
MOST_MB = 20.0


class Usage(NamedTuple):
    """What a process holds: resident memory in MB, threads, open files."""

    rss_mb: float
    threads: int
    files: int


def usage() -> Usage:
    """Of this process, from the system's own books."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Usage(
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["Threads"]),
        len(os.listdir("/proc/self/fd")),
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's files and processes
@pytest.mark.parametrize(
    ("backend", "method", "rounds"),
    [("inline", "maml", 500), ("inline", "fedper", 500), ("ray", "maml", 150)],
)
def test_nothing_grows(tmp_path: Path, backend: str, method: str, rounds: int) -> None:
    """50 users a round; the server's process, in which inline users live as well."""
    seen: dict[int, Usage] = {}

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone) and (event.round >= WARM and event.round % WARM == 0):
            gc.collect()
            seen[event.round] = usage()

    values = {
        "method.name": method,
        "run.backend": backend,
        "data.users": 400,
        "federation.rounds": rounds,
        "federation.users-per-round": 50,
        "federation.chunk": 25,
        "evaluation.every": 10,
    }
    simulate(parse(TINY | values), tmp_path / "run", listen)
    first, last = seen[WARM], seen[rounds]
    print(f"\n{backend} {method}: {first} after {WARM} rounds, {last} after {rounds}")
    assert last.rss_mb - first.rss_mb <= MOST_MB, seen
    assert last.threads <= first.threads, seen
    assert last.files <= first.files, seen
