"""What a method may ask of one user's model: losses, gradients, minibatches.

:class:`Learner` is the interface in which methods are written; :class:`Primal` is its plain
form, by automatic differentiation of the head. The dual form is in :mod:`fedmeta.dual`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import grad

from fedmeta.heads import Head, linear
from fedmeta.losses import Loss
from fedmeta.params import add, is_output, part
from fedmeta.types import Examples, Params, Task


class Model(NamedTuple):
    """A head with the loss it is trained on."""

    head: Head
    loss: Loss


class Alone(NamedTuple):
    """The output layer as a linear model of its own, on what the trunk makes of the features.

    Attributes:
        learner: of that model.
        params: where it starts.
        task: the user's, with embeddings for features.
        whole: from that model's parameters to those of the output layer in the whole.
    """

    learner: "Learner"
    params: Params
    task: Task
    whole: Callable[[Params], Params]


class Downhill(Protocol):
    """What :func:`fedmeta.inner.descend` needs of a model."""

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """Gradient of :meth:`loss` with respect to the head's parameters."""
        ...

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        """Parameters after each of the plain steps against :meth:`grad` on its :meth:`minibatch`.

        A step may write over what the one before it has yielded.
        """
        ...

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """The step's minibatch: ``size`` examples, cyclically in their order; 0 gives all."""
        ...


class Noised(Downhill, Protocol):
    """What a method may ask under example-level privacy: noised gradients and nothing else."""

    def only(self, wanted: Callable[[str], bool]) -> Downhill:
        """The same with respect to some parameters alone: no clip is spent on the others."""
        ...


class Learner(Downhill, Protocol):
    """One user's model. Parameters that the head does not know are passed over."""

    def logits(self, params: Params, examples: Examples) -> Tensor:
        """Logits ``(C, N)``."""
        ...

    def embed(self, params: Params, examples: Examples) -> Tensor:
        """What the trunk makes of the features, ``(H, N)``; the features where there is none."""
        ...

    def output(self, params: Params, task: Task) -> Alone:
        """The output layer alone: embedding once is enough where only that layer moves."""
        ...

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """Mean loss over the examples, a scalar."""
        ...

    def dot(self, a: Params, b: Params) -> Tensor:
        """Inner product of two sets of the head's parameters; what is absent is zero.

        At most one of the two may have gradients on the query in it.
        """
        ...

    def bend(self, params: Params, examples: Examples, v: Params) -> dict[str, Tensor]:
        """Hessian of :meth:`loss` times ``v``."""
        ...

    def through(self, function: Callable[[Params], Tensor], params: Params) -> dict[str, Tensor]:
        """Gradient of any scalar function of the parameters, through all it computes."""
        ...


class Primal:
    """The plain form: weights are weights, and gradients come from ``torch.func.grad``."""

    def __init__(self, model: Model, aligned: bool = False) -> None:
        """``aligned``: no user is padded and minibatches divide the support: slices suffice."""
        self.head, self.value = model
        self.aligned = aligned

    def logits(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`Learner`."""
        return self.head.logits(params, examples.x)

    def embed(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`Learner`."""
        return self.head.embed(params, examples.x)

    def output(self, params: Params, task: Task) -> Alone:
        """See :class:`Learner`."""
        layer = part(params, is_output)
        outputs, width = layer["output.weight"].shape
        learner = Primal(Model(linear(width, outputs), self.value), self.aligned)
        sides = (side._replace(x=self.embed(params, side).mT) for side in task)
        return Alone(learner, layer, Task(*sides), dict)

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`Learner`."""
        return self.value.value(self.logits(params, examples), examples.y, examples.weight)

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """See :class:`Learner`."""
        model = {name: value for name, value in params.items() if "/" not in name}
        found: dict[str, Tensor] = grad(lambda free: self.loss(free, examples))(model)
        return found

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        """See :class:`Learner`."""
        return plainly(self, params, examples, rate, steps, size)

    def dot(self, a: Params, b: Params) -> Tensor:
        """See :class:`Learner`."""
        return torch.stack([(a[name] * b[name]).sum() for name in a if name in b]).sum()

    def bend(self, params: Params, examples: Examples, v: Params) -> dict[str, Tensor]:
        """See :class:`Learner`."""
        model = {name: value for name, value in params.items() if "/" not in name}
        return self.through(lambda at: self.dot(self.grad(at, examples), v), model)

    def through(self, function: Callable[[Params], Tensor], params: Params) -> dict[str, Tensor]:
        """See :class:`Learner`."""
        found: dict[str, Tensor] = grad(function)(dict(params))
        return found

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """See :class:`Learner`."""
        if not size:
            return examples
        at, weight = batch(examples.weight, step, size, self.aligned)
        return Examples(examples.x[at], examples.y[:, at], weight)


class Single(Primal):
    """The plain form where nothing is mapped: the same derivatives, by the tape itself.

    ``torch.func.grad`` records the outermost derivative as if there were one more to come, which
    costs a fifth of the time of a whole model. Here what is recorded is what is asked for, of the
    form of the head that is fastest for one user alone.
    """

    def logits(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`Learner`."""
        if self.head.alone is None:
            return self.head.logits(params, examples.x)
        h = self.embed(params, examples)
        return params["output.weight"] @ h + params["output.bias"][:, None]

    def embed(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`Learner`."""
        return (self.head.alone or self.head.embed)(params, examples.x)

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """See :class:`Learner`."""
        model = {name: value for name, value in params.items() if "/" not in name}
        return self.through(lambda free: self.loss(free, examples), model)

    def through(self, function: Callable[[Params], Tensor], params: Params) -> dict[str, Tensor]:
        """See :class:`Learner`; inside of another derivative it can be derived itself."""
        inside = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views: parameters may be made of each other, and only this function's use counts.
            free = {
                name: value.view_as(value) if value.requires_grad else value.detach()
                for name, value in params.items()
            }
            free = {n: v if v.requires_grad else v.requires_grad_() for n, v in free.items()}
            value = function(free)
            if not value.requires_grad:
                return {name: torch.zeros_like(at) for name, at in params.items()}
            found = torch.autograd.grad(
                value, list(free.values()), create_graph=inside, materialize_grads=True
            )
        return dict(zip(free, found, strict=True))


def plainly(
    learner: Downhill, params: Params, examples: Examples, rate: float, steps: int, size: int
) -> Iterator[Params]:
    """:meth:`Downhill.run`, one gradient after the other."""
    for step in range(steps):
        params = add(params, learner.grad(params, learner.minibatch(examples, step, size)), -rate)
        yield params


def batch(weight: Tensor, step: int, size: int, aligned: bool) -> tuple[slice | Tensor, Tensor]:
    """Positions of a step's minibatch among a user's examples, and the weights of its mean.

    The examples are one endless cycle, so a user with fewer than ``size`` meets some twice.
    A user without any gets weights 0. Where ``aligned``, the positions are a slice: no copy.
    """
    if aligned:
        start = step * size % weight.shape[-1]
        return slice(start, start + size), weight.new_full((size,), 1.0 / size)
    count = (weight > 0).sum(-1, keepdim=True)
    at = (step * size + torch.arange(size, device=weight.device)) % count.clamp(min=1)
    return at, (count > 0) * weight.new_full((size,), 1.0 / size)


def is_aligned(support: Examples, size: int) -> bool:
    """Whether minibatches of a stacked support set are slices (see :func:`batch`)."""
    length = support.weight.shape[-1]
    return bool(size) and length > 0 and length % size == 0 and bool((support.weight > 0).all())
