"""How fast the machine could be: the products the dual form must do, and the rate of products."""

from collections.abc import Callable

import torch

from experiments.bench.workloads import CLASSES, FEATURES, HIDDEN, Work

SIDE = 1024


def flops(work: Work) -> int:
    """Floating-point operations in the matrix products that one user needs in the dual form.

    A product of (m, k) and (k, n) counts 2mkn; Gram matrices are at hand, and what is not a
    product counts nothing. With D features, C classes, H first-layer outputs (C for the linear
    head), S and Q examples, B of them in a minibatch, k steps:

    - the anchors, 2HD(S + Q);
    - steps after the first meet the Gram matrix, 2HSB each, and the query meets it once, 2HSQ;
    - an MLP has three products with its second layer in a step (logits, weights, errors), 2CHB
      each, and the same three on the query;
    - the reverse pass of MAML doubles each product of steps and query that it goes through, of
      which the query's logits and Gram product are two, so that they count three times;
    - back to weights, 2HD for each example with a coefficient: the support's for Reptile, the
      query's for FOMAML, both for MAML.
    """
    s, q, steps = work.support, work.query, work.inner.steps
    size = work.inner.batch or s
    deep = work.head == "mlp"
    h = HIDDEN if deep else CLASSES
    rows = {"reptile": s, "fomaml": q, "maml": s + q}[work.method]
    wide = 2 * h * FEATURES * (s + q + rows)
    layer = 2 * CLASSES * h if deep else 0
    inner = (steps - 1) * 2 * h * s * size + steps * 3 * layer * size
    if work.method == "maml":
        return wide + 3 * (inner + 2 * h * s * q + layer * q)
    return wide + inner + 2 * h * s * q + 3 * layer * q


def product() -> Callable[[], float]:
    """A job that does one large float32 product and returns its operations."""
    a, b = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    out = torch.empty(SIDE, SIDE)

    def job() -> float:
        torch.mm(a, b, out=out)
        return 2.0 * SIDE**3

    return job
