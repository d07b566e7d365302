"""What an audit finds of each mechanism at each epsilon of a frontier, beside what is claimed."""

import json
from pathlib import Path
from typing import Any

from experiments import artifacts
from experiments.audit.beside import audited
from experiments.frontier.asked import Asked, label
from experiments.frontier.cells import Cell, Cells
from fedmeta.problem import build

FILE = "audits.json"
"""In the folder of a frontier: audits that are done, which take seconds each."""


def audits(folder: Path, asked: Asked, found: Cells) -> dict[str, dict[str, dict[str, Any]]]:
    """By mechanism and epsilon: claim, lower bounds and power, or the `reason` why there is none.

    All methods of a mechanism share clip, noise and client code, and an epsilon is the same claim
    for each. So the first method that can be audited stands for all of them.
    """
    done: dict[str, dict[str, Any]] = {}
    if (folder / FILE).is_file():
        done = json.loads((folder / FILE).read_text(encoding="utf-8"))
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for mechanism in asked.mechanisms if asked.canaries else ():
        for epsilon in asked.epsilons:
            at = f"{mechanism} {label(epsilon)} {asked.canaries}"
            if at not in done:
                mine = (mechanism, epsilon)
                done[at] = _first(
                    [one for one in found.run if (one.mechanism, one.epsilon) == mine],
                    asked.canaries,
                )
                artifacts.write_json(folder / FILE, done)
            out.setdefault(mechanism, {})[label(epsilon)] = done[at]
    return out


def _first(cells: list[Cell], canaries: int) -> dict[str, Any]:
    found: dict[str, Any] = {"reason": "no run"}
    for cell in cells:
        found = audited(cell.config, build(cell.config).privacy, canaries)
        if "reason" not in found:
            return {"method": cell.method} | found
    return found
