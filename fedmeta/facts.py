"""What everybody may know of a run whose users keep their data: instead of a table, a page.

A simulation finds these things in the data of all users. With real users nobody has seen them all,
so they are written down before the run, come with every message, and are the same for everyone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedmeta import backbones
from fedmeta.config import ConfigError
from fedmeta.population import Scaling, Units
from fedmeta.problem import Problem


class Facts(NamedTuple):
    """The public facts of a run.

    Attributes:
        task: `classification` or `regression`.
        classes: their names in order; empty for regression.
        width: numbers in a feature vector.
        backbone: the encoder, with `auto` decided.
        training: training users in all; 0 as long as nobody has counted them.
        domains: names of the domains, in order.
        mean, spread: by which features are scaled; empty: not at all.
        centre, scale: by which targets are.
    """

    task: str
    classes: tuple[str, ...]
    width: int
    backbone: str
    training: int = 0
    domains: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    centre: float = 0.0
    scale: float = 1.0


KINDS = {
    "task": str, "classes": [str], "width": int, "backbone": str, "training": int,
    "domains": [str], "mean": [float], "spread": [float], "centre": float, "scale": float,
}  # fmt: skip
"""The type of each, of a list that of its entries."""


def facts_of(problem: Problem) -> Facts:
    """The facts of a simulated run, which are found in its data."""
    store, units = problem.population.store, problem.population.units
    scaling = units.scaling or Scaling(np.empty(0), np.empty(0))
    return Facts(
        store.task,
        store.classes,
        problem.population.features.shape[1],
        backbones.resolve(problem.config.backbone.name, store),
        problem.population.trainers,
        store.domains,
        tuple(scaling.mean.tolist()),
        tuple(scaling.spread.tolist()),
        units.centre,
        units.scale,
    )


def units_of(facts: Facts) -> Units:
    """The constants that scale features and targets."""
    scaling = Scaling(np.array(facts.mean), np.array(facts.spread)) if facts.mean else None
    return Units(scaling, facts.centre, facts.scale)


def fields(facts: Facts) -> dict[str, Any]:
    """As a message or JSON can hold them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in facts._asdict().items()
    }


def read_fields(given: Mapping[str, Any]) -> Facts:
    """The facts in a message or in JSON.

    Raises:
        ConfigError: a field that is missing, unknown or of another type, or facts that contradict
            each other.
    """
    if strange := set(given) ^ set(KINDS):
        raise ConfigError(f"facts: {', '.join(sorted(strange))!r:.200} missing or unknown")
    for name, kind in KINDS.items():
        value = given[name]
        good = (
            isinstance(value, list) and all(type(one) is kind[0] for one in value)
            if isinstance(kind, list)
            else type(value) is kind
        )
        if not good:
            raise ConfigError(f"facts: {name} = {value!r:.100} is of another type")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    facts = Facts(**values)
    numbers = np.array([*facts.mean, *facts.spread, facts.centre, facts.scale])
    wrong = {
        "task": facts.task not in ("classification", "regression"),
        "classes": (len(facts.classes) < 2) is (facts.task == "classification")
        or len(set(facts.classes)) < len(facts.classes),
        "domains": len(set(facts.domains)) < len(facts.domains),
        "width": facts.width < 1,
        "training": facts.training < 0,
        "mean": len(facts.mean) not in (0, facts.width) or len(facts.spread) != len(facts.mean),
        "spread": not all(value > 0 for value in facts.spread),
        "scale": not np.isfinite(numbers).all() or facts.scale <= 0,
    }
    if bad := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise ConfigError(
            f"facts: {bad[0]} = {getattr(facts, bad[0])!r:.100} does not fit the others; a"
            " classification has at least two classes of different names, a regression none, and"
            " there is one finite mean and one spread above 0 for each of `width` features, or none"
        )
    return facts


def read(path: Path) -> Facts:
    """The facts in a JSON file; what is left out is as in a plain classification.

    Raises:
        ConfigError: no such file, or no facts.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"facts of the run: {str(path)!r} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"facts of the run: {str(path)!r} is no JSON object")
    usual = fields(Facts("classification", (), 0, "hashing"))
    return read_fields({**{n: usual[n] for n in Facts._field_defaults}, **found})


def write(path: Path, facts: Facts) -> None:
    """Write facts for :func:`read`."""
    path.write_text(json.dumps(fields(facts), indent=1) + "\n")
