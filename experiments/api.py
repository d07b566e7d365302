"""What notebooks and scripts call: the runs of the commands, with the commands' defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import comparison, progress, running, settings
from experiments.comparison import DEFAULT_METHODS
from experiments.found import Comparison, Run
from experiments.frontier import asked as axes
from experiments.frontier import pictures, runs
from experiments.frontier.command import DEFAULT as FRONTIER
from experiments.frontier.runs import Frontier
from experiments.report import writing
from fedmeta.config import Config, ConfigError, flatten, parse

Source = Config | Mapping[str, Any] | str | Path | None
"""A config: itself, keys (dotted or nested), a TOML file, or None for the embedded default."""

Changes = Mapping[str, Any] | None
"""Dotted keys that are set after the config was read, as by ``--set``."""


def simulate(
    config: Source = None,
    changes: Changes = None,
    *,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Run a config as ``fedmeta simulate`` does and write its folder, `report.html` included.

    Args:
        config: what to run.
        changes: keys that differ, as in ``{"federation.rounds": 20}``.
        out: new folder for the artefacts; None: `run.out`.
        quiet: shows no progress on standard error.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run; nothing is left behind.
        ClientError: a client failed.
    """
    wanted = config_of(config, changes)
    with progress.Display(quiet) as display:
        label = wanted.run.name or wanted.method.name
        run = running.simulate(wanted, _path(out), display.run(label), display.encoded())
    writing.after(run.folder, wanted.run.report)
    return run


def compare(
    config: Source = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: int = 1,
    changes: Changes = None,
    *,
    baselines: bool = True,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Compare methods on the same users as ``fedmeta compare`` does.

    Args:
        config: of all runs; its method is replaced.
        methods: names, or ``["all"]``.
        seeds: number of seeds, from `run.seed` on.
        changes: keys that differ from the config.
        baselines: add the honest baselines that are not among the methods.
        out: new folder for the artefacts.
        quiet: shows no progress.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run.
        ClientError: a client failed.
    """
    if isinstance(methods, str):
        raise ConfigError(f"methods = {methods!r}: expected a list of names, as in [{methods!r}]")
    wanted = config_of(config, changes)
    with progress.Display(quiet) as display:
        found = comparison.compare(
            wanted,
            methods,
            seeds,
            _path(out),
            display.run,
            display.encoded(),
            baselines=baselines,
            finished=display.runs,
        )
    writing.after(found.folder, wanted.run.report)
    return found


def frontier(
    config: str | Path = FRONTIER,
    changes: Changes = None,
    *,
    methods: str = "",
    mechanisms: str = "",
    epsilons: str = "",
    seeds: int | None = None,
    canaries: int | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Frontier:
    """What privacy costs, as ``fedmeta frontier`` finds it; the arguments are its options.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run.
    """
    file = Path(config)
    asked = axes.asked_for(
        settings.frontier(file),
        methods=methods,
        mechanisms=mechanisms,
        epsilons=epsilons,
        seeds=seeds,
        canaries=canaries,
    )
    wanted = config_of(file, changes)
    with progress.Display(quiet) as display:
        found = runs.run(
            wanted, asked, _path(out), display.run, display.encoded(), finished=display.runs
        )
    pictures.draw(found.folder, found.content)
    writing.after(found.folder, wanted.run.report)
    return found


def config_of(source: Source, changes: Changes = None) -> Config:
    """The validated config of a call.

    Raises:
        ConfigError: no such file, an unknown key, a value that does not fit.
    """
    if isinstance(source, Config):
        return parse(flatten(source) | dict(changes or {}))
    if isinstance(source, Mapping):
        return parse(flatten(parse(source)) | dict(changes or {}))
    if source is None or isinstance(source, str | Path):
        return settings.read(None if source is None else Path(source), flags=changes)
    raise ConfigError(
        f"config of type {type(source).__name__}: expected a path, a dictionary, a Config or None"
    )


def _path(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out)
