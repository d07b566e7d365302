"""Which trackers there are, and whether those asked for can be had."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from experiments.tracking import mlflow, tensorboard, wandb
from experiments.tracking.tracker import Open
from fedmeta.config import Config, ConfigError


class Kind(NamedTuple):
    """How a tracker is opened, the package that it needs, and what else is asked beforehand."""

    open: Open
    package: str
    check: Callable[[], None] = lambda: None


TRACKERS = {
    "tensorboard": Kind(tensorboard.TensorBoard, "tensorboard"),
    "mlflow": Kind(mlflow.MLflow, "mlflow"),
    "wandb": Kind(wandb.WandB, "wandb", wandb.check),
}


def asked(config: Config) -> list[str]:
    """The names in ``run.track``, each once."""
    names = [name.strip() for name in config.run.track.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def check(config: Config) -> None:
    """Refuse trackers that cannot be had; asked before a run costs time.

    Raises:
        ConfigError: an unknown name, a package that is missing, nobody logged in.
    """
    for name in asked(config):
        if name not in TRACKERS:
            raise ConfigError(
                f"run.track = {config.run.track!r}: expected some of {', '.join(TRACKERS)},"
                " separated by commas"
            )
        kind = TRACKERS[name]
        if find_spec(kind.package) is None:
            raise ConfigError(
                f"run.track = {config.run.track!r}: {name} is not installed; run"
                " `pip install 'fedmeta[tracking]'`"
            )
        kind.check()
