"""A first layer that a user owns, in the dual form (see :mod:`fedmeta.dual`).

A user of Ditto, APFL or LG-FedAvg comes with a first layer V of his own. With ``D = V - W_0``,
which is fixed while he trains, every iterate is ``W_0 + A X + c D``: beside the coefficients A
there is one number c, 1 where V starts, on which methods act as on all parameters. D meets the
features once before the inner loop, and weights are put together once after it.
"""

from typing import NamedTuple

from torch import Tensor

from fedmeta.gram import Anchors
from fedmeta.heads import Tail
from fedmeta.params import OWN, part
from fedmeta.types import Params, Task

MINE = "@own"
"""Ends the name of c, which begins with that of the layer's weight; ``(U, 1, 1)``, absent: 0."""


class Gap(NamedTuple):
    """How far users' own first layers are from the server's: ``(U, H, D)`` and ``(U, H)``."""

    weight: Tensor
    bias: Tensor

    def anchors(self, task: Task) -> Anchors:
        """What it makes of the features, ``(U, H, S)`` and ``(U, H, Q)``."""
        sides = (self.weight @ side.x.mT + self.bias[..., None] for side in task)
        return Anchors(*sides)


def parted(tail: Tail, theta: Params, memory: Params) -> tuple[dict[str, Tensor], Gap | None]:
    """What users own, the first layer by its number c, and the gap; None where they own none."""
    weight, bias = f"{tail.layer}.weight", f"{tail.layer}.bias"
    if OWN + weight not in memory:
        return dict(memory), None
    rest = part(memory, lambda name: name not in (OWN + weight, OWN + bias))
    gap = Gap(memory[OWN + weight] - theta[weight], memory[OWN + bias] - theta[bias])
    rest[OWN + weight + MINE] = gap.bias.new_ones(len(gap.bias), 1, 1)
    return rest, gap


def whole(
    tail: Tail, theta: Params, kept: Params, gap: Gap | None, task: Task
) -> dict[str, Tensor]:
    """What users keep, with the weights ``(U, H, D)`` and biases of their own first layers."""
    name, bias = f"{tail.layer}.weight", f"{tail.layer}.bias"
    number, coefficients = OWN + name + MINE, OWN + name
    out = part(kept, lambda key: key not in (number, coefficients))
    users = len(task.support.weight)
    out[OWN + name] = theta[name].expand(users, *theta[name].shape)
    out[OWN + bias] = theta[bias].expand(users, *theta[bias].shape)
    if gap is not None and number in kept:
        out[OWN + name] = out[OWN + name] + kept[number] * gap.weight
        out[OWN + bias] = out[OWN + bias] + kept[number][..., 0] * gap.bias
    if coefficients in kept:
        a = kept[coefficients]
        out[OWN + name] = out[OWN + name] + a @ task.support.x
        out[OWN + bias] = out[OWN + bias] + a.sum(-1)
    return out
