"""A config turned into the objects of a run: data, model, method, inner loops."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta import backbones, device_rules, fitness, head_fitness, public, robust, seeding
from fedmeta.config import Config, ConfigError
from fedmeta.data.sources import load
from fedmeta.heads import HEADS, TAKES, Given
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
    method = METHODS[config.method.name]
    head_fitness.check_kind(method, population, config)
    folder = ""
    if TAKES.get(config.head.name) == "ids":
        folder = backbones.folder_of(population.store, config.backbone)
    width, task = population.features.shape[1], population.store.task
    model = model_of(config, width, population.outputs, task, population.tokens, folder)
    fitness.check(method, model.head.init(torch.Generator()), population, config)
    model, train, adapt = inner_loops(config, model)
    privacy = refusals.checked(method, population, config)
    robust.check(method, config, population.trainers)
    return Problem(config, population, model, method, train, adapt, privacy)


def model_of(
    config: Config, features: int, outputs: int, task: str, tokens: int = 1, folder: str = ""
) -> Model:
    """Head and loss of a resolved config, for features of a width and so many outputs.

    Raises:
        HeadError: the head does not fit them.
    """
    made = config.head
    given = Given(made, tokens, folder, config.backbone.layers)
    sizes = {"hidden": made.hidden, "experts": made.experts}
    return Model(HEADS[made.name](features, outputs, **sizes, given=given), LOSSES[task])


def inner_loops(config: Config, model: Model) -> tuple[Model, Inner, Inner]:
    """The inner loops of training users and of new ones, and the model as they move it.

    Raises:
        ConfigError: `head.adapt` fits no parameter, or the method's inner loop has no parts.
    """
    given, method = config.method, METHODS[config.method.name]
    moves = head_fitness.moves(method, model.head, model.head.init(torch.Generator()), config)
    if moves is not None:
        # The first layer moves as a whole or not at all.
        model = model._replace(head=replace(model.head, tail=None))
    mu = given.mu if method.proximal else 0.0
    train = Inner(given.rate, given.steps, given.batch, given.momentum, mu, given, moves=moves)
    return model, train, replace(train, rate=given.adapt_rate, steps=given.adapt_steps)


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
    name = config.head.name
    takes = TAKES.get(
        METHODS[config.method.name].head or USUAL_HEAD if name == "auto" else name, "vector"
    )
    identity = (config.data, config.backbone, config.run.device, takes)
    if identity not in _POPULATIONS:
        store = load(config.data)
        features = backbones.features(store, config.backbone, config.run.device, progress, takes)
        _POPULATIONS.clear()  # one at a time: they may be large
        _POPULATIONS[identity] = populate(store, features, config.data, device)
    return _POPULATIONS[identity]
