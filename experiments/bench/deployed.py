"""``fedmeta bench deploy``: seconds of a deployed round, over those of an app that does nothing.

Both run on the same SuperLink and nodes, one after the other. The empty app is Flower's floor:
its grid, its processes, no numbers. On one machine nodes share the processors, which no real
deployment does, so few of them train.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments import settings
from experiments.bench import empty_app
from experiments.deploy import demo, layout, link, processes, runs, setup, shipped
from experiments.deploy.layout import Deployment
from fedmeta import facts
from strategies.events import RoundDone

NODES = empty_app.NODES + 2
"""One to validate and one to test."""
PATIENCE = 600.0


def rows(
    say: Callable[[str], None] = lambda line: None, sets: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """One row: seconds of a round, empty and ours, means.

    Flower asks for messages every three seconds, so that rounds of either last 3 s and a bit or
    6 s and a bit, by chance: a median would be one of the two.

    Raises:
        ProcessError: Flower failed.
    """
    with tempfile.TemporaryDirectory(prefix="fedmeta-bench-") as name:
        folder = Path(name)
        deployment = layout.Deployment(
            folder / "deployment",
            ("127.0.0.1",),
            fleet_port=processes.free_port(),
            control_port=processes.free_port(),
            nodes=tuple(f"user{number}" for number in range(NODES)),
        )
        rounds = f"federation.rounds={empty_app.ROUNDS}"
        config = settings.read(None, [*demo.SMALL, rounds, "data.users=20", *sets])
        setup.init(deployment)
        demo.scatter(config, deployment, folder / "users")
        with demo.up(deployment, folder / "users", say):
            say("the empty app")
            empty = _empty(deployment)
            say("fedmeta")
            given = facts.read(deployment.folder / runs.FACTS)
            plan = runs.plan(deployment, config, given, "bench")
            number = runs.begin(deployment, plan, say)
            events = runs.follow(deployment, plan, number)
            ours = [event.seconds for event in events if isinstance(event, RoundDone)]
        yield {
            "nodes": empty_app.NODES,
            "rounds": empty_app.ROUNDS,
            "empty_s": statistics.fmean(empty),
            "ours_s": statistics.fmean(ours),
            "over_s": statistics.fmean(ours) - statistics.fmean(empty),
        }


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """For people."""
    shown = Table(title="seconds of a round over gRPC, with TLS and keys, on this machine")
    for heading in ("nodes", "rounds", "empty app of Flower's", "fedmeta", "difference"):
        shown.add_column(heading, justify="right")
    for row in found:
        seconds = (f"{row[name]:.1f}" for name in ("empty_s", "ours_s"))
        shown.add_row(str(row["nodes"]), str(row["rounds"]), *seconds, f"{row['over_s']:+.1f}")
    return shown


def _empty(deployment: Deployment) -> list[float]:
    """Seconds of the rounds of the empty app."""
    folder = deployment.folder / "empty"
    server, client = "experiments.bench.empty_server", "experiments.bench.empty_client"
    shipped.write(folder, server, client)
    config = deployment.folder / "empty.toml"
    config.write_text("", encoding="utf-8")
    link.begin(deployment, folder, config)
    times = deployment.folder / empty_app.TIMES
    deadline = time.monotonic() + PATIENCE
    while not times.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the empty app did not end within {PATIENCE:.0f} s")
        time.sleep(0.5)
    found: list[float] = json.loads(times.read_text(encoding="utf-8"))
    return found
