"""iMAML: the meta-gradient at the end of an inner loop, without going back through it.

A user solves ``phi = argmin L_S(phi) + lambda / 2 ||phi - theta||^2``. Where that is solved, the
derivative of the query loss is ``(I + H / lambda)^-1 g`` with H the Hessian of ``L_S`` and g the
query gradient, both at phi (Rajeswaran et al. 2019, lemma 1), whatever path led there; memory
does not grow with the steps. Conjugate gradients need products with H only, and none of them
(``cg-steps = 0``) leaves FOMAML. Damping is added to lambda in that system, for heads whose
Hessian has negative eigenvalues. By default it is 3 and lambda is 0.1, so that what is solved is
``I + H / 3.1``: a correction of FOMAML by a part of the curvature, not the derivative of the
lemma. ``method.cg-damping = 0`` is that.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method
from fedmeta.params import add, subtract, times
from fedmeta.types import Params, Task


def _solve(learner: Learner, product: Callable[[Params], Params], g: Params, steps: int) -> Params:
    """``x`` with ``product(x) = g`` by conjugate gradients from ``x = 0``.

    Every user takes all steps: once his residual is zero, or where a direction has no positive
    curvature, they are steps of length 0.
    """
    x: Params = {}
    residual = direction = g
    square = learner.dot(g, g)
    for _ in range(steps):
        image = product(direction)
        curvature = learner.dot(direction, image)
        useful = (square > 0) & (curvature > 0)
        length = _ratio(square, curvature, useful)
        x = add(x, times(length, direction))
        residual = subtract(residual, times(length, image))
        fresh = learner.dot(residual, residual)
        direction = add(residual, times(_ratio(fresh, square, useful), direction))
        square = fresh
    return x


def _ratio(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, a / torch.where(where, b, 1.0), 0.0)


def _near(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    return descend(learner, theta, task.support, replace(inner, mu=inner.options.imaml_lambda))


def _implicit(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    options = inner.options
    scale = 1.0 / (options.imaml_lambda + options.cg_damping)
    phi = _near(learner, theta, task, inner)

    def product(v: Params) -> Params:
        return add(v, learner.bend(phi, task.support, v), scale)

    # The solution is g and a rest, in the span of the support's gradients, that takes up what
    # the Hessian makes of g.
    g = learner.grad(phi, task.query)
    bent = {name: -scale * v for name, v in learner.bend(phi, task.support, g).items()}
    return add(g, _solve(learner, product, bent, options.cg_steps))


IMAML = Method(
    name="imaml",
    moves=False,
    family="meta-learning, gradient",
    source="Rajeswaran et al. 2019",
    communicates="meta-gradient of the head",
    adapt=_near,
    contribute=_implicit,
    defaults=Defaults(rate=1.0, steps=16, optimizer="adam", server_rate=0.04),
    newcomer="adapts on the support set, held near theta",
    cost="as FedAvg, and two gradients per step of conjugate gradients",
    splits=True,
)
