"""A run on a Flower that speaks HTTP: ``python -m tests.deploy.newest FOLDER``; prints two digests.

The launcher's commands are those of gRPC: the SuperLink is told of no second port, and what comes
to that of the nodes is passed on to the only one there is. All the rest is as it is.
"""

import json
import socket
import sys
import threading
from importlib.metadata import version
from pathlib import Path

from experiments.deploy import demo, flower
from experiments.deploy.layout import Deployment
from experiments.running import simulate
from tests.deploy import worlds


def _over_http() -> None:
    """Make the launcher start a SuperLink as there is from Flower 1.40 on."""
    superlink = flower.superlink

    def one_port(deployment: Deployment) -> list[str]:
        command = superlink(deployment)
        at = command.index("--fleet-api-address")
        _pass_on(deployment.fleet_port, deployment.control_port)
        return command[:at] + command[at + 2 :]

    flower.superlink = one_port


def _pass_on(here: int, there: int) -> None:
    """Bytes that come to one port of this machine go to another, TLS and all."""
    listening = socket.create_server(("127.0.0.1", here))

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(1 << 16):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()

    def accept() -> None:
        while True:
            one, _ = listening.accept()
            try:
                other = socket.create_connection(("127.0.0.1", there))
            except OSError:
                one.close()
                continue
            for pair in ((one, other), (other, one)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main(folder: Path) -> None:
    """Run the app over HTTP and in this process."""
    _over_http()
    deployment, config = worlds.make(folder), worlds.config_of()
    demo.scatter(config, deployment, folder / "users")
    with demo.up(deployment, folder / "users", worlds.quiet):
        plan, number = worlds.begun(deployment, config, "newest")
        found = worlds.ended(deployment, plan, number)
        rounds = len(worlds.rounds_of(plan))
    data = config.data.model_copy(update={"source": str(worlds.alone(folder))})
    chunk = config.federation.model_copy(update={"chunk": 1})
    same = config.model_copy(update={"data": data, "federation": chunk})
    inline = simulate(same, folder / "inline").summary
    digests = [one["weights_sha256"] for one in (found, inline)]
    print(json.dumps({"flwr": version("flwr"), "rounds": rounds, "weights_sha256": digests}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
