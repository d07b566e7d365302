"""The ``fedmeta`` command."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from experiments import settings
from experiments.attack.command import attack
from experiments.audit.command import audit
from experiments.bench.command import app as bench
from experiments.deploy.command import app as deploy
from experiments.frontier.command import frontier
from experiments.options import (
    AsJson,
    Backend,
    ConfigPath,
    Device,
    OnError,
    Out,
    Resume,
    Seed,
    Sets,
    config_of,
    show,
)
from experiments.report import writing
from experiments.report.command import report
from experiments.serving.command import register as serving
from experiments.sweep.command import sweep
from fedmeta import __version__
from fedmeta.config import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Federated personalization: simulate users, compare methods, see what it buys.",
)


@app.command()
def simulate(
    config: ConfigPath = None,
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    on_client_error: OnError = None,
    out: Out = None,
    resume: Resume = None,
    as_json: AsJson = False,
) -> None:
    """Train one method over simulated users and judge it on users it has never seen."""
    from experiments import progress, tables
    from experiments import running as runner

    config = config or settings.left(resume)
    wanted = config_of(config, sets, seed, backend, device, on_client_error)
    with progress.Display(quiet=as_json) as display:
        label = wanted.run.name or wanted.method.name
        run = runner.simulate(wanted, out, display.run(label), display.encoded(), resume)
    writing.after(run.folder, wanted.run.report)
    show(run.summary | {"folder": str(run.folder)}, tables.run_table(run), as_json)


@app.command()
def compare(
    config: ConfigPath = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated methods, or all that fit head and data.")
    ] = "",
    baselines: Annotated[
        bool | None,
        typer.Option("--baselines/--no-baselines", help="Add the honest baselines; yes."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds; 1.")] = None,
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    on_client_error: OnError = None,
    out: Out = None,
    resume: Resume = None,
    as_json: AsJson = False,
) -> None:
    """Run several methods on the same users and say which differences are real."""
    from experiments import comparison as runner
    from experiments import progress, selection, tables

    config = config or settings.left(resume)
    wanted = config_of(config, sets, seed, backend, device, on_client_error)
    default = selection.Plan(list(runner.DEFAULT_METHODS))
    usual = selection.planned(resume) if resume else default
    names = [name.strip() for name in methods.split(",") if name.strip()]
    with progress.Display(quiet=as_json) as display:
        found = runner.compare(
            wanted,
            names if methods else usual.methods,
            usual.seeds if seeds is None else seeds,
            out,
            display.run,
            display.encoded(),
            resume,
            usual.baselines if baselines is None else baselines,
            display.runs,
        )
    writing.after(found.folder, wanted.run.report)
    show(found.content | {"folder": str(found.folder)}, tables.compare_table(found), as_json)


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, heads, data or backbones.")],
    as_json: AsJson = False,
) -> None:
    """List what there is: methods, heads, data sources or backbones."""
    from experiments import listing

    rows = listing.rows(what)
    show(rows, listing.table(what, rows), as_json)


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A file, hf:NAME, preferences or digits.")],
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Show users, examples and labels of a data set, and a config for it."""
    from experiments import inspect as inspection

    found = inspection.inspect(settings.read(None, sets or (), {"data.source": data}))
    show(found, inspection.table(found), as_json)


@app.command()
def epsilon(
    config: ConfigPath = None,
    users: Annotated[
        int | None, typer.Option(help="Training users; none: as many as the data have.")
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run will cost in privacy, and what noise an epsilon of 1, 2, 4, 8 takes."""
    from experiments import epsilon as accounting

    found = accounting.query(config_of(config, sets, None, None, None), users)
    show(found, accounting.table(found), as_json)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="An experiment of docs/results.md, or list.")],
    data: Annotated[Path | None, typer.Option(help="Its data file, or the folder of it.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment whose result is documented, and say what was claimed of it."""
    from experiments import comparison as runner
    from experiments import few_shot, listing, progress, tables
    from experiments import reproduce as named

    if name == "list":
        rows = named.rows()
        show(rows, listing.table("experiments", rows), as_json)
        return
    with progress.Display(quiet=as_json) as display:
        if name in few_shot.PROBES:
            file = named.data_file(few_shot.PROBES[name].file, data)
            result = few_shot.probe(name, file, display.encoded(), device or "cpu")
            show(result, tables.probe_text(result), as_json)
            return
        flags = {"run.seed": seed, "run.backend": backend, "run.device": device}
        wanted = named.config_of(name, data, sets or [], flags)
        experiment = named.EXPERIMENTS[name]
        found = runner.compare(
            wanted, experiment.methods, seeds, out, display.run, display.encoded()
        )
        content = named.result(name, wanted, found)
    writing.after(found.folder, wanted.run.report)
    show(content, tables.claimed_table(found, content), as_json)


app.command()(sweep)
app.command()(attack)
app.command()(frontier)
app.command()(audit)
app.command()(report)
serving(app)
app.add_typer(bench, name="bench")
app.add_typer(deploy, name="deploy")


def _version(value: bool) -> None:
    if value:
        print(f"fedmeta {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    # Flower and Ray phone home unless told otherwise; a privacy tool does not.
    for name, value in {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Run the command; errors of the user's are one line and exit code 2, failures exit code 1."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        ours = isinstance(error, ConfigError) or type(error).__module__.startswith(
            ("fedmeta", "clients", "strategies", "experiments")
        )
        if isinstance(error, ValueError) and ours:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if ours:
            print(f"failed: {error}", file=sys.stderr)
        else:
            last = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"failed: {type(error).__name__}: {error} ({Path(last.filename).name}:"
                f"{last.lineno}); run `fedmeta --debug ...` for the traceback",
                file=sys.stderr,
            )
        sys.exit(1)
