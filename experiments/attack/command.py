"""``fedmeta attack``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments import settings
from experiments.options import AsJson, ConfigPath, Device, Out, Resume, Seed, Sets, config_of, show
from experiments.report import writing

DEFAULT = Path(__file__).parent.parent / "configs" / "attack.toml"


def attack(
    config: ConfigPath = None,
    attacks: Annotated[str, typer.Option(help="Comma-separated attacks; empty: all.")] = "",
    rules: Annotated[str, typer.Option(help="Comma-separated rules; empty: all.")] = "",
    share: Annotated[float, typer.Option(help="Share of attackers.")] = 0.2,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="The share holds in every round; else a fixed subset of users attacks."
        ),
    ] = False,
    sets: Sets = None,
    seed: Seed = None,
    device: Device = None,
    out: Out = None,
    resume: Resume = None,
    as_json: AsJson = False,
) -> None:
    """Let some of the users attack, and see what each rule of aggregation bears."""
    from experiments import progress
    from experiments.attack import grid, report

    config = config or settings.left(resume) or DEFAULT
    wanted = config_of(config, sets, seed, None, device)
    asked = grid.Asked(_names(attacks) or grid.Asked().attacks, _names(rules) or grid.RULES)
    with progress.Display(quiet=as_json) as display:
        found = grid.attack(
            wanted,
            asked._replace(share=share, exact=exact),
            out,
            display.run,
            display.encoded(),
            resume,
            display.runs,
        )
    writing.after(found.folder, wanted.run.report)
    show(found.content | {"folder": str(found.folder)}, report.table(found), as_json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
