"""The workloads that speed is measured on, as chunks of generated users."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedmeta import cohort
from fedmeta.gram import Geometry
from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.types import Examples, Params, Task, Update

FEATURES, CLASSES, HIDDEN = 384, 10, 64


class Work(NamedTuple):
    """A method on a head, for users with so many support and query examples."""

    name: str
    method: str
    head: str
    support: int
    query: int
    inner: Inner


WORKS = {
    work.name: work
    for work in (
        Work("W1", "reptile", "linear", 64, 0, Inner(rate=1.0, steps=10, batch=16)),
        Work("W2", "maml", "mlp", 25, 75, Inner(rate=1.0, steps=5)),
        Work("W2f", "fomaml", "mlp", 25, 75, Inner(rate=1.0, steps=5)),
    )
}


def model(work: Work) -> Model:
    """Head and loss of a workload."""
    return Model(HEADS[work.head](FEATURES, CLASSES, HIDDEN), LOSSES["classification"])


def start(work: Work) -> dict[str, Tensor]:
    """Parameters to start from, none of them zero: at zero, errors could hide."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in model(work).head.init(generator).items()
    }


def chunk(work: Work, users: int, seed: int, dtype: torch.dtype = torch.float32) -> Task:
    """Users with features of about unit norm and labels of their own."""
    generator = torch.Generator().manual_seed(seed)

    def side(examples: int) -> Examples:
        x = torch.randn(users, examples, FEATURES, generator=generator) / FEATURES**0.5
        label = torch.randint(0, CLASSES, (users, examples), generator=generator)
        y = one_hot(label, CLASSES).mT.to(dtype).contiguous()
        weight = torch.full((users, examples), 1.0 / max(examples, 1), dtype=dtype)
        return Examples(x.to(dtype), y, weight)

    return Task(side(work.support), side(work.query))


def engine(work: Work, theta: Params, task: Task, gram: Geometry | None = None) -> Update:
    """The sum over a chunk, as clients compute it."""
    with torch.no_grad():
        return cohort.contribute(
            METHODS[work.method], model(work), theta, task, work.inner, gram=gram
        )
