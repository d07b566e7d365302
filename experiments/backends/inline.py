"""The inline backend: the same ServerApp and ClientApp in one process, without Ray."""

from collections.abc import Iterable, Iterator

from flwr.app import Message
from flwr.clientapp import ClientApp

from experiments.backends.grid import LocalGrid
from experiments.backends.serve import context_of, reply_to
from fedmeta.config import Scalar


class InlineGrid(LocalGrid):
    """Calls the app for one message after the other; deterministic and easy to debug."""

    def __init__(self, app: ClientApp, run_config: dict[str, Scalar], nodes: int = 1) -> None:
        """A grid of ``nodes`` logical nodes that run ``app``."""
        super().__init__(nodes)
        self._app = app
        self._contexts = {node: context_of(run_config, node, nodes) for node in range(1, nodes + 1)}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies one by one, each made when it is asked for."""
        for message in messages:
            yield reply_to(self._app, message, self._contexts[message.metadata.dst_node_id])
