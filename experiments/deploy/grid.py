"""Flower's grid of a deployment, watched more closely: replies are taken as they come.

Flower asks for replies every three seconds and hands them over together. Here they are asked for
more often, and each goes on at once, so that a round is over soon after its last reply.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

POLL = 0.25
"""Seconds between two questions for replies."""


class Watched(Grid):
    """A grid of Flower's whose replies are streamed."""

    def __init__(
        self, grid: Grid, poll: float = POLL, told: Callable[[Message], None] | None = None
    ) -> None:
        """Takes the place of ``grid``; ``told`` sees every reply that comes."""
        self._grid, self._poll, self._told = grid, poll, told

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The same with what the SuperLink knows of them: name and public key."""
        return self._grid.get_nodes()

    def set_run(self, run: Run) -> None:
        """Flower has done it."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Deprecated in Flower in favour of ``Message(...)``."""
        raise NotImplementedError("make messages with flwr.app.Message")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As Flower does."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As Flower does."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies one by one until all are there or the time is over; late ones are not taken."""
        pushed = self._grid.push_messages(list(messages))
        waiting = {number for number in pushed if number}
        began = time.monotonic()
        while waiting and (timeout is None or time.monotonic() - began < timeout):
            for reply in self._grid.pull_messages(list(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                if self._told is not None:
                    self._told(reply)
                yield reply
            if waiting:
                time.sleep(self._poll)
