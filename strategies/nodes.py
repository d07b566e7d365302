"""The nodes that messages can go to, and which one serves whom."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

PATIENCE = 4.0
"""Seconds to wait for a first node: Flower starts the ServerApp just before it enters its simulated
nodes, which takes less than the app's imports. Real nodes are there before a run is asked for, and
where they may come late (`fedmeta deploy`) it is :func:`strategies.deployed.gather` that waits."""
TIMEOUT = 3600.0
"""Seconds to wait for the replies of a simulated round."""

Route = Callable[[int, NDArray[np.int64]], int | None]
"""``(number of a chunk, its users) -> node``; None: nobody who serves them is online."""


def nodes_of(grid: Grid, patience: float = PATIENCE) -> list[int]:
    """Ids of the nodes, sorted, as soon as there is one: results do not depend on how many.

    Raises:
        TimeoutError: no node came online.
    """
    deadline = time.monotonic() + patience
    while not (nodes := sorted(grid.get_node_ids())):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"no client node is online after {patience:g} s, and at least one is needed: start"
                " flower-supernode first, or simulate some with --federation-config"
                " 'num-supernodes=2'"
            )
        time.sleep(0.2)
    return nodes


def in_turn(grid: Grid) -> Route:
    """Any node can play any user: chunks go round."""
    nodes = nodes_of(grid)
    return lambda number, users: nodes[number % len(nodes)]


class Reach(NamedTuple):
    """How a server reaches its users.

    Attributes:
        route: asked once for every set of messages.
        told: what every message says besides; None: nothing.
        real: whether users are real: one who is not there is left out, and ends no run.
        timeout: seconds to wait for replies.
    """

    route: Callable[[Grid], Route] = in_turn
    told: ConfigRecord | None = None
    real: bool = False
    timeout: float = TIMEOUT


SIMULATED = Reach()
