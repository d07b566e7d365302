"""``fedmeta sweep``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.options import AsJson, Backend, Device, Out, Resume, Seed, Sets, show
from experiments.report import writing


def sweep(
    what: Annotated[
        str, typer.Argument(help="TOML file, or heterogeneity; none: the embedded default.")
    ] = "",
    over: Annotated[
        list[str] | None,
        typer.Option(help="Key and its values, as in data.heterogeneity=0,0.5,1; repeatable."),
    ] = None,
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "",
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods at several values of a setting: when does which of them pay?"""
    from experiments import progress
    from experiments.sweep import points, report

    flags = {"run.seed": seed, "run.backend": backend, "run.device": device}
    plan = points.plan(Path(what) if what else None, over or [], sets or [], flags, resume)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    with progress.Display(quiet=as_json) as display:
        found = points.run(
            plan,
            names if methods else points.usual(),
            seeds,
            out,
            resume,
            display.run,
            display.encoded(),
            display.runs,
        )
    report.draw(found.folder, found.content)
    writing.after(found.folder, plan.config.run.report)
    show(found.content | {"folder": str(found.folder)}, report.table(found), as_json)
