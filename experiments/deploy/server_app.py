"""The ServerApp of a deployment: ``flwr run DIR/app`` starts it on the server.

Nodes are sent the same settings as it is, and they say nothing of this machine. Where the run is
kept it finds by the folder that was made for these settings; what is begun without one is refused.
"""

import io
import logging
import os
import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console, RenderableType

from experiments import artifacts, settings, tables, tracking
from experiments.deploy import flower, runs
from experiments.deploy.grid import Watched
from experiments.memory import peak_rss_mb
from experiments.running import finish
from fedmeta import facts
from fedmeta.config import Config, ConfigError, parse
from strategies import deployed
from strategies.events import Event, Phase, Resumed, RoundDone

app = ServerApp()
GATHERING = 2.0
"""Round timeouts to wait for all nodes before the first round: they start anew, and read data."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, and write the artefacts; whatever happens, ``ended.json`` says what did."""
    began = time.perf_counter()
    logging.getLogger("flwr").setLevel(logging.WARNING)  # Flower logs every round
    folder = runs.meant(home(), parse(context.run_config))
    with artifacts.hold(folder):
        try:
            _run(grid, folder, began)
        except Exception as error:
            artifacts.write_json(folder / runs.ENDED, {"ok": False, "error": str(error)})
            raise
    artifacts.write_json(folder / runs.ENDED, {"ok": True, "error": ""})


def home() -> Path:
    """The folder of the deployment whose SuperLink started this process.

    Raises:
        ConfigError: it was not started by `fedmeta deploy server`.
    """
    folder, _, part = os.environ.get(flower.MARK, "").rpartition(":")
    if not folder or part != "superlink":
        raise ConfigError(
            f"the environment has no {flower.MARK}: start the SuperLink with `fedmeta deploy"
            f" server DIR`, or with {flower.MARK}=DIR:superlink in its environment"
        )
    return Path(folder)


def _run(grid: Grid, folder: Path, began: float) -> None:
    config: Config = settings.read(folder / "config.toml")
    found = facts.read(folder / runs.FACTS)

    (folder / "rounds.jsonl").unlink(missing_ok=True)  # a checkpoint brings them back
    (folder / runs.SAID).unlink(missing_ok=True)

    def say(text: str) -> None:
        print(text, flush=True)
        with (folder / runs.SAID).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    with tracking.following(config, folder) as follow:

        def tell(event: Event) -> None:
            follow(event)
            if isinstance(event, RoundDone):
                artifacts.append_round(folder, event)
                print(_line(event), flush=True)
            if isinstance(event, Resumed):
                artifacts.rewrite_rounds(folder, event.history)
                say(f"goes on after round {len(event.history)}")
            if isinstance(event, Phase):
                say(event.name)

        outcome = deployed.run(
            Watched(grid),
            config,
            found,
            folder,
            runs.wanted(folder),
            tell,
            say,
            patience=GATHERING * config.run.timeout,
            timeout=config.run.timeout,
        )
        speed = {
            "rounds_s": outcome.seconds,
            "wall_s": time.perf_counter() - began,
            "peak_rss_mb": peak_rss_mb(),
        }
        table = _text(tables.run_table(finish(folder, outcome, speed, "grpc", follow)))
    (folder / runs.TABLE).write_text(table, encoding="utf-8")
    print(table, flush=True)


def _line(event: RoundDone) -> str:
    valid = "" if event.valid is None else f", valid {event.valid:.4f}"
    refused = f", refused {dict(event.refused)}" if event.refused else ""
    away = f", {event.failed} away or failed" if event.failed else ""
    return (
        f"round {event.round}/{event.rounds}: {event.users} users in {event.seconds:.1f} s"
        f"{away}{refused}{valid}"
    )


def _text(what: RenderableType) -> str:
    page = io.StringIO()
    Console(file=page, width=120).print(what)
    return page.getvalue()
