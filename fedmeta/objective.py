"""A learner whose loss is a method's own: what :func:`fedmeta.inner.descend` then goes down on."""

from collections.abc import Callable

from torch import Tensor

from fedmeta.learner import Alone, Learner
from fedmeta.params import add, is_head, part
from fedmeta.types import Examples, Params, Task


class Objective:
    """The same model with another loss; see :class:`fedmeta.learner.Learner`.

    Minibatches gather whole columns of targets, so a loss that needs more of an example than its
    label (a weight, a pseudo-label) finds it in further rows of the targets.
    """

    def __init__(
        self,
        learner: Learner,
        loss: Callable[[Params, Examples], Tensor],
        free: Callable[[str], bool] = is_head,
    ) -> None:
        """``free`` says by name which parameters :meth:`grad` is taken with respect to."""
        self.learner, self.value, self.free = learner, loss, free

    def logits(self, params: Params, examples: Examples) -> Tensor:
        """Those of the model."""
        return self.learner.logits(params, examples)

    def embed(self, params: Params, examples: Examples) -> Tensor:
        """That of the model."""
        return self.learner.embed(params, examples)

    def output(self, params: Params, task: Task) -> Alone:
        """That of the model."""
        return self.learner.output(params, task)

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """The method's own loss, a scalar."""
        return self.value(params, examples)

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """Gradient of :meth:`loss` with respect to the free parameters."""
        return self.learner.through(
            lambda free: self.value({**params, **free}, examples), part(params, self.free)
        )

    def step(self, params: Params, examples: Examples, rate: float, ours: bool) -> Params:
        """One plain step against :meth:`grad`."""
        return add(params, self.grad(params, examples), -rate)

    def through(self, function: Callable[[Params], Tensor], params: Params) -> dict[str, Tensor]:
        """Gradient of any function, as the model's."""
        return self.learner.through(function, params)

    def bend(self, params: Params, examples: Examples, v: Params) -> dict[str, Tensor]:
        """Hessian of :meth:`loss` times ``v``."""
        return self.learner.through(
            lambda at: self.dot(self.grad({**params, **at}, examples), v), part(params, self.free)
        )

    def dot(self, a: Params, b: Params) -> Tensor:
        """As the model's."""
        return self.learner.dot(a, b)

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """As the model's."""
        return self.learner.minibatch(examples, step, size)
