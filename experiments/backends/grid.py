"""What the grids of our own share: Flower's abstract methods that no run of ours uses."""

from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from experiments.memory import peak_rss_mb


class LocalGrid(Grid):
    """A grid of logical nodes 1 to n in this process; subclasses move the messages."""

    def __init__(self, nodes: int) -> None:
        """Announces this process to Flower as the server of run 1.

        Raises:
            ValueError: no nodes, for which a run would wait without end.
        """
        if nodes < 1:
            raise ValueError(f"a grid of {nodes} nodes: expected at least one")
        self.nodes = nodes
        # Flower reads these when a message is made; its own runtimes set them the same way.
        TaskIdentity.run_id = 1
        TaskIdentity.node_id = 0
        TaskIdentity.task_id = 0
        self._run = Run.create_empty(1)

    def get_node_ids(self) -> Iterable[int]:
        """The logical nodes."""
        return range(1, self.nodes + 1)

    def peak_rss_mb(self) -> float:
        """Peak resident memory of all processes of the grid, added up."""
        return peak_rss_mb()

    def set_run(self, run: Run) -> None:
        """Flower's runtimes call this; here the run is always run 1."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Deprecated in Flower in favour of ``Message(...)``."""
        raise NotImplementedError("make messages with flwr.app.Message")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not offered: replies are streamed by :meth:`send_and_receive`."""
        raise NotImplementedError("use send_and_receive, which streams replies")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not offered: replies are streamed by :meth:`send_and_receive`."""
        raise NotImplementedError("use send_and_receive, which streams replies")
