"""A function of one user for all users of a chunk."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from fedmeta.heads import Head
from fedmeta.learner import Model, Primal, Single
from fedmeta.types import Examples, Params, Task

Found = TypeVar("Found")


def mapped(function: Callable[[Task, Params], Found], head: Head, task: Task, own: Params) -> Found:
    """A function of one user for all of them, as many in one batched program as suits the head."""
    found: Found
    most = _most(head, task)
    if most != 1:
        found = vmap(function, chunk_size=most or None)(task, dict(own))
        return found
    with torch.no_grad():  # what is to be derived says so
        each = [
            function(
                Task(*(Examples(*(field[user] for field in side)) for side in task)),
                {name: value[user] for name, value in own.items()},
            )
            for user in range(len(task.support.weight))
        ]
    leaves, spec = zip(*(tree_flatten(one) for one in each), strict=True)
    found = tree_unflatten([torch.stack(column) for column in zip(*leaves, strict=True)], spec[0])
    return found


def learner_of(model: Model, aligned: bool, task: Task) -> Primal:
    """The plain form of a chunk's users: by the tape itself where they run one after the other."""
    return Single(model, aligned) if _most(model.head, task) == 1 else Primal(model, aligned)


def _most(head: Head, task: Task) -> int:
    """Most users in one batched program; 0: any number."""
    return head.users.get(task.support.x.device.type, 0)
