"""Small versions of the heads that take no vector of any width, and tasks for them."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor

from fedmeta.heads import HEADS, Given
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.sections.method import HeadConfig
from fedmeta.types import Task
from tests.backbones.conftest import save_bert
from tests.engine.cases import FEATURES, HIDDEN, OUTPUTS, tasks

SIDE, TOKENS, EACH, LETTERS, IDS = 16, 3, 4, 5, 6
OPTIONS = HeadConfig(
    width=6, feed_forward=5, attention_heads=2, filters=4, vocabulary=9, embedding=3, rank=2,
    prompt=3,
)  # fmt: skip
SIZES = ((4, 3), (1, 5), (3, 0))
"""Support and query examples of three users: a single one, and none."""
WIDTHS = {
    "conv4": SIDE**2, "ph-transformer": TOKENS * EACH, "gru": LETTERS, "lora": IDS, "prompt": IDS,
    "encoder": IDS,
}  # fmt: skip
"""Numbers of an example."""
SLOW = ("lora", "prompt", "encoder")
PAIRS = [
    *((method, head) for head in ("conv4", "ph-transformer", "gru") for method in (
        "fedavg-ft", "maml", "anil", "boil", "protonet", "ridge", "meta-sgd", "fedrep")),
    *((method, head) for head in SLOW for method in ("reptile", "maml")),
    ("protonet", "proto"), ("protomaml", "proto"), ("protomamln", "proto"), ("ridge", "ridge"),
]  # fmt: skip


@cache
def folder() -> str:
    """A tiny BERT on disk."""
    return str(save_bert(Path(mkdtemp()) / "bert", layers=1))


def whole_model(head: str, kind: str = "classification") -> Model:
    """A small head with the loss of a kind of task."""
    width = WIDTHS.get(head, FEATURES)
    given = Given(OPTIONS, TOKENS if head == "ph-transformer" else 1)
    if head in SLOW:
        given = given._replace(folder=folder())
    return Model(HEADS[head](width, OUTPUTS[kind], HIDDEN, given=given), LOSSES[kind])


def whole_tasks(head: str, seed: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> Task:
    """Random stacked tasks whose examples are what the head takes."""
    task, random = tasks(seed, sizes), torch.Generator().manual_seed(seed + 7)
    if head not in WIDTHS:
        return task
    return Task(*(side._replace(x=_examples(head, side.x.shape[:2], random)) for side in task))


def _examples(head: str, shape: torch.Size, random: torch.Generator) -> Tensor:
    x = torch.randn(*shape, WIDTHS[head], generator=random, dtype=torch.float64)
    if head == "ph-transformer":  # a position of zeros is none; the first one is always there
        there = torch.rand(*shape, TOKENS, 1, generator=random) < 0.7
        there[..., 0, :] = True
        return (x.view(*shape, TOKENS, EACH) * there).flatten(-2)
    if head == "gru" or head in SLOW:
        low, high = (0, OPTIONS.vocabulary) if head == "gru" else (5, 18)
        x = torch.randint(low, high, x.shape, generator=random).double()
        length = torch.randint(1, WIDTHS[head] + 1, (*shape, 1), generator=random)
        return torch.where(torch.arange(WIDTHS[head]) < length, x, -1.0)
    return x


def pad(task: Task, more: int) -> Task:
    """More padding, with copies of real examples."""
    sides = [
        side._replace(
            x=torch.cat([side.x, side.x[:, :1].expand(-1, more, -1)], 1),
            y=torch.cat([side.y, side.y[..., :1].expand(-1, -1, more)], 2),
            weight=torch.cat([side.weight, side.weight.new_zeros(len(side.weight), more)], 1),
        )
        for side in task
    ]
    return Task(*sides)
