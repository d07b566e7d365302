"""An app that raises, dies or eats memory for the users that a run's name says."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire

POISON, KILL, GREEDY = "poison-", "kill-", "greedy-"


def make_app() -> ClientApp:
    """The app of the tool, which raises for a user if the run's name says so."""
    app, poison, kill, greedy = ClientApp(), POISON, KILL, GREEDY

    @app.train()
    def train(message: Message, context: Context) -> Message:
        name = str(context.run_config["run.name"])
        _, order = wire.read_order(message)
        if name.startswith(kill) and order.round == 2 and order.chunk == 1:
            marker = Path(name.removeprefix(kill))
            if not marker.exists() or marker.name == "always":
                marker.touch()
                time.sleep(0.3)  # the reply before this message is on its way: Ray sends it aside
                os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith(greedy) and int(name.removeprefix(greedy)) in order.users:
            np.ones(2**30)  # 8 GB, none of them spare
        if name.startswith(poison) and int(name.removeprefix(poison)) in order.users:
            raise ValueError(f"{name} was in chunk {order.chunk}")
        return clients.app.train(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    return app
