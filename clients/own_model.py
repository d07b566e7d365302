"""What a run leaves with its user: his personal model, made on all of his examples, on his disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clients.disk import sync, sync_file
from fedmeta import head_file, loop, personal, tasks
from fedmeta.backbones import live
from fedmeta.head_file import Model
from fedmeta.inner import Inner
from fedmeta.problem import Problem
from fedmeta.types import Params

FILE = "head.safetensors"


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


def write(path: Path, content: bytes) -> None:
    """Write the file of the model; the old one or the new one is there, whole.

    Raises:
        OSError: the disk is full or broken.
    """
    beside = path.with_name(f".{path.name}.part")
    sync_file(beside, content, 0o600)
    beside.replace(path)
    sync(path.parent)


def packed(
    problem: Problem, theta: Params, params: Params, backbone: str, user: str, inner: Inner
) -> bytes:
    """The model as `fedmeta predict` and `serve` take it, with the run of these parameters.

    Args:
        problem: with the user alone.
        theta: what he was sent.
        params: what :func:`make` has made.
        backbone: the encoder of the run.
        user: his name, of which a hash is in the file.
        inner: how he has adapted.
    """
    sha256 = live.sha256_of(backbone, problem.config.backbone)
    of = Model(problem.method, head_file.weights_sha256(theta), backbone, sha256)
    store = problem.population.store
    return head_file.packed(params, of, store.classes, user, len(store.item), inner)


def descent(problem: Problem, rate: float, steps: int) -> Inner:
    """How a user personalizes, as validation users have chosen it."""
    return replace(problem.adapt, rate=rate, steps=steps)
