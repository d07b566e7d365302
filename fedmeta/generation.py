"""Parameters that the server makes for each of its training users, and what comes back of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.methods import Method
from fedmeta.params import OWN
from fedmeta.problem import Problem
from fedmeta.types import Params


def issue(problem: Problem, meta: Params, users: NDArray[np.int64]) -> dict[str, Tensor]:
    """What training users are sent, each his own, ``(U, ...)``; nothing for most methods."""
    generator = problem.method.generator
    return generator.issue(meta, _rows(problem, users)) if generator else {}


def collect(
    problem: Problem, meta: Params, users: NDArray[np.int64], sent: Params
) -> dict[str, Tensor]:
    """The sum of what training users have sent, as directions for the server's parameters."""
    generator = problem.method.generator
    if generator is None or not len(users):
        return dict(sent)
    return generator.collect(meta, _rows(problem, users), sent)


def size(problem: Problem, meta: Params) -> int:
    """Bytes of the parameters that one training user is sent; what users own never travels."""
    sent = issue(problem, meta, problem.population.store.users("train")[:1]) or meta
    shared = [value for name, value in sent.items() if not name.startswith(OWN)]
    return sum(value.numel() * value.element_size() for value in shared)


def public(method: Method, meta: Params) -> Params:
    """What a new user is sent of the server's parameters."""
    return method.generator.public(meta) if method.generator else meta


def _rows(problem: Problem, users: NDArray[np.int64]) -> Tensor:
    """Numbers of training users among the training users."""
    return torch.from_numpy(np.searchsorted(problem.population.store.users("train"), users))
