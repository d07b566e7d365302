"""Which methods can work with a head, data and settings; the reason and the remedy where not."""

import torch

from fedmeta import public
from fedmeta.config import Config, ConfigError
from fedmeta.inner import Inner
from fedmeta.methods import Method
from fedmeta.methods.method import Setup
from fedmeta.params import is_output, is_trunk
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
    if method.name == "metaadapt" and population.training is None:
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
    if "public" in method.needs:
        public.check(population, config)
    _check_names(method, head, population, config)
    _check_proximal(method, config)


def _check_names(method: Method, head: Params, population: Population, config: Config) -> None:
    """Refuse to share what would mean another thing to every user.

    Where classes are numbered anew for each user, the best initialization of an output layer is
    one that treats all classes alike, which is what a linear head starts with.

    Raises:
        ConfigError: there is nothing else to learn from other users.
    """
    name, store = method.name, population.store
    if not store.renamed:
        return
    why = (
        f"method.name = {name!r} with head.name = {config.head.name!r}: with data.tasks ="
        f" {config.data.tasks!r} a class number means another thing from user to user"
    )
    if "names" in method.needs:
        raise ConfigError(
            f"{why}, so that what users say of the classes cannot be averaged; use a method whose"
            " output layer is made of the user's own examples, such as protonet or protomaml"
        )
    if method.contribute is None or not method.personalizes or method.generator is not None:
        return  # nothing is shared, or it is the one model for all that others are held against
    if not _learned(method, head, population, config):
        remedy = (
            "use a method that shares the trunk, such as fedrep"
            if has_trunk(head)
            else "use head.name = 'mlp', or a method that learns something else, such as meta-sgd,"
            " ridge or siamese; protonet-frozen and local need no federation"
        )
        raise ConfigError(
            f"{why}, and the start of an output layer is all that it shares: there is nothing to"
            f" meta-learn; {remedy}"
        )


def _learned(method: Method, head: Params, population: Population, config: Config) -> list[str]:
    """What users learn together beside an output layer, by name."""
    held = head
    if method.start is not None:
        inner = Inner(config.method.rate, config.method.steps, options=config.method)
        width, domains = population.features.shape[1], max(len(population.store.domains), 1)
        setup = Setup(head, inner, width, population.outputs, torch.Generator(), domains)
        held = method.start(setup)
    return [
        name
        for name in held
        if method.sends(name) and not is_output(name) and not name.startswith(method.statistics)
    ]


def _check_proximal(method: Method, config: Config) -> None:
    """Refuse steps towards a point that end farther from it than they began.

    An explicit step multiplies the distance by ``1 - rate weight``; with heavy-ball momentum it
    shrinks as long as ``rate weight < 2 (1 + momentum)`` (Polyak 1964), whatever the loss adds.

    Raises:
        ConfigError: a rate and a weight that do not go together.
    """
    given = config.method
    if method.name == "pfedme" and (reach := given.pfedme_rate * given.pfedme_lambda) >= 2:
        raise ConfigError(
            f"method.pfedme-rate = {given.pfedme_rate:g} times method.pfedme-lambda ="
            f" {given.pfedme_lambda:g} is {reach:g}; from 2 on a step towards the personal model"
            f" ends farther from it than it began; use {1 / given.pfedme_lambda:g} or less, or 0"
        )
    weights = {"method.imaml-lambda": given.imaml_lambda if method.name == "imaml" else 0.0}
    weights["method.mu"] = given.mu if method.proximal else 0.0
    most = 2 * (1 + given.momentum)
    for key, weight in weights.items():
        for which, rate in (("rate", given.rate), ("adapt-rate", given.adapt_rate)):
            if rate * weight >= most:
                raise ConfigError(
                    f"method.{which} = {rate:g} times {key} = {weight:g} is {rate * weight:g};"
                    f" from {most:g} on steps end farther from where they are held than they"
                    f" began; use method.{which} = {1 / weight:g} or less, or a smaller {key}"
                )


def has_trunk(head: Params) -> bool:
    """Whether a head has parameters before its output layer.

    >>> has_trunk({"output.weight": 0}), has_trunk({"hidden.weight": 0, "output.weight": 0})
    (False, True)
    """
    return any(is_trunk(name) for name in head)
