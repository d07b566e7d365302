"""The ServerApp for Flower's own command: ``flwr run .`` runs what ``fedmeta simulate`` runs."""

import time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from experiments import artifacts, tables, tracking
from experiments.memory import peak_rss_mb
from experiments.running import finish
from fedmeta import unread
from fedmeta.config import parse
from fedmeta.problem import build
from fedmeta.turns import check_turns
from strategies.app import run
from strategies.events import Event, RoundDone

_BEGAN = time.perf_counter()
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, write the artefacts and print the table.

    Flower starts the app in a folder of its own, so `run.out` should name a full path. A folder
    in use is refused before anything is computed, and rounds are written as they end.
    """
    settings = parse(context.run_config).run
    artifacts.check_folder(settings.out)
    began = time.perf_counter()
    given = parse(context.run_config)
    problem = build(given)
    unread.check(given, [given.method.name], problem.population.store.task)
    check_turns(problem)
    tracking.check(given)
    backbone_s = time.perf_counter() - began
    folder = artifacts.make_folder(settings.out, settings.name or problem.config.method.name)
    artifacts.write_config(folder, problem.config)

    with tracking.following(problem.config, folder) as follow:

        def tell(event: Event) -> None:
            follow(event)
            if isinstance(event, RoundDone):
                artifacts.append_round(folder, event)
                if event.valid is not None:
                    print(
                        f"round {event.round}/{event.rounds}: valid {event.valid:.4f}", flush=True
                    )

        outcome = run(grid, problem, tell)
        speed = {
            "backbone_s": backbone_s,
            "startup_s": began - _BEGAN,
            "rounds_s": outcome.seconds,
            "wall_s": time.perf_counter() - _BEGAN,
            "peak_rss_mb": peak_rss_mb(),
        }
        tables.show(tables.run_table(finish(folder, outcome, speed, "flower", follow)))
