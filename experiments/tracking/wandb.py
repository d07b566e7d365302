"""Weights & Biases: a run in the project ``WANDB_PROJECT``; ``WANDB_MODE=offline`` sends nothing.

It is told figures, settings and digests. Its own collecting (code, git, console, packages, load of
the machine) is turned off.
"""

import os
from collections.abc import Mapping

from experiments.tracking.tracker import Ended, Started
from fedmeta.config import ConfigError

PROJECT = "fedmeta"


def check() -> None:
    """Refuse a run that could not report itself, or would stop to ask for a key.

    Raises:
        ConfigError: nobody is logged in, and it is not offline.
    """
    import wandb

    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
        raise ConfigError(
            "run.track has 'wandb' and nobody is logged in; run `wandb login`, or set"
            " WANDB_MODE=offline to keep runs on this machine"
        )


class WandB:
    """Values by round, and the figures of the end as the run's summary."""

    def __init__(self, started: Started) -> None:
        """Begin a run of its own, whatever other runs the process has."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=started.name,
            group=started.group,
            dir=os.environ.get("WANDB_DIR") or str(started.folder),
            config=dict(started.settings),
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                silent=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self._run.log(dict(figures), step=step)

    def result(self, ended: Ended) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self._run.summary.update(dict(ended.figures) | dict(ended.texts))

    def close(self, finished: bool) -> None:
        """See :class:`~experiments.tracking.tracker.Tracker`."""
        self._run.finish(exit_code=0 if finished else 1)
