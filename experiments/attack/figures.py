"""What is told of the runs of ``fedmeta attack``: figures of each, and users' scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from experiments.attack.attacks import ATTACKS
from fedmeta.config import Config
from fedmeta.metrics import METRICS
from fedmeta.problem import build
from fedmeta.statistics import interval

Cells = dict[tuple[str, str], dict[str, Any]]
"""By attack and rule: `died` (why, or None), `before` and `after` of each test user, `valid`, the
mean of validation users after, and `success`."""


def content(
    config: Config, cells: Cells, who: dict[str, Any], defence: str = "mean"
) -> dict[str, Any]:
    """Figures of all pairs: means over test users, and what they have lost, user by user.

    ``loss`` is against the mean that nobody attacks, ``attack_loss`` against the same rule. What
    `defence`, the rule of the config, and the mean bear at worst comes by itself.
    """
    store = build(config).population.store
    metric = METRICS[store.task]
    found = []
    for (name, rule), cell in cells.items():
        row = {"attack": name, "rule": rule, "died": cell["died"], "success": cell["success"]}
        if cell["died"] is None:
            after = np.array(cell["after"], dtype=np.float64)
            row["before"] = float(np.array(cell["before"], dtype=np.float64).mean())
            row["after"] = _figure(config, after)
            row["valid"] = cell["valid"]
            for key, base in (("loss", "mean"), ("attack_loss", rule)):
                start = np.array(cells["none", base]["after"], dtype=np.float64)
                row[key] = _figure(config, metric.sign * (start - after))
        found.append(row)
    return {
        "measure": metric.name,
        "method": config.method.name,
        "users": {"test": len(store.users("test")), "round": config.federation.users_per_round},
        "rounds": config.federation.rounds,
        "support": config.data.support,
        "attackers": who,
        "robust": config.robust.model_dump(by_alias=True, exclude={"rule"}),
        "defence": [_at_worst(rule, found) for rule in dict.fromkeys((defence, "mean"))],
        "runs": found,
    }


def _at_worst(rule: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all attacks on a rule: which costs most and how much, and how often a trigger works.

    Returns:
        ``rule``; ``attack`` and its ``loss`` (None where none was survived, or none was tried) and
        ``cost``, what is lost with no attack; ``died``, the attacks that ended the run; and
        ``success``, the larger of before and after, at most (None without a backdoor).
    """
    mine = {row["attack"]: row for row in runs if row["rule"] == rule}
    loss = {name: row["loss"]["mean"] for name, row in mine.items() if not row["died"]}
    cost = loss.pop("none", None)
    attack = max(loss, key=lambda name: loss[name], default=None)
    doors = [
        max(row["success"])
        for name, row in mine.items()
        if ATTACKS[name].data == "trigger" and row["success"]
    ]
    return {
        "rule": rule,
        "attack": attack,
        "loss": loss.get(attack or ""),
        "cost": cost,
        "died": [name for name, row in mine.items() if row["died"]],
        "success": max(doors, default=None),
    }


def sentences(content: dict[str, Any]) -> str:
    """What the defence bears, with the mean beside it; "" where the config has none, or not run."""
    found = content.get("defence", [])
    if len(found) < 2 or found[0]["attack"] is None:
        return ""
    defence, mean = found
    percent = content["measure"] == "accuracy"
    scale, digits, unit = (100, 1, " points") if percent else (1, 3, "")

    def lost(row: dict[str, Any]) -> str:
        ended = f", and does not survive {', '.join(row['died'])}" if row["died"] else ""
        worst = f"{scale * row['loss']:.{digits}f}{unit} at most ({row['attack']})"
        return (worst if row["attack"] else "all") + ended

    text = (
        f"The defence, robust.rule = {defence['rule']}, loses {lost(defence)},"
        f" {scale * defence['cost']:.{digits}f} of them where nobody attacks; the mean loses"
        f" {lost(mean)}."
    )
    if defence["success"] is None:
        return text
    return (
        f"{text} A backdoor works for {defence['success']:.0%} of triggered messages at most, with"
        f" the mean for {mean['success']:.0%}."
    )


def _figure(config: Config, values: NDArray[np.float64]) -> dict[str, float]:
    """Mean over users and its interval."""
    return interval(values, config.evaluation.bootstrap, config.run.seed)._asdict()


def write(path: Path, config: Config, cells: Cells) -> None:
    """One row for each attack, rule and test user."""
    store = build(config).population.store
    ids = [store.ids[user] for user in store.users("test").tolist()]
    parts = [
        pa.table(
            {
                "attack": [name] * len(ids),
                "rule": [rule] * len(ids),
                "user": ids,
                "before": pa.array(cell["before"], pa.float64()),
                "after": pa.array(cell["after"], pa.float64()),
            }
        )
        for (name, rule), cell in cells.items()
        if cell["died"] is None
    ]
    pq.write_table(pa.concat_tables(parts), path)
