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

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, no_adaptation
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
        label: the last one, ``(classes,)``; zeros before the first.
        keys, values: the memory, ``(rows, width)`` and ``(rows, classes)``.
        usage: of its rows, ``(rows,)``.
    """

    h: Tensor
    c: Tensor
    label: Tensor
    keys: Tensor
    values: Tensor
    usage: Tensor


def _start(setup: Setup) -> dict[str, Tensor]:
    width, outputs = setup.head["output.weight"].shape[-1], setup.outputs

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=setup.generator)
        return drawn / math.sqrt(shape[-1])

    return {
        **trunk_only(setup),
        "mann/gates.input": normal(4 * UNITS, width),
        "mann/gates.label": normal(4 * UNITS, outputs),
        "mann/gates.state": normal(4 * UNITS, UNITS),
        # The gate to forget starts open.
        "mann/gates.bias": torch.eye(4)[1].repeat_interleave(UNITS),
        "mann/key.input": torch.randn(WIDTH, width, generator=setup.generator) * WIDTH**-0.5,
        "mann/key.state": 0.1 * normal(WIDTH, UNITS),
        "mann/log-sharpness": torch.tensor(10.0).log(),
        "mann/gate": torch.tensor(-2.0),
        "mann/output.state": 0.1 * normal(outputs, UNITS),
        "mann/output.read": 4.0 * torch.eye(outputs),
        "mann/output.bias": torch.zeros(outputs),
    }


def _gates(params: Params, embedded: Tensor, labels: Tensor) -> Tensor:
    """What examples ``(H, N)`` and the labels before them put into the controller's gates."""
    from_both = params["mann/gates.input"] @ embedded + params["mann/gates.label"] @ labels
    gates: Tensor = (from_both + params["mann/gates.bias"][:, None]).mT
    return gates


def _lstm(params: Params, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    both = gates + params["mann/gates.state"] @ h
    both = both.reshape(*both.shape[:-1], 4, UNITS)
    i, f, o = torch.sigmoid(both[..., :3, :]).unbind(-2)
    c = f * c + i * torch.tanh(both[..., 3, :])
    return o * torch.tanh(c), c


def _keys(params: Params, embedded: Tensor, h: Tensor) -> Tensor:
    """Keys ``(N, width)`` of examples, from their embeddings and the controller's states."""
    return (params["mann/key.input"] @ embedded).mT + h @ params["mann/key.state"].mT


def _read(params: Params, key: Tensor, keys: Tensor) -> Tensor:
    """Weights of the rows by the cosine similarity of their keys; an empty row is at 0."""
    sharp = params["mann/log-sharpness"].exp() * normalized(key)
    return torch.softmax(sharp @ normalized(keys).mT, -1)


def _say(params: Params, h: Tensor, found: Tensor) -> Tensor:
    """Logits ``(C, N)`` from the controller's states and what was read."""
    seen = found @ params["mann/output.read"].mT
    return (h @ params["mann/output.state"].mT + seen + params["mann/output.bias"]).mT


def _before(support: Examples) -> Tensor:
    """The label before each example, ``(C, N)``, where padding is passed over; zeros at first."""
    n = support.weight.shape[-1]
    at = torch.arange(1, n + 1, device=support.weight.device)
    last = torch.where(support.weight > 0, at, 0).cummax(-1).values
    none = support.y.new_zeros(len(support.y), 1)
    return torch.cat([none, support.y], -1)[:, torch.cat([last.new_zeros(1), last])]


def read_support(learner: Learner, params: Params, support: Examples) -> tuple[State, Tensor]:
    """The state after the support, and the logits on the way, ``(C, N)``, before each label."""
    embedded, before = learner.embed(params, support), _before(support)
    outputs, n = support.y.shape
    h = c = embedded.new_zeros(UNITS)
    states = [embedded.new_zeros(0, UNITS)]
    gates = _gates(params, embedded, before[:, :n])
    for step in range(n):
        new = _lstm(params, gates[step], h, c)
        states.append(new[0][None])
        here = support.weight[step] > 0
        h, c = (torch.where(here, a, b) for a, b in zip(new, (h, c), strict=True))
    all_h = torch.cat(states)
    key = _keys(params, embedded, all_h)

    keys, values = embedded.new_zeros(ROWS, WIDTH), embedded.new_zeros(ROWS, outputs)
    usage, rows = embedded.new_zeros(ROWS), torch.arange(ROWS, device=embedded.device)
    gate, present = torch.sigmoid(params["mann/gate"]), (support.weight > 0).to(embedded.dtype)
    found = [embedded.new_zeros(0, outputs)]
    for step in range(n):
        looked = _read(params, key[step], keys)
        found.append((looked @ values)[None])
        # The label arrives: into the least used row, emptied, and where the reading looked.
        least = (rows == usage.argmin()).to(usage.dtype) * present[step]
        where = gate * looked * present[step] + (1 - gate) * least
        keys = torch.addcmul(keys * (1 - least)[:, None], where[:, None], key[step])
        values = torch.addcmul(values * (1 - least)[:, None], where[:, None], support.y[:, step])
        usage = torch.where(present[step] > 0, DECAY * usage + looked, usage) + where
    said = _say(params, all_h, torch.cat(found))
    return State(h, c, before[:, n], keys, values, usage), said


def ask(params: Params, state: State, embedded: Tensor) -> Tensor:
    """Logits ``(C, Q)`` of queries ``(H, Q)``, each read from the same state, which stays."""
    labels = state.label[:, None].expand(-1, embedded.shape[-1])
    h, _ = _lstm(params, _gates(params, embedded, labels), state.h, state.c)
    looked = _read(params, _keys(params, embedded, h), state.keys)
    return _say(params, h, looked @ state.values)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def sequence_loss(params: Params) -> Tensor:
        state, said = read_support(learner, params, task.support)
        asked = ask(params, state, learner.embed(params, task.query))
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
    return ask(theta, state, learner.embed(theta, task.query))


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
    ignores=INNER_LOOP,
    tunes=False,
)
