"""``personal.json``: what a new user needs of a run beside its weights and its config.

With it nobody needs the run's data to personalize, to predict or to serve.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.artifacts import write_json
from fedmeta import backbones
from fedmeta.backbones.live import sha256_of
from fedmeta.config import ConfigError
from fedmeta.population import Scaling
from fedmeta.problem import Problem

FILE = "personal.json"
FORMAT = 1


class Needs(NamedTuple):
    """What the model takes, and what its outputs mean.

    Attributes:
        task: `classification` or `regression`.
        classes: names of the classes; where ``renamed``, of places for a user's own.
        renamed: whether each user has classes of his own.
        domains: names of the domains; empty where there are none.
        modality: `text` or `features`.
        shape: of an item that is numbers; empty for texts.
        width: of the features that the head is given.
        centre, scale: of a regression's target: ``centre + scale * output``.
        scaling: how features are scaled; None: not at all.
        backbone: its name, decided.
        backbone_sha256: of all that its features depend on.
    """

    task: str
    classes: tuple[str, ...]
    renamed: bool
    domains: tuple[str, ...]
    modality: str
    shape: tuple[int, ...]
    width: int
    centre: float
    scale: float
    scaling: Scaling | None
    backbone: str
    backbone_sha256: str

    @property
    def outputs(self) -> int:
        """Classes, or 1 for regression."""
        return len(self.classes) or 1


def needs_of(problem: Problem) -> Needs:
    """Those of a problem."""
    population, config = problem.population, problem.config
    store = population.store
    name = backbones.resolve(config.backbone.name, store)
    return Needs(
        store.task,
        store.classes,
        store.renamed,
        store.domains,
        store.modality,
        () if isinstance(store.items, tuple) else store.items.shape[1:],
        population.features.shape[1],
        population.centre,
        population.scale,
        population.scaling,
        name,
        sha256_of(name, config.backbone),
    )


def write(folder: Path, needs: Needs) -> None:
    """``personal.json`` in the folder of a run."""
    content: dict[str, Any] = {"format": FORMAT, **needs._asdict()}
    if needs.scaling is not None:
        content["scaling"] = {name: v.tolist() for name, v in needs.scaling._asdict().items()}
    write_json(folder / FILE, content)


def read(folder: Path) -> Needs:
    """What :func:`write` wrote.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        found = content.pop("format")
        if found != FORMAT:
            raise ConfigError(
                f"{FILE} in {str(folder)!r} has format {found!r}, expected {FORMAT}; run it again"
                " with this version, or use the version that wrote it"
            )
        for name in ("classes", "domains", "shape"):
            content[name] = tuple(content[name])
        if content["scaling"] is not None:
            content["scaling"] = Scaling(
                **{name: np.array(v) for name, v in content["scaling"].items()}
            )
        return Needs(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{FILE} in {str(folder)!r} cannot be read ({error}); run it again, or restore the file"
        ) from None
