"""``fedmeta audit``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.options import AsJson, ConfigPath, Seed, Sets, config_of, show
from experiments.report import writing


def audit(
    config: ConfigPath = None,
    parts: Annotated[
        str,
        typer.Option(help="Comma-separated: canaries, inversion, membership; empty: all."),
    ] = "",
    users: Annotated[
        int | None, typer.Option(help="Training users; none: as many as the data have.")
    ] = None,
    canaries: Annotated[int, typer.Option(help="Canaries.")] = 2000,
    repeats: Annotated[int, typer.Option(help="Audits, each under a seed of its own.")] = 1,
    sets: Sets = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the result, or a .json file for it alone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack the privacy mechanism of a config, and set what is found beside the claim."""
    import torch

    from experiments import artifacts
    from experiments.audit import report

    wanted = config_of(config, sets, seed, "inline", "cpu")
    names = tuple(name.strip() for name in parts.split(",") if name.strip())
    torch.set_num_threads(1)
    if out is None or out.suffix != ".json":
        artifacts.check_folder(out or wanted.run.out)
    found = report.run(wanted, names, users, canaries, repeats)
    if out and out.suffix == ".json":
        report.write(found, out)
    else:
        flags = {"parts": ",".join(names), "users": users, "canaries": canaries, "repeats": repeats}
        folder = report.keep(wanted, found, flags, out)
        writing.after(folder, wanted.run.report)
    show(found, report.table(found), as_json)
