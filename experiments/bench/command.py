"""``fedmeta bench``."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from experiments.options import Backend, ConfigPath, Out, Seed, Sets, config_of

app = typer.Typer(no_args_is_help=True, help="Measure how fast this machine runs it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines for a machine to read.")]


@app.command()
def engine(as_json: AsJson = False) -> None:
    """Users per second of the engine, of a plain PyTorch loop, and what the machine could do."""
    from experiments.bench import engine as bench

    _report(bench.rows(say=_say), bench.table, as_json)


@app.command()
def privacy(
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn.")] = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Users per second of example-level DP-SGD, of the engine and of a loop over Opacus."""
    from experiments.bench import private as bench

    _report(bench.rows(seconds, repeats, _say), bench.table, as_json)


@app.command()
def methods(
    methods: Annotated[str, typer.Option(help="Comma-separated methods; all that send.")] = "",
    seconds: Annotated[float, typer.Option(min=0.01, help="Length of a turn.")] = 0.5,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each method.")] = 3,
    as_json: AsJson = False,
) -> None:
    """User updates per second of every method in the engine, relative to FedAvg in this run."""
    from experiments.bench import methods as bench

    _report(bench.rows(bench.federated(methods), seconds, repeats, _say), bench.table, as_json)


@app.command()
def heads(
    heads: Annotated[str, typer.Option(help="Comma-separated heads; all.")] = "",
    encoder: Annotated[str, typer.Option(help="Folder of the encoder in the loop.")] = "",
    turns: Annotated[int, typer.Option(min=1, help="Turns of each head.")] = 3,
    as_json: AsJson = False,
) -> None:
    """What each head costs: parameters, bytes a round, seconds a user."""
    from experiments.bench import heads as bench

    _report(bench.rows(heads, encoder, turns, _say), bench.table, as_json)


@app.command()
def ph(
    config: ConfigPath = None,
    data: Annotated[Path | None, typer.Option(help="The data file, or the folder of it.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Users whose models are stored.")] = 1000,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """The Personalization Head: heads of four sizes, full fine-tuning, frozen prototypes."""
    from experiments import reproduce
    from experiments.bench import personal_heads as bench

    wanted = config_of(config or reproduce.CONFIGS / bench.CONFIG, sets, seed, None, None)
    wanted = reproduce.located(wanted, data)
    _report(bench.rows(wanted, users, _say), bench.table, as_json)


@app.command()
def features(
    config: ConfigPath = None,
    texts: Annotated[int, typer.Option(min=2, help="Texts that are encoded.")] = 512,
    turns: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Texts per second of feature extraction, and of a bare transformers loop."""
    from experiments.bench import features as bench

    wanted = config_of(config, sets, None, None, None)
    _report(iter([bench.row(wanted, texts, turns)]), bench.table, as_json)


@app.command()
def encoders(
    config: ConfigPath = None,
    layers: Annotated[str, typer.Option(help="Layers kept, comma-separated; 0: all.")] = "1,2,4,0",
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The same run over an encoder cut after a layer: size, seconds per 1,000 texts, accuracy."""
    from experiments.bench import encoders as bench

    wanted = config_of(config, sets, seed, backend, None)
    folder = out or Path(wanted.run.out or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-encoders")
    _report(bench.rows(wanted, layers, folder, _say), bench.table, as_json)


@app.command()
def whole(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of a chunk.")] = 32,
    turns: Annotated[int, typer.Option(min=1, help="Tasks that both sides are timed on.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Tasks per second of a whole model (Conv4, second order) in the engine and in a loop."""
    from experiments.bench import whole as bench

    _report(iter([bench.row(tasks, turns)]), bench.table, as_json)


@app.command()
def flower(
    users: Annotated[str, typer.Option(help="Users a round, comma-separated.")] = "1000,10000",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds measured after a first one.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Users per second end to end through Ray, against stock Flower on the same users."""
    from experiments.bench import flower as bench

    _report(bench.rows(bench.cohorts_of(users), rounds, _say), bench.table, as_json)


@app.command()
def serve(
    users: Annotated[int, typer.Option(min=1, help="Users, and requests: one of each.")] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Latency of `fedmeta serve` with MiniLM under a steady load, and heads-only throughput."""
    from experiments.bench import serve as bench

    _report(bench.rows(users, rate, _say), bench.table, as_json)


@app.command()
def deploy(as_json: AsJson = False) -> None:
    """Seconds of a round with real nodes, over those of an app of Flower's that does nothing."""
    from experiments.bench import deployed as bench

    _report(bench.rows(_say), bench.table, as_json)


def _report(
    rows: Iterable[Mapping[str, Any]],
    table: Callable[[Sequence[Mapping[str, Any]]], RenderableType],
    as_json: bool,
) -> None:
    from experiments import tables
    from experiments.plain import plain

    found = []
    for row in rows:
        found.append(row)
        if as_json:
            print(json.dumps(plain(dict(row))), flush=True)
    if not as_json:
        tables.show(table(found))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
