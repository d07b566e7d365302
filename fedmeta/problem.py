"""A config turned into the objects of a run: data, model, method, inner loops."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta import backbones, device_rules, fitness, public, robust, seeding
from fedmeta.config import Config, ConfigError
from fedmeta.data.sources import load
from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS, Method
from fedmeta.methods.method import Setup
from fedmeta.population import Population, populate
from fedmeta.privacy import refusals
from fedmeta.privacy.event import OFF, Privacy

Progress = Callable[[int, int], None]


class Problem(NamedTuple):
    """What every participant of a run holds.

    Attributes:
        config: resolved: nothing in it is left open.
        population: users and features.
        model: head and loss.
        method: the method.
        train: the inner loop of training users.
        adapt: the inner loop of a new user.
        privacy: the mechanism.
    """

    config: Config
    population: Population
    model: Model
    method: Method
    train: Inner
    adapt: Inner
    privacy: Privacy = OFF


GENTLER = 0.25
"""Default rates of regression over those of classification, whose loss is so much flatter.

A user's Hessian is at most ``||x||^2 + 1 = 2`` with the squared loss and a quarter to a half of
that with cross-entropy; the largest rate of the tuning grid, 4 times the default, is then stable.
"""


USUAL_HEAD = "mlp"
"""The head of methods that do not ask for another."""


def resolve(config: Config, task: str) -> Config:
    """The config with the method's defaults where it leaves them open.

    Args:
        config: its method is known.
        task: `classification` or `regression`.
    """
    given, server = config.method, config.server
    defaults = METHODS[given.name].defaults
    usual = defaults.rate if task == "classification" else GENTLER * min(defaults.rate, 1.0)
    rate, steps = given.rate or usual, given.steps or defaults.steps
    head = METHODS[given.name].head or USUAL_HEAD
    return config.model_copy(
        update={
            "head": config.head.model_copy(update={"name": head})
            if config.head.name == "auto"
            else config.head,
            "method": given.model_copy(
                update={
                    "rate": rate,
                    "steps": steps,
                    "adapt_rate": given.adapt_rate or rate,
                    "adapt_steps": given.adapt_steps or steps,
                }
            ),
            "server": server.model_copy(
                update={
                    "optimizer": defaults.optimizer
                    if server.optimizer == "auto"
                    else server.optimizer,
                    "rate": server.rate or defaults.server_rate,
                    "schedule": defaults.schedule if server.schedule == "auto" else server.schedule,
                }
            ),
        }
    )


def build(config: Config, progress: Progress | None = None) -> Problem:
    """The problem of a config; the population is kept for the next call of the process.

    Args:
        config: need not be resolved.
        progress: told (texts encoded, texts in all) while features are computed.

    Raises:
        ConfigError, ValueError: what cannot be run, with the reason.
    """
    if config.method.name not in METHODS:
        raise ConfigError(
            f"method.name = {config.method.name!r}: expected one of {', '.join(METHODS)}"
        )
    device_rules.check(config)
    device = device_of(config.run.device)
    return assemble(config, _population(config, device, progress))


def assemble(config: Config, population: Population) -> Problem:
    """The problem of a config on a population that is at hand.

    Raises:
        ConfigError, ValueError: what cannot be run, with the reason.
    """
    config = resolve(config, population.store.task)
    model = model_of(
        config, population.features.shape[1], population.outputs, population.store.task
    )
    method = METHODS[config.method.name]
    fitness.check(method, model.head.init(torch.Generator()), population, config)
    privacy = refusals.checked(method, population, config)
    robust.check(method, config, population.trainers)
    return Problem(config, population, model, method, *inner_loops(config), privacy)


def model_of(config: Config, features: int, outputs: int, task: str) -> Model:
    """Head and loss of a resolved config, for features of a width and so many outputs."""
    settings = config.head
    make = HEADS[settings.name]
    head = make(features, outputs, hidden=settings.hidden, experts=settings.experts)
    return Model(head, LOSSES[task])


def inner_loops(config: Config) -> tuple[Inner, Inner]:
    """The inner loops of training users and of new ones, of a resolved config."""
    given = config.method
    mu = given.mu if METHODS[given.name].proximal else 0.0
    train = Inner(given.rate, given.steps, given.batch, given.momentum, mu, given)
    return train, replace(train, rate=given.adapt_rate, steps=given.adapt_steps)


def initial(problem: Problem) -> dict[str, Tensor]:
    """The seeded initialization that the server starts from."""
    seed = seeding.key(problem.config.run.seed, "initialization") >> 1  # torch takes 63 bits
    generator = torch.Generator().manual_seed(seed)
    head = problem.model.head.init(generator)
    if problem.method.start is None:
        return head
    config, population = problem.config, problem.population
    width = population.features.shape[1]
    shown = torch.empty(0, width)
    if "public" in problem.method.needs:
        shown = public.sample(population, config)
    setup = Setup(
        head,
        problem.train,
        width,
        population.outputs,
        generator,
        max(len(population.store.domains), 1),
        population.trainers,
        shown,
    )
    return problem.method.start(setup)


_POPULATIONS: dict[object, Population] = {}


def device_of(name: str) -> torch.device:
    """The device of `run.device`.

    Raises:
        ConfigError: no such kind of device, or none of it here.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"run.device = {name!r}: expected cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(
                f"run.device = {name!r}: torch {torch.__version__} sees {count} CUDA devices here;"
                " use cpu, or a torch built for the GPU of this machine"
            )
    return device


def _population(config: Config, device: torch.device, progress: Progress | None) -> Population:
    identity = (config.data, config.backbone, config.run.device)
    if identity not in _POPULATIONS:
        store = load(config.data)
        features = backbones.features(store, config.backbone, config.run.device, progress)
        _POPULATIONS.clear()  # one at a time: they may be large
        _POPULATIONS[identity] = populate(store, features, config.data, device)
    return _POPULATIONS[identity]
