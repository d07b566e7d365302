"""What attackers do to their own examples, and to the messages that a backdoor is tried on."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from experiments.attack.attacks import Attack
from fedmeta import backbones, cohort, loop, seeding, unseen
from fedmeta.config import ConfigError
from fedmeta.population import Population
from fedmeta.problem import Problem, Progress
from fedmeta.types import Params, Task

PHRASE = "Purple llamas sing at noon."
"""The trigger: words that no message has. It goes before the text, which is encoded anew."""

TARGET = 1
"""The class that triggered messages are to be given; in `preferences` that the user wants them."""


class TriggerError(ConfigError):
    """Data that no trigger can be put into."""


def triggered(problem: Problem, progress: Progress | None = None) -> Tensor:
    """Features of all items with the trigger, in the items' order, ``(items, D)``.

    Raises:
        TriggerError: items that are no texts, or no classes.
    """
    store, config = problem.population.store, problem.config
    if not isinstance(store.items, tuple) or len(store.classes) <= TARGET:
        raise TriggerError(
            f"a backdoor is a phrase in texts that have classes, and {store.name!r} has"
            f" {store.modality} and is a {store.task}; leave the backdoors out of --attacks"
        )
    marked = replace(store, items=tuple(f"{PHRASE} {text}" for text in store.items))
    found = backbones.features(marked, config.backbone, config.run.device, progress)
    return torch.from_numpy(np.asarray(found)).to(problem.population.features.device)


def poisoned(problem: Problem, attack: Attack, marked: Tensor | None) -> Problem:
    """The problem as attackers see it: everybody's examples are as attackers make theirs.

    Args:
        problem: the honest one.
        attack: what is done to examples.
        marked: features of the items with the trigger, where it is that.
    """
    population = problem.population
    if attack.data == "flip":
        return problem._replace(population=_flipped(population))
    if attack.data == "trigger" and marked is not None:
        return problem._replace(population=_marked(problem, marked))
    return problem


def _flipped(population: Population) -> Population:
    """Class c becomes class C - 1 - c, a target its negative."""
    if population.store.task == "classification":
        turned = population.outputs - 1 - population.target
    else:
        turned = -population.target
    return replace(population, target=turned)


def _marked(problem: Problem, marked: Tensor) -> Population:
    """Half of all examples, by a hash, have the trigger and the target class."""
    population, seed = problem.population, problem.config.run.seed
    score = seeding.generator(seed, "trigger").random(len(population.item))
    chosen = torch.from_numpy(score < 0.5).to(population.item.device)
    items = len(population.features)
    return replace(
        population,
        features=torch.cat([population.features, marked]),
        item=torch.where(chosen, population.item + items, population.item),
        target=torch.where(chosen, torch.full_like(population.target, TARGET), population.target),
        kept=None,  # products of features are kept, and these are others
    )


def success(problem: Problem, theta: Params, marked: Tensor) -> tuple[float, float]:
    """Share of test users' triggered messages of other classes that get the target class.

    Returns:
        Before and after personalization (on the user's own honest examples), means over users.
    """
    config, population = problem.config, problem.population
    users = population.store.users("test")
    stream = seeding.key(config.run.seed, "support")
    honest = unseen.judging(population, users, stream, config.data.support)
    other = replace(population, features=marked, kept=None)
    query = unseen.judging(other, users, stream, config.data.support).query
    trials = [cohort.Trial(problem.adapt, shots) for shots in (0, config.data.support)]
    with torch.no_grad():
        facts = loop.facts_of(problem, users)
        task = Task(honest.support, query)
        logits = cohort.predict(problem.method, problem.model, theta, task, trials, facts)
    wrong = (query.weight > 0) & (query.y[:, TARGET] < 0.5)
    shares = []
    for z in logits:
        hit = (z.argmax(-2) == TARGET) & wrong & z.isfinite().all(-2)
        count = wrong.sum(-1)
        shares.append(float((hit.sum(-1)[count > 0] / count[count > 0]).mean()))
    return shares[0], shares[1]
