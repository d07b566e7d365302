"""``fedmeta report``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File; of one folder: its report.html, of several: ./report.html."),
    ] = None,
    plots: Annotated[
        bool,
        typer.Option("--plots", help="Also each plot as PNG and SVG and each table as LaTeX."),
    ] = False,
) -> None:
    """Write the report of a run anew, or one of several runs side by side."""
    from experiments.report import writing

    page = writing.page_of(runs)
    path = out or (runs[0] / writing.FILE if len(runs) == 1 else Path(writing.FILE))
    writing.write(page, path)
    print(path)
    if plots:
        from experiments.report import static

        for made in static.write(page, path.parent / "plots"):
            print(made)
