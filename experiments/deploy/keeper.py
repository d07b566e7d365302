"""Keeps one node alive: ``python -m experiments.deploy.keeper DIR NAME DATA FOLDER PORT``."""

import sys
from pathlib import Path

from experiments.deploy import layout, node
from experiments.deploy.errors import DeployError, ProcessError


def main(arguments: list[str]) -> int:
    """Run the node until it is told to end; 1 where it cannot go on."""
    folder, name, data, own, port = arguments
    here = node.Place(name, Path(data), Path(own), int(port))
    try:
        node.keep(layout.read(Path(folder)), here, lambda line: print(line, flush=True))
    except (DeployError, ProcessError) as error:
        print(f"failed: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
