"""The ServerApp for Flower's own command: ``flwr run .`` runs what ``fedmeta simulate`` runs."""

import time

from experiments import artifacts, tables
from experiments.memory import peak_rss_mb
from experiments.simulate import finish
from strategies.app import Outcome, make_app
from strategies.events import RoundDone

_BEGAN = time.perf_counter()


def report(outcome: Outcome) -> None:
    """Write the artefacts of a run and print its table.

    Flower starts the app in a folder of its own, so `run.out` should name a full path.
    """
    config = outcome.problem.config
    folder = artifacts.make_folder(config.run.out, config.run.name or config.method.name)
    artifacts.write_config(folder, config)
    for event in outcome.history:
        artifacts.append_round(folder, event)
    speed = {
        "backbone_s": 0.0,
        "startup_s": 0.0,
        "rounds_s": outcome.seconds,
        "wall_s": time.perf_counter() - _BEGAN,
        "peak_rss_mb": peak_rss_mb(),
    }
    tables.show(tables.run_table(finish(folder, outcome, speed, backend="flower")))


def _say(event: object) -> None:
    if isinstance(event, RoundDone) and event.valid is not None:
        print(f"round {event.round}/{event.rounds}: valid {event.valid:.4f}", flush=True)


app = make_app(report, _say)
