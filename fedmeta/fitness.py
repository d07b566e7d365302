"""Which methods can work with a head, data and settings; the reason and the remedy where not."""

from fedmeta.config import Config, ConfigError
from fedmeta.methods import Method
from fedmeta.params import is_trunk
from fedmeta.population import Population
from fedmeta.types import Params


def check(method: Method, head: Params, population: Population, config: Config) -> None:
    """Refuse a combination that cannot work, before anything is run.

    Args:
        method: what is to be run.
        head: fresh parameters of the head.
        population: the data.
        config: all settings.

    Raises:
        ConfigError: what does not fit, and the nearest combination that does.
    """
    name, store = method.name, population.store
    if method.head not in (None, config.head.name):
        raise ConfigError(
            f"method.name = {name!r} works with the head {method.head!r} alone, and head.name ="
            f" {config.head.name!r}; use head.name = {method.head!r}, or leave it at 'auto'"
        )
    if "trunk" in method.needs and not has_trunk(head):
        raise ConfigError(
            f"method.name = {name!r} needs a trunk to share, and head.name ="
            f" {config.head.name!r} is an output layer alone; use head.name = 'mlp'"
        )
    if "output" in method.needs and not head["output.weight"].any():
        raise ConfigError(
            f"method.name = {name!r} keeps the first output layer, and that of head.name ="
            f" {config.head.name!r} is zero, so that nothing would be learned; use head.name ="
            " 'mlp'"
        )
    if "domains" in method.needs and len(store.domains) < 2:
        raise ConfigError(
            f"method.name = {name!r} needs users of at least two domains, and {store.name!r} has"
            f" {len(store.domains)}; set data.domain-column, or data.domains for preferences"
        )
    wanted = config.method.target_domain
    if method.name == "metaadapt" and wanted >= len(store.domains):
        raise ConfigError(
            f"method.target-domain = {wanted}: {store.name!r} has the domains 0 to"
            f" {len(store.domains) - 1} ({', '.join(store.domains)}); name one of them"
        )
    if method.name == "metaadapt":
        homes = set(population.home[store.users("train")].tolist())
        if wanted not in homes:
            raise ConfigError(
                f"method.target-domain = {wanted}: no training user is of it, so that there would"
                f" be nothing to hold the others against; training users are of {sorted(homes)}"
            )
    if config.method.batch and not method.batches:
        raise ConfigError(
            f"method.batch = {config.method.batch}: method.name = {name!r} weighs the examples of"
            " a user against each other, so it takes them all; set method.batch = 0"
        )
    if "classes" in method.needs and store.task != "classification":
        raise ConfigError(
            f"method.name = {name!r} needs classes, and {store.name!r} is a regression; use a"
            " method that fits a loss, such as ridge, maml or reptile"
        )
    given = config.method
    if name == "pfedme" and (reach := given.pfedme_rate * given.pfedme_lambda) >= 2:
        raise ConfigError(
            f"method.pfedme-rate = {given.pfedme_rate:g} times method.pfedme-lambda ="
            f" {given.pfedme_lambda:g} is {reach:g}; from 2 on a step towards the personal model"
            f" ends farther from it than it began; use {1 / given.pfedme_lambda:g} or less, or 0"
        )


def has_trunk(head: Params) -> bool:
    """Whether a head has parameters before its output layer.

    >>> has_trunk({"output.weight": 0}), has_trunk({"hidden.weight": 0, "output.weight": 0})
    (False, True)
    """
    return any(is_trunk(name) for name in head)
