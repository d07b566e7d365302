"""What is told of the runs of ``fedmeta attack``: figures of each, and users' scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedmeta.config import Config
from fedmeta.metrics import METRICS
from fedmeta.problem import build
from fedmeta.statistics import interval

Cells = dict[tuple[str, str], dict[str, Any]]
"""By attack and rule: `died` (why, or None), `before` and `after` of each test user, `valid`, the
mean of validation users after, and `success`."""


def content(config: Config, cells: Cells, who: dict[str, Any]) -> dict[str, Any]:
    """Figures of all pairs: means over test users, and what they have lost, user by user.

    ``loss`` is against the mean that nobody attacks, ``attack_loss`` against the same rule.
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
        "runs": found,
    }


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
