"""A Ray actor that makes whole runs, server and clients in one process."""

from collections import deque

from flwr.clientapp import ClientApp

from experiments.backends.inline import InlineGrid
from experiments.backends.ray_pool import Worker
from experiments.found import Run
from experiments.jobs import EXPECTED, Job
from experiments.running import run_on
from strategies.events import Event


class Runner(Worker):
    """A worker that has the server too; another of its threads tells how far it is."""

    def __init__(self, app: ClientApp, memory_mb: int = 0) -> None:
        """See :class:`experiments.backends.ray_pool.Worker`."""
        super().__init__(app, memory_mb)
        self._events: deque[Event] = deque()

    def make(self, job: Job, timings: dict[str, float]) -> Run | Exception:
        """The run, without its problem, which no process needs to be told."""
        self._events.clear()
        try:
            run = run_on(
                lambda run_config: InlineGrid(self._app, run_config),
                job.config,
                job.folder,
                self._events.append,
                timings,
                job.resume,
            )
        except EXPECTED as error:
            return error
        return run._replace(outcome=run.outcome._replace(problem=None))  # type: ignore[arg-type]

    def events(self) -> list[Event]:
        """What has happened since it was last asked."""
        return [self._events.popleft() for _ in range(len(self._events))]
