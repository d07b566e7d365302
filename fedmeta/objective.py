"""A learner whose loss is a method's own: what :func:`fedmeta.inner.descend` then goes down on."""

from collections.abc import Callable, Iterator

from torch import Tensor

from fedmeta.learner import Learner, plainly
from fedmeta.params import is_head, part
from fedmeta.types import Examples, Params


class Objective:
    """The same model with another loss; see :class:`fedmeta.learner.Downhill`.

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

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """The method's own loss, a scalar."""
        return self.value(params, examples)

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """Gradient of :meth:`loss` with respect to the free parameters."""
        return self.learner.through(
            lambda free: self.value({**params, **free}, examples), part(params, self.free)
        )

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        """Plain steps against :meth:`grad`."""
        return plainly(self, params, examples, rate, steps, size)

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """As the model's."""
        return self.learner.minibatch(examples, step, size)
