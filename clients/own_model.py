"""What a run leaves with its user: his personal model, made on all of his examples, on his disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from clients.disk import sync, sync_file
from fedmeta import loop, personal, tasks
from fedmeta.inner import Inner
from fedmeta.problem import Problem
from fedmeta.types import Params

MODEL, ABOUT = "head.safetensors", "head.json"


def make(problem: Problem, theta: Params, inner: Inner, own: Params) -> dict[str, torch.Tensor]:
    """The personal model of the one user of a problem, from all that he may learn from.

    Args:
        problem: with him alone.
        theta: the server's parameters.
        inner: how he descends.
        own: what he owns, ``(1, ...)`` each; empty: a newcomer.
    """
    me = np.zeros(1, dtype=np.int64)
    support = tasks.whole(problem.population, me, False).support
    facts = loop.facts_of(problem, me)
    fresh = problem.method.own(theta) if problem.method.own else {}
    memory = {name: value[None] for name, value in fresh.items()} | dict(own) | facts
    made = personal.personalize(problem.method, problem.model, theta, support, inner, memory)
    return {name: value[0].contiguous().clone() for name, value in made.items()}


def write(folder: Path, params: Params, problem: Problem, inner: Inner) -> None:
    """Write the model and what it is; the old ones or the new ones are there, whole.

    Raises:
        OSError: the disk is full or broken.
    """
    store, units = problem.population.store, problem.population.units
    about = {
        "method": problem.method.name,
        "head": problem.config.head.name,
        "backbone": problem.config.backbone.name,
        "classes": list(store.classes),
        "examples": len(store.item),
        "rate": inner.rate,
        "steps": inner.steps,
        "centre": units.centre,
        "scale": units.scale,
    }
    content = {MODEL: save(dict(params)), ABOUT: (json.dumps(about, indent=1) + "\n").encode()}
    for name, data in content.items():
        beside = folder / f".{name}.part"
        sync_file(beside, data, 0o600)
        beside.replace(folder / name)
    sync(folder)


def descent(problem: Problem, rate: float, steps: int) -> Inner:
    """How a user personalizes, as validation users have chosen it."""
    return replace(problem.adapt, rate=rate, steps=steps)
