"""A client whose replies are changed on their way."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire

Spoil = Callable[[wire.Order, wire.Sum], wire.Sum]


def spoiled(spoil: Spoil) -> ClientApp:
    """The app, whose sums pass through somebody's hands."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        _, order = wire.read_order(message)
        return wire.sum_reply(message, spoil(order, wire.read_sum(reply)))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    return app


def times(factor: float, *users: int) -> Spoil:
    """Contributions of these users are so many times what they should be."""

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        if not set(order.users) & set(users):
            return term
        return term._replace(total={n: factor * v for n, v in term.total.items()})

    return spoil
