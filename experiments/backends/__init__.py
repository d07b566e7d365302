"""Where clients run: inline in this process, or on Ray actors. Results are the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flwr.clientapp import ClientApp

from experiments.backends.grid import LocalGrid
from fedmeta.config import Scalar
from fedmeta.sections.run import RunConfig

MakeGrid = Callable[[dict[str, Scalar]], LocalGrid]


def check_backend(settings: RunConfig) -> None:
    """Refuse what :func:`open_backend` would refuse, before data and features cost time.

    Raises:
        ConfigError: more workers than CPUs.
    """
    if settings.backend == "ray":
        from experiments.backends.ray_pool import workers_for

        workers_for(settings.workers)


@contextmanager
def open_backend(settings: RunConfig, app: ClientApp) -> Iterator[MakeGrid]:
    """A maker of grids over one set of workers, which serves any number of runs.

    Raises:
        ConfigError: more workers than CPUs.
    """
    if settings.backend == "inline":
        from experiments.backends.inline import InlineGrid

        yield lambda run_config: InlineGrid(app, run_config)
        return
    from experiments.backends.ray_grid import RayGrid
    from experiments.backends.ray_pool import gpus_of, pool

    with pool(app, settings.workers, gpus_of(settings), settings.memory_limit) as workers:
        yield lambda run_config: RayGrid(workers, run_config)
