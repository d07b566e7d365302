"""The nodes that messages can go to."""

import time

from flwr.serverapp import Grid

PATIENCE = 60.0
"""Seconds to wait for a first node: Flower starts a run before its nodes are online."""


def nodes_of(grid: Grid, patience: float = PATIENCE) -> list[int]:
    """Ids of the nodes, sorted, as soon as there is one: results do not depend on how many.

    Raises:
        TimeoutError: no node came online.
    """
    deadline = time.monotonic() + patience
    while not (nodes := sorted(grid.get_node_ids())):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no client node came online within {patience:.0f} s")
        time.sleep(0.2)
    return nodes
