"""The dual form of an affine first layer: why thousands of users are cheap.

With a frozen backbone the first trainable layer sees fixed inputs X, one row per example. Each
gradient of its weights is then ``E X``, with E (outputs x examples) the error at the layer, so
every iterate of an SGD-type inner loop is ``W_0 + A X`` for some coefficients A over the support
rows, and

    W_k x = W_0 x + A_k X x

needs only the Gram matrix ``X X^T``. A user never owns a weight matrix: X meets weights in two
products per chunk, ``W_0 X^T`` before the inner loop and ``A X`` after it, and a step costs the
same whatever the width of the language model. The bias is one more feature that is always 1.
This is exact for updates that are linear in the layer's gradients (momentum and proximal terms
included), first and second order; per-weight rates take the plain form instead.

What a method does to parameters here is linear, or goes through the learner: so the functions
of one user serve stacked users as they are, every tensor with a leading axis U. No ``vmap``:
in an inner loop of small tensors its dispatch would cost more than the arithmetic.

Derivatives with respect to W_0 come from the *anchors* ``Z = W_0 X^T + b``: if dZ is the
derivative of any function with respect to them, its derivative with respect to W_0 is ``dZ X``.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.func import grad

from fedmeta.columns import add_at, scatter, take
from fedmeta.gram import Anchors, Geometry, geometry
from fedmeta.heads import Tail, linear
from fedmeta.learner import Alone, Model, batch, plainly
from fedmeta.own_layer import MINE
from fedmeta.types import Examples, Params, Task


class Rows(NamedTuple):
    """Stands for features in the dual form: which rows of which side of the user's task."""

    side: str
    at: slice | Tensor | None = None


class Dual:
    """The models of a chunk's users in dual coordinates; see :class:`fedmeta.learner.Learner`.

    In its parameters ``{layer}.weight`` holds the coefficients A ``(U, H, S)`` (absent: zero),
    and ``{layer}.bias`` is part of them. Gradients on the query, which no inner step takes,
    have their coefficients ``(U, H, Q)`` under ``{layer}.weight@query``.
    """

    def __init__(
        self,
        model: Model,
        tail: Tail,
        gram: Geometry,
        anchor: Anchors,
        aligned: bool,
        own: Anchors | None = None,
    ) -> None:
        """``gram`` and ``anchor`` are those of the chunk's task, ``own`` of users' layers."""
        self.value, self.tail, self.aligned = model.loss, tail, aligned
        self.weight = f"{tail.layer}.weight"
        self.gram = {"support": gram.support, "query": gram.query}
        self.anchor = {"support": anchor.support, "query": anchor.query}
        self.mine = self.weight + MINE
        self.own = {} if own is None else {"support": own.support, "query": own.query}

    def start(self, theta: Params) -> dict[str, Tensor]:
        """The server's parameters, one copy per user; the first layer is at the anchors."""
        first = (self.weight, f"{self.tail.layer}.bias")
        users = len(self.anchor["support"])
        return {
            name: value.expand(users, *value.shape)
            for name, value in theta.items()
            if name not in first
        }

    def outputs(self, params: Params, rows: Rows) -> Tensor:
        """First-layer outputs ``(U, H, N)`` of the rows."""
        z = params.get(f"anchor@{rows.side}", self.anchor[rows.side])
        gram = self.gram[rows.side]
        if self.mine in params:
            z = z + params[self.mine] * self.own[rows.side]
        if rows.at is not None:
            z, gram = take(z, rows.at), take(gram, rows.at)
        if self.weight not in params:
            return z
        a = params[self.weight]
        return torch.baddbmm(z, a, gram[..., : a.shape[-1], :])

    def logits(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`fedmeta.learner.Learner`."""
        return self.tail.forward(params, self.outputs(params, _rows(examples)))

    def embed(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`fedmeta.learner.Learner`; there are no features, but what follows them is.

        Raises:
            ValueError: the head has no trunk, so that features themselves are asked for.
        """
        if self.tail.embed is None:
            raise ValueError(
                "a method that embeds examples needs the plain form: set Method.embeds"
            )
        return self.tail.embed(params, self.outputs(params, _rows(examples)))

    def output(self, params: Params, task: Task) -> Alone:
        """See :class:`fedmeta.learner.Learner`: in dual coordinates again, of the embeddings."""
        if self.tail.embed is None:
            return Alone(self, params, task, dict)
        embed, weight, bias = self.tail.embed, params["output.weight"], params["output.bias"]
        z = (self.outputs(params, _rows(side)) for side in task)
        inside = Task(
            *(side._replace(x=embed(params, at).mT) for side, at in zip(task, z, strict=True))
        )
        anchor = Anchors(*(weight @ side.x.mT + bias[..., None] for side in inside))
        head = linear(*weight.mT.shape[-2:])

        def whole(found: Params) -> Params:
            if "output.weight" not in found:
                return {}
            a = found["output.weight"]
            return {"output.weight": weight + a @ inside.support.x, "output.bias": bias + a.sum(-1)}

        model, tail = Model(head, self.value), cast(Tail, head.tail)
        learner = Dual(model, tail, geometry(inside), anchor, self.aligned)
        return Alone(learner, {}, task, whole)

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """See :class:`fedmeta.learner.Learner`."""
        return self.value.value(self.logits(params, examples), examples.y, examples.weight)

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        """See :class:`fedmeta.learner.Learner`; in closed form, so that it nests cheaply."""
        e, rest = self._errors(params, examples)
        rows = _rows(examples)
        name = self.weight if rows.side == "support" else f"{self.weight}@query"
        return {name: scatter(e, rows.at, self.anchor[rows.side].shape[-1]), **rest}

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        """See :class:`fedmeta.learner.Learner`; in place where no derivatives are taken."""
        if torch.is_grad_enabled():
            yield from plainly(self, params, examples, rate, steps, size)
            return
        z, out = self.anchor["support"], dict(params)
        fresh = self.weight not in params
        a = z.new_zeros(z.shape) if fresh else params[self.weight].clone()
        for step in range(steps):
            mine = self.minibatch(examples, step, size)
            at = _rows(mine).at
            # Rows that no step has met yet have coefficients of zero: they are not multiplied.
            met = step * size if fresh and (isinstance(at, slice) or not step) else None
            seen = out if met == 0 else out | {self.weight: a[..., :met]}
            e, rest = self._errors(seen, mine)
            add_at(a, at, e, -rate)
            for name, g in rest.items():
                out[name] = (out[name].add_ if step else out[name].add)(g, alpha=-rate)
            yield out | {self.weight: a}

    def _errors(self, params: Params, examples: Examples) -> tuple[Tensor, dict[str, Tensor]]:
        """Derivatives by the first layer's outputs at the rows, and by the tail's parameters."""

        def error(logits: Tensor) -> Tensor:
            return self.value.error(logits, examples.y, examples.weight)

        return self.tail.backward(params, self.outputs(params, _rows(examples)), error)

    def dot(self, a: Params, b: Params) -> Tensor:
        """See :class:`fedmeta.learner.Learner`: ``<A X, B X> = <A X X^T, B>``, for each user."""
        query = f"{self.weight}@query"
        if query in a and query in b:
            raise ValueError("inner products of query gradients with each other are not kept")
        if self.mine in a and self.mine in b:
            raise ValueError("inner products of users' own layers with each other are not kept")
        terms = [a[name] * b[name] for name in a if name in b and name != self.weight]
        if self.weight in a and self.weight in b:
            terms.append((a[self.weight] @ self.gram["support"]) * b[self.weight])
        for one, other in ((a, b), (b, a)):
            if self.weight in one and query in other:
                terms.append((one[self.weight] @ self.gram["query"]) * other[query])
            if self.mine in one:
                for name, side in ((self.weight, "support"), (query, "query")):
                    if name in other:
                        terms.append(one[self.mine] * self.own[side] * other[name])
        return torch.stack([term.flatten(1).sum(1) for term in terms]).sum(0)

    def bend(self, params: Params, examples: Examples, v: Params) -> dict[str, Tensor]:
        """See :class:`fedmeta.learner.Learner`; the examples are of the support."""
        model = {name: value for name, value in params.items() if "/" not in name}
        found = self.through(lambda at: self.dot(self.grad(at, examples), v), model)
        # The gradient on the support knows nothing of the query.
        return {name: value for name, value in found.items() if not name.endswith("@query")}

    def through(self, function: Callable[[Params], Tensor], params: Params) -> dict[str, Tensor]:
        """See :class:`fedmeta.learner.Learner`: the derivative is taken at the anchors."""
        fixed = (self.weight, self.mine)
        free = {name: value for name, value in params.items() if name not in fixed}
        free |= {f"anchor@{side}": z for side, z in self.anchor.items()}
        # Users are independent: the gradient of the sum is each user's own.
        g = grad(lambda at: function({**params, **at}).sum())(free)
        return {
            self.weight: g.pop("anchor@support"),
            f"{self.weight}@query": g.pop("anchor@query"),
            **g,
        }

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        """See :class:`fedmeta.learner.Learner`."""
        if not size:
            return examples
        at, weight = batch(examples.weight, step, size, self.aligned)
        return Examples(_as_features(Rows(_rows(examples).side, at)), take(examples.y, at), weight)


def task_of(task: Task) -> Task:
    """A task with its features replaced by references to rows."""
    return Task(
        task.support._replace(x=_as_features(Rows("support"))),
        task.query._replace(x=_as_features(Rows("query"))),
    )


def _rows(examples: Examples) -> Rows:
    return cast(Rows, examples.x)


def _as_features(rows: Rows) -> Tensor:
    # Methods hand examples through without looking inside, so rows may stand for features.
    return cast(Tensor, rows)
