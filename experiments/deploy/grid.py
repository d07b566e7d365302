"""Flower's grid of a deployment, watched more closely: replies are taken as they come.

Flower asks for replies every three seconds and hands them over together. Here they are asked for
more often, and each goes on at once, so that a round is over soon after its last reply.
"""

import time
from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from clients import wire
from fedmeta import seeding

POLL = 0.25
"""Seconds between two questions for replies."""


class Watched(Grid):
    """A grid of Flower's whose replies are streamed, and whose nodes are who they say they are."""

    def __init__(self, grid: Grid, poll: float = POLL) -> None:
        """Takes the place of ``grid``."""
        self._grid, self._poll = grid, poll

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
                yield self._himself(reply)
            if waiting:
                time.sleep(self._poll)

    def _himself(self, reply: Message) -> Message:
        """The reply; emptied where a node says that its user is another than its key is for.

        The name is that of the key, which the operator has given to the SuperLink. Nodes without
        keys (``--insecure``) have none, and are believed.
        """
        if reply.has_error() or reply.metadata.message_type != wire.HELLO:
            return reply
        node = reply.metadata.src_node_id
        name = next((info.name for info in self._grid.get_nodes() if info.node_id == node), "")
        try:
            said = wire.read_hello(reply).user
        except (KeyError, TypeError, ValueError):
            return reply  # it is refused as what it is
        if not name or said == f"{seeding.key('user', name):016x}":
            return reply
        print(f"refused: the node of {name!r} says that its user is another", flush=True)
        reply.content = RecordDict()  # which is no answer
        return reply
