"""One client node: calls a ClientApp, and turns what it raises into an error reply."""

import traceback

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmeta.config import Scalar

CLIENT_APP_RAISED = 2
"""Flower's error code for an exception in a ClientApp (`ErrorCode.CLIENT_APP_RAISED_EXCEPTION`)."""


def context_of(run_config: dict[str, Scalar], node: int, nodes: int) -> Context:
    """The context of a node, as Flower would give it."""
    return Context(
        run_id=1,
        node_id=node,
        node_config={"partition-id": node - 1, "num-partitions": nodes},
        state=RecordDict(),
        run_config=run_config,
    )


def reply_to(app: ClientApp, message: Message, context: Context) -> Message:
    """The app's reply, or an error reply with the traceback, which in simulation is ours to see."""
    try:
        return app(message, context)
    except Exception:
        return Message(Error(CLIENT_APP_RAISED, traceback.format_exc()), reply_to=message)
