"""The one door to a user's examples under example-level privacy: noised, clipped gradients.

A method is given this in place of a learner, and references in place of its examples. Whatever it
does with the gradients is post-processing; there is nothing else that it could look at, and no
gradient can be had twice under the same noise.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.learner import Downhill, Model
from fedmeta.params import add, is_head
from fedmeta.privacy.clipping import Clipped, lengths
from fedmeta.types import Examples, Params, Task

Noise = Callable[[str, int, int], Tensor]
"""``(side, steps, count) -> standard normal numbers (steps, U, count)``; asked once for a side."""


class Source(NamedTuple):
    """Stands for the features of a side of the users' tasks at a step."""

    side: str
    step: int = 0


class Side(NamedTuple):
    """Examples of a chunk's users on one side, and the public terms on which they are met.

    Attributes:
        examples: stacked over the U users.
        chosen: which of them are in each step's sum, bool ``(steps, U, N)``.
        divisor: what the sum is divided by: public, never a count of examples.
    """

    examples: Examples
    chosen: NDArray[np.bool_]
    divisor: float


class Noisy:
    """A chunk's users; parameters have a leading axis U (see :class:`fedmeta.learner.Noised`).

    Attributes:
        released: sides and steps of the gradients that were given out, in order: what is charged.
    """

    def __init__(
        self,
        model: Model,
        sides: dict[str, Side],
        clip: float,
        multiplier: float,
        noise: Noise,
        way: Clipped,
    ) -> None:
        """``way``: how gradients are clipped."""
        self.model, self.sides, self.way = model, sides, way
        self.clip, self.multiplier, self.noise = clip, multiplier, noise
        self.released: list[tuple[str, int]] = []
        self._drawn: dict[str, Tensor] = {}
        self._orders: dict[str, _Order] = {}

    def task(self) -> Task:
        """What a method is given for its users' task: no feature, no label, no count."""
        nothing = torch.empty(0)
        return Task(
            *(Examples(cast(Tensor, Source(name)), nothing, nothing) for name in Task._fields)
        )

    def start(self, theta: Params) -> dict[str, Tensor]:
        """The server's parameters, one copy per user."""
        users = len(self.sides["support"].examples.weight)
        return {name: value.expand(users, *value.shape) for name, value in theta.items()}

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """The step's Poisson sample, whatever ``size``, which is of the order of the data."""
        source = cast(Source, examples.x)
        return examples._replace(x=cast(Tensor, source._replace(step=step)))

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """The noised gradient of the step by all parameters."""
        return self.noised(params, examples, is_head)

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        """See :class:`fedmeta.learner.Downhill`."""
        return _run(self, params, examples, rate, steps, size)

    def only(self, wanted: Callable[[str], bool]) -> Downhill:
        """See :class:`fedmeta.learner.Noised`."""
        return _Only(self, wanted)

    def noised(
        self, params: Params, examples: Examples, wanted: Callable[[str], bool]
    ) -> dict[str, Tensor]:
        """``(sum of clipped gradients + clip * multiplier * N(0, I)) / divisor``, and a charge.

        Raises:
            ValueError: a gradient that was given out already, or of a step that is not there.
        """
        source = cast(Source, examples.x)
        side = self.sides[source.side]
        if source in self.released or not 0 <= source.step < len(side.chosen):
            raise ValueError(
                f"step {source.step} of the {source.side} set is released once, and there are"
                f" {len(side.chosen)}: a second gradient under the same noise would give the first"
                " away; methods take a new step for each gradient"
            )
        self.released.append(source)
        if source.side not in self._orders:
            self._orders[source.side] = _order(side)
        inside, squares = _gathered(side.examples, self._orders[source.side], source.step)
        sums = self.way(self.model, params, inside, self.clip, wanted, squares)
        names = sorted(sums)
        noise = self._noise(source, sum(sums[name][0].numel() for name in names))
        out, behind = {}, 0
        for name in names:
            value, size = sums[name], sums[name][0].numel()
            mine = noise[:, behind : behind + size].view(value.shape).to(value)
            # In place: a fresh block of memory for every step would cost more than the sum.
            out[name] = value.add_(mine, alpha=self.clip * self.multiplier).div_(side.divisor)
            behind += size
        return out

    def _noise(self, source: Source, count: int) -> Tensor:
        """Standard normal numbers ``(U, count)`` of a step."""
        if source.side not in self._drawn:
            steps = len(self.sides[source.side].chosen)
            self._drawn[source.side] = self.noise(source.side, steps, count)
        noise = self._drawn[source.side][source.step]
        if noise.shape[-1] != count:
            raise ValueError(f"gradients of a side have the same parameters at all steps: {count}")
        return noise


class _Only:
    """:class:`Noisy` with respect to some parameters; see :class:`fedmeta.learner.Downhill`."""

    def __init__(self, noisy: Noisy, wanted: Callable[[str], bool]) -> None:
        self.noisy, self.wanted, self.minibatch = noisy, wanted, noisy.minibatch

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        return self.noisy.noised(params, examples, self.wanted)

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        return _run(self, params, examples, rate, steps, size)


def _run(
    learner: Noisy | _Only, params: Params, examples: Examples, rate: float, steps: int, size: int
) -> Iterator[Params]:
    for step in range(steps):
        g = learner.grad(params, learner.minibatch(examples, step, size))
        if not step or torch.is_grad_enabled():
            params = add(params, g, -rate)
        else:  # what the first step has made is nobody else's
            for name, value in g.items():
                params[name].add_(value, alpha=-rate)
        yield params


class _Order(NamedTuple):
    """Each user's examples, at every step those first that are in; all ``(steps, U, N)``.

    Attributes:
        at: their places.
        rows: the same among all users' examples one after the other.
        present: 1 for those that are in, else 0.
        squares: squared lengths of their features.
        longest: most that a user has in at each step, rounded up to a multiple of 4, where a
            product of matrices takes half of the time.
    """

    at: Tensor
    rows: Tensor
    present: Tensor
    squares: Tensor
    longest: list[int]


def _order(side: Side) -> _Order:
    """The order of all steps at once: what a step has to do by itself is slow for small heads."""
    examples, chosen = side.examples, side.chosen
    users, length = chosen.shape[1:]
    first = np.argsort(~chosen, axis=-1, kind="stable")
    there = np.take_along_axis(chosen, first, axis=-1)
    at, present = (torch.from_numpy(a).to(examples.x.device) for a in (first, there))
    rows = at + length * torch.arange(users, device=at.device)[:, None]
    squares = lengths(examples.x).expand(at.shape).gather(-1, at)
    longest = -(-chosen.sum(-1).max(-1, initial=0) // 4) * 4
    return _Order(
        at, rows, present.to(examples.weight.dtype), squares, longest.clip(max=length).tolist()
    )


def _gathered(examples: Examples, order: _Order, step: int) -> tuple[Examples, Tensor]:
    """The chosen examples of each user side by side, padded; squared lengths of their features."""
    users, _, width = examples.x.shape
    at, rows, present, squares = (part[step, :, : order.longest[step]] for part in order[:4])
    x = examples.x.reshape(-1, width).index_select(0, rows.flatten())
    y = examples.y.gather(-1, at[:, None].expand(-1, examples.y.shape[1], -1))
    return Examples(x.view(users, -1, width), y, present), squares
