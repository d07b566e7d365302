"""``fedmeta frontier``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments import settings
from experiments.options import AsJson, Backend, ConfigPath, Device, Out, Resume, Seed, Sets, show
from experiments.report import writing

DEFAULT = Path(__file__).parent.parent / "configs" / "frontier.toml"


def frontier(
    config: ConfigPath = None,
    methods: Annotated[str, typer.Option(help="Comma-separated methods.")] = "",
    mechanisms: Annotated[
        str, typer.Option(help="Comma-separated, as in user/gaussian,example/gaussian.")
    ] = "",
    epsilons: Annotated[
        str, typer.Option(help="Comma-separated, as in 0.5,1,2,4,8; infinity is always run.")
    ] = "",
    seeds: Annotated[int | None, typer.Option(help="Number of seeds.")] = None,
    canaries: Annotated[
        int | None, typer.Option(help="Canaries of the audit at each epsilon; 0: no audit.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    backend: Backend = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = None,
    as_json: AsJson = False,
) -> None:
    """Run methods at several epsilons: what does privacy cost, and where does it stop paying?"""
    from experiments import progress
    from experiments.frontier import asked as axes
    from experiments.frontier import pictures, report, runs

    file = settings.left(resume) or config or DEFAULT
    wanted = settings.read(
        file, sets or (), {"run.seed": seed, "run.backend": backend, "run.device": device}
    )
    table = axes.left(resume) if resume else settings.frontier(file)
    asked = axes.asked_for(
        table,
        methods=methods,
        mechanisms=mechanisms,
        epsilons=epsilons,
        seeds=seeds,
        canaries=canaries,
    )
    with progress.Display(quiet=as_json) as display:
        found = runs.run(wanted, asked, out, display.run, display.encoded(), resume, display.runs)
    pictures.draw(found.folder, found.content)
    writing.after(found.folder, wanted.run.report)
    show(found.content | {"folder": str(found.folder)}, report.table(found), as_json)
