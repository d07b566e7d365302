"""One run: users on the chosen backend, Flower's ServerApp in this process, artefacts on disk."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flwr.app import Context, RecordDict

from clients.app import app as client_app
from experiments import artifacts
from experiments.backends import MakeGrid, check_backend, open_backend
from experiments.summary import summarize
from fedmeta.config import Config, flatten
from fedmeta.evaluation import shots_of
from fedmeta.problem import build
from strategies.app import Outcome, make_app
from strategies.events import Event, Listener, RoundDone, ignore

Encoded = Callable[[int, int], None]


class Run(NamedTuple):
    """A finished run: where its artefacts are, what it found, and the summary of that."""

    folder: Path
    outcome: Outcome
    summary: dict[str, Any]


def simulate(
    config: Config,
    out: Path | None = None,
    listener: Listener = ignore,
    encoded: Encoded | None = None,
) -> Run:
    """Run a config and write its folder.

    Args:
        config: what to run.
        out: folder for the artefacts, new or empty; None: `run.out`.
        listener: told about rounds and phases.
        encoded: told (texts encoded, texts in all) while features are computed.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run; nothing is left behind.
        ClientError: a client failed; the folder keeps config and rounds so far.
    """
    began = time.perf_counter()
    artifacts.check_folder(out or config.run.out)
    backbone_s = prepare(config, encoded)
    with open_backend(config.run, client_app) as make_grid:
        startup_s = time.perf_counter() - began - backbone_s
        timings = {"backbone_s": backbone_s, "startup_s": startup_s}
        return run_on(make_grid, config, out, listener, timings)


def prepare(config: Config, encoded: Encoded | None = None) -> float:
    """Check the config and compute features before any worker starts; seconds it took.

    Workers then find the features in the cache, and bad input costs nothing but a message.
    """
    # Flower logs every empty round; what a user should see comes from the listeners.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    began = time.perf_counter()
    shots_of(config)
    check_backend(config.run)
    build(config, encoded)
    return time.perf_counter() - began


def run_on(
    make_grid: MakeGrid,
    config: Config,
    out: Path | None,
    listener: Listener,
    timings: dict[str, float],
) -> Run:
    """Run a config on workers that are up, and write its folder."""
    config = build(config).config
    folder = artifacts.make_folder(out or config.run.out, config.run.name or config.method.name)
    artifacts.write_config(folder, config)

    def tell(event: Event) -> None:
        if isinstance(event, RoundDone):
            artifacts.append_round(folder, event)
        listener(event)

    began = time.perf_counter()
    outcomes: list[Outcome] = []
    memory = config.run.memory or str((folder / "memory").absolute())
    run_config = flatten(config) | {"run.memory": memory}
    server = make_app(outcomes.append, tell)
    grid = make_grid(run_config)
    server(grid, Context(1, 0, {}, RecordDict(), run_config))
    outcome = outcomes[0]
    speed = timings | {
        "rounds_s": outcome.seconds,
        "wall_s": sum(timings.values()) + time.perf_counter() - began,
        "peak_rss_mb": grid.peak_rss_mb(),
    }
    return finish(folder, outcome, speed, config.run.backend)


def finish(folder: Path, outcome: Outcome, speed: dict[str, float], backend: str) -> Run:
    """Write the model, the users' scores and the summary of a finished run."""
    summary = summarize(outcome, speed) | {"backend": backend}
    artifacts.write_model(folder, outcome.meta)
    artifacts.write_users(folder, artifacts.users_table(outcome))
    artifacts.write_json(folder / "summary.json", summary)
    return Run(folder, outcome, summary)
