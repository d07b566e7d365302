"""An app of Flower's that does nothing, and says how long its rounds took."""

import json
import time

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

ROUNDS, NODES, TIMES = 12, 2, "empty.json"

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """An empty answer."""
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Rounds of one empty message to each of the first nodes, as Flower's grid does them."""
    from experiments.deploy.server_app import home

    seconds = []
    nodes = sorted(grid.get_node_ids())[:NODES]
    for number in range(ROUNDS):
        began = time.perf_counter()
        content = RecordDict({"round": ConfigRecord({"number": number})})
        messages = [Message(content, node, MessageType.TRAIN) for node in nodes]
        replies = list(grid.send_and_receive(messages, timeout=300))
        if len(replies) < len(nodes):
            raise TimeoutError(f"{len(replies)} of {len(nodes)} replies")
        seconds.append(time.perf_counter() - began)
    (home() / TIMES).write_text(json.dumps(seconds), encoding="utf-8")
