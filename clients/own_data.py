"""The data of a node's user as the engine takes them: read, encoded, scaled by the run's facts."""

from dataclasses import replace

from clients.home import Home
from clients.refused import RefusedError
from fedmeta import backbones
from fedmeta.config import Config
from fedmeta.data import own
from fedmeta.data.raw import Raw
from fedmeta.data.store import UserStore
from fedmeta.facts import Facts, units_of
from fedmeta.population import Population, populate
from fedmeta.problem import device_of


def raw_of(home: Home, config: Config) -> Raw:
    """The user's columns.

    Raises:
        DataError: what cannot be read.
    """
    return own.read(home.data, home.name, config.data)


def population_of(store: UserStore, home: Home, config: Config, facts: Facts) -> Population:
    """The user with his features, which are kept in the node's folder.

    Raises:
        RefusedError: his encoder gives other features than the run's.
        BackboneError: it cannot be had, or the folder cannot be written.
    """
    name = backbones.resolve(config.backbone.name, store)
    if name != facts.backbone:
        raise RefusedError(
            "backbone", f"the run has features of {facts.backbone!r}, and this node's backbone.name"
            f" = {config.backbone.name!r} is {name!r}"
        )  # fmt: skip
    given = config.backbone.model_copy(update={"name": name, "cache": str(home.folder / "cache")})
    features = backbones.features(store, given, config.run.device)
    if features.shape[1] != facts.width:
        raise RefusedError(
            "backbone",
            f"features have {features.shape[1]} numbers, and the run's {facts.width}",
        )
    device = device_of(config.run.device)
    found = populate(store, features, config.data, device, units_of(facts))
    return replace(found, training=max(facts.training, 1))
