"""``fedmeta bench``."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType

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
def flower(
    users: Annotated[str, typer.Option(help="Users a round, comma-separated.")] = "1000,10000",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds measured after a first one.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Users per second end to end through Ray, against stock Flower on the same users."""
    from experiments.bench import flower as bench

    _report(bench.rows(bench.cohorts_of(users), rounds, _say), bench.table, as_json)


def _report(
    rows: Iterable[Mapping[str, Any]],
    table: Callable[[Sequence[Mapping[str, Any]]], RenderableType],
    as_json: bool,
) -> None:
    from experiments import tables
    from experiments.artifacts import plain

    found = []
    for row in rows:
        found.append(row)
        if as_json:
            print(json.dumps(plain(dict(row))), flush=True)
    if not as_json:
        tables.show(table(found))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
