"""What a frontier shows: each method at each epsilon, over local training and one model for all.

Local training costs no privacy at all, so what privacy buys is measured from there; and whether
to personalize at all, against the best one model for all of the same epsilon.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.frontier.asked import Asked, label
from experiments.frontier.cells import OFF
from experiments.frontier.sentence import sentence
from fedmeta.methods import METHODS
from fedmeta.metrics import Metric
from fedmeta.statistics import gain, hurt_share, interval, worst_decile

Values = NDArray[np.float64]
Runs = dict[tuple[str, str], tuple[Values, Values]]
"""By method and split: the measure before and after adaptation, each ``(seeds, users)``."""


def figures(frame: pd.DataFrame, metric: Metric, asked: Asked, resamples: int) -> dict[str, Any]:
    """The figures of ``frontier.json`` out of the rows of ``frontier.parquet``.

    Returns:
        `measure`, and for each mechanism its `points` from infinity down, each with the figures of
        all `methods` and the `reference`, and a sentence.
    """
    found: dict[str, Any] = {}
    for mechanism in asked.mechanisms:
        if not (frame["mechanism"] == mechanism).any():
            continue
        points = []
        for epsilon in (math.inf, *asked.epsilons):
            rows = _methods(frame, mechanism, epsilon, asked.methods)
            points.append({"epsilon": label(epsilon)} | _point(rows, metric, resamples))
        found[mechanism] = {"points": points, "sentence": sentence(mechanism, points, metric)}
    return {"measure": metric.name, "mechanisms": found}


def _methods(
    frame: pd.DataFrame, mechanism: str, epsilon: float, methods: tuple[str, ...]
) -> dict[str, tuple[Runs, float, float]]:
    """Every method at an epsilon: its runs, what they claim, and the noise multiplier."""
    found = {}
    for name in methods:
        mine = frame[frame["method"] == name]
        free = METHODS[name].contribute is None
        if free or math.isinf(epsilon):
            mine = mine[mine["mechanism"] == OFF]
        else:
            mine = mine[(mine["mechanism"] == mechanism) & (mine["epsilon"] == epsilon)]
        if len(mine) == 0:
            continue
        runs: Runs = {}
        for split in ("valid", "test"):
            rows = mine[mine["split"] == split]
            before, after = (
                rows.pivot(index="seed", columns="user", values=column).to_numpy(dtype=np.float64)
                for column in ("before", "after")
            )
            runs[name, split] = before, after
        claimed = 0.0 if free else float(mine["claimed"].max())
        found[name] = runs, claimed, float(mine["noise_multiplier"].iloc[0])
    return found


def _point(
    found: dict[str, tuple[Runs, float, float]], metric: Metric, resamples: int
) -> dict[str, Any]:
    """One mechanism at one epsilon."""
    runs: Runs = {}
    for mine, _, _ in found.values():
        runs |= mine
    valid = {name: metric.sign * float(runs[name, "valid"][0].mean()) for name in found}
    general = [name for name in found if METHODS[name].general and not math.isnan(valid[name])]
    # Chosen by validation users, so that the choice does not flatter it on test users.
    reference = max(general, key=lambda name: valid[name], default="")
    methods = {}
    for name, (_, claimed, noise) in found.items():
        after = runs[name, "test"][1]
        alone = gain(metric, runs["local", "test"][1], after)
        one = gain(metric, runs[reference, "test"][0], after) if reference else None
        before_valid = gain(metric, runs["local", "valid"][1], runs[name, "valid"][1])
        methods[name] = {
            "federated": METHODS[name].contribute is not None,
            "personalizes": METHODS[name].personalizes,
            "claimed": None if math.isinf(claimed) else claimed,
            "noise_multiplier": noise,
            "valid": float(runs[name, "valid"][1].mean()),
            "after": _interval(after, resamples),
            "worst_decile": float(np.mean([worst_decile(metric, row) for row in after])),
            "over_local": _interval(alone, resamples),
            "over_local_valid": _interval(before_valid, resamples),
            "hurt_share": hurt_share(alone),
            "over_one_model": None if one is None else _interval(one, resamples),
            "hurt_share_one_model": None if one is None else hurt_share(one),
        }
    return {"reference": reference, "methods": methods}


def _interval(values: Values, resamples: int) -> dict[str, Any]:
    found = interval(values, resamples)
    return {"mean": found.mean, "ci95": [found.low, found.high]}
