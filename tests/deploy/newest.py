"""A run on a Flower that speaks HTTP: ``python -m tests.deploy.newest FOLDER``; prints two digests.

The launcher's commands are those of gRPC; here nodes are told the SuperLink's one port instead.
The apps, the grid and all the rest are as they are.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from experiments.deploy import flower, processes, server
from experiments.deploy.layout import Deployment
from experiments.running import simulate
from tests.deploy import worlds


def _over_http() -> None:
    """Make the launcher start what there is from Flower 1.40 on."""
    superlink = flower.superlink

    def one_port(deployment: Deployment) -> list[str]:
        command = superlink(deployment)
        at = command.index("--fleet-api-address")
        return command[:at] + command[at + 2 :]

    def wait(deployment: Deployment, started: object, patience: float = 60.0) -> None:
        port = deployment.control_port
        worlds.until(lambda: processes.listens("127.0.0.1", port), patience)

    flower.superlink = one_port
    server.wait = wait
    fleet = property(lambda deployment: f"127.0.0.1:{deployment.control_port}")
    Deployment.fleet = fleet  # type: ignore[method-assign, assignment]


def main(folder: Path) -> None:
    """Run the app over HTTP and in this process."""
    _over_http()
    with worlds.running(folder) as (deployment, config):
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
