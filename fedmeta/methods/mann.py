"""A network with an external memory reads the user's examples in turn (Santoro et al. 2016).

The label of an example comes one step late: step t sees ``(x_t, y_{t-1})``. An LSTM is the
controller. With its state and the embedding of x_t it forms a key, reads the rows of memory by the
cosine similarity of their keys, and predicts y_t from its state and what it read. Then y_t arrives
and is written beside the key of x_t: where the last read looked or, by a learned gate, over the row
that was least used (section 3.2, "least recently used access"). That the label stands beside its
example's key in a row, and the controller need not carry it there, departs from the paper; so does
the start, at a vote of similar rows. Both spare most of the training.

Training goes back through the whole sequence: the support examples in their order, each predicted
before its label is seen, then each query by itself, after the support. The memory never leaves the
user, nor a round: a newcomer starts with an empty one, as everybody does in each round.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, no_adaptation
from fedmeta.methods.protonet import trunk_only
from fedmeta.methods.shown import normalized
from fedmeta.types import Examples, Params, Task

UNITS, WIDTH, ROWS = 32, 32, 24
"""Of the controller; of a key; of the memory."""
DECAY = 0.95
"""Of a row's usage in a step."""


class State(NamedTuple):
    """What is carried from step to step.

    Attributes:
        h, c: of the controller, ``(units,)``.
        keys, values: the memory, ``(rows, width)`` and ``(rows, classes)``.
        usage, read: usage of the rows, and the last step's weights of reading, ``(rows,)``.
        key, label: of the last example, not yet written.
    """

    h: Tensor
    c: Tensor
    keys: Tensor
    values: Tensor
    usage: Tensor
    read: Tensor
    key: Tensor
    label: Tensor


def _start(setup: Setup) -> dict[str, Tensor]:
    width, outputs = setup.head["output.weight"].shape[-1], setup.outputs

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=setup.generator) * shape[-1] ** -0.5

    return {
        **trunk_only(setup),
        "mann/gates.input": normal(4 * UNITS, width),
        "mann/gates.label": normal(4 * UNITS, outputs),
        "mann/gates.state": normal(4 * UNITS, UNITS),
        "mann/gates.bias": torch.zeros(4 * UNITS),
        "mann/key.input": torch.randn(WIDTH, width, generator=setup.generator) * WIDTH**-0.5,
        "mann/key.state": 0.1 * normal(WIDTH, UNITS),
        "mann/log-sharpness": torch.tensor(10.0).log(),
        "mann/gate": torch.tensor(-2.0),
        "mann/output.state": 0.1 * normal(outputs, UNITS),
        "mann/output.read": 4.0 * torch.eye(outputs),
        "mann/output.bias": torch.zeros(outputs),
    }


def empty(outputs: int, like: Tensor) -> State:
    """The state before the first example."""
    shapes = (UNITS,), (UNITS,), (ROWS, WIDTH), (ROWS, outputs), (ROWS,), (ROWS,)
    return State(*(like.new_zeros(shape) for shape in (*shapes, (WIDTH,), (outputs,))))


def written(params: Params, state: State) -> State:
    """The state with the last example and its label in memory."""
    rows = torch.arange(ROWS, device=state.usage.device)
    least = (rows == state.usage.argmin()).to(state.usage.dtype)
    gate = torch.sigmoid(params["mann/gate"])
    # Before the first example there is nothing to write: its label has no weight.
    where = (gate * state.read + (1 - gate) * least) * state.label.sum()
    stays = (1 - least * state.label.sum())[:, None]
    return state._replace(
        keys=state.keys * stays + where[:, None] * state.key,
        values=state.values * stays + where[:, None] * state.label,
        usage=DECAY * state.usage + state.read + where,
    )


def look(params: Params, state: State, embedded: Tensor) -> tuple[Tensor, ...]:
    """The controller's step and the reading for examples ``(H, N)``, each from the same state.

    Returns:
        New h and c, keys and weights of reading, one row for each example, and logits ``(C, N)``.
    """
    gates = (
        params["mann/gates.input"] @ embedded
        + (
            params["mann/gates.label"] @ state.label
            + params["mann/gates.state"] @ state.h
            + params["mann/gates.bias"]
        )[:, None]
    ).mT
    i, f, o, g = gates.unflatten(-1, (4, UNITS)).unbind(-2)
    c = torch.sigmoid(f + 1.0) * state.c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    key = (params["mann/key.input"] @ embedded).mT + h @ params["mann/key.state"].mT
    likeness = normalized(key) @ normalized(state.keys).mT
    weight = torch.softmax(params["mann/log-sharpness"].exp() * likeness, -1)
    logits = (
        h @ params["mann/output.state"].mT
        + weight @ state.values @ params["mann/output.read"].mT
        + params["mann/output.bias"]
    )
    return h, c, key, weight, logits.mT


def read_support(
    learner: Learner, params: Params, support: Examples
) -> tuple[State, Tensor]:
    """The state after the support, its last example written, and the logits on the way, (C, N)."""
    embedded, outputs = learner.embed(params, support), support.y.shape[0]
    state, said = empty(outputs, embedded), [embedded.new_zeros(outputs, 0)]
    for step in range(embedded.shape[-1]):
        after = written(params, state)
        h, c, key, weight, logits = look(params, after, embedded[:, step : step + 1])
        after = after._replace(h=h[0], c=c[0], key=key[0], read=weight[0], label=support.y[:, step])
        here = support.weight[step] > 0
        state = State(*(torch.where(here, *pair) for pair in zip(after, state, strict=True)))
        said.append(logits)
    return written(params, state), torch.cat(said, -1)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def sequence_loss(params: Params) -> Tensor:
        state, said = read_support(learner, params, task.support)
        asked = look(params, state, learner.embed(params, task.query))[-1]
        sides = ((said, task.support), (asked, task.query))
        return sum(
            (
                -(torch.log_softmax(logits, 0) * side.y).sum(0) @ side.weight / 2
                for logits, side in sides
            ),
            start=asked.new_zeros(()),
        )

    return learner.through(sequence_loss, theta)


def _predict(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    state, _ = read_support(learner, theta, task.support)
    return look(theta, state, learner.embed(theta, task.query))[-1]


MANN = Method(
    name="mann",
    family="memory",
    source="Santoro et al. 2016",
    communicates="meta-gradient of the trunk and of the controller",
    adapt=no_adaptation,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="reads the support set into an empty memory",
    cost="a gradient through as many steps as examples; the controller's bytes",
    splits=True,
    start=_start,
    predict=_predict,
    plain=True,
    needs=frozenset({"classes"}),
    tunes=False,
)
