"""Failures of clients, as the server sees them."""

from flwr.app import Message


class ClientError(RuntimeError):
    """A client failed; the message holds the first traceback."""


def message_error(reply: Message) -> str:
    """Why a node could not reply."""
    return f"node {reply.metadata.src_node_id} failed: {reply.error.reason}"
