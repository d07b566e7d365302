"""pFedHN: a network on the server makes each training user's initialization from his embedding.

``theta_i = b + W tanh(V e_i + v)``: the layers of Shamsian et al. (2021) with one hidden layer,
whose last bias b has the names and shapes of the head. A user descends from theta_i and returns
how far he moved; he sees neither the network nor any embedding. The server takes the
vector-Jacobian product of what he returned with respect to the network and to e_i (their
equation 4). The network moves by the mean over the round's users, an embedding by its user's
own: the server divides by the user's share of the round.

A new user has no embedding that the server could have learned. He is sent the network and the
mean embedding, and fits an embedding of his own on his support set, and nothing else.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import vjp, vmap

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Generator, Method, Setup, ending
from fedmeta.params import SHARE, is_head, part, subtract
from fedmeta.types import Params, Task

_PREFIX = "hyper/"
_USERS = "embedding/users"
_PRESENT = "present/users"
_SPREAD = 0.1
"""Standard deviation of the generated heads around the common one at the start."""


def _start(setup: Setup) -> dict[str, Tensor]:
    width, size = setup.inner.options.generator_hidden, setup.inner.options.embedding

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=setup.generator)

    last = {_PREFIX + n: _SPREAD * normal(*v.shape, width) for n, v in setup.head.items()}
    return {
        **setup.head,
        **last,
        "embedding/weight": normal(width, size) * size**-0.5,
        "embedding/bias": torch.zeros(width),
        _USERS: normal(setup.users, size),
    }


def generate(theta: Params, embedding: Tensor) -> dict[str, Tensor]:
    """The head that the network makes of one embedding."""
    width = len(theta["embedding/bias"])
    hidden = torch.tanh(theta["embedding/weight"] @ embedding + theta["embedding/bias"])
    # Of at most unit norm, so that one step of the server is of a size with federated averaging's.
    hidden = hidden * width**-0.5
    return {n: value + theta[_PREFIX + n] @ hidden for n, value in part(theta, is_head).items()}


def _issue(theta: Params, rows: Tensor) -> dict[str, Tensor]:
    made: dict[str, Tensor] = vmap(lambda e: generate(theta, e))(theta[_USERS][rows])
    return made


def _collect(theta: Params, rows: Tensor, sent: Params) -> dict[str, Tensor]:
    model = {name: value.double() for name, value in theta.items()}
    weights = sent[SHARE].double()
    back = vjp(lambda at: _issue(at, rows), model)[1]
    moved = {name: sent[name].double() for name in part(theta, is_head)}
    (found,) = back(moved)
    present = weights.new_zeros(len(theta[_USERS])).index_add(0, rows, weights)
    return {**found, _PRESENT: present}


def _finish(mean: Params, meta: Params) -> dict[str, Tensor]:
    """Embeddings by their own user's gradient instead of his share of the mean."""
    if _PRESENT not in mean:
        return dict(mean)
    share = mean[_PRESENT][:, None]
    own = torch.where(share > 0, mean[_USERS] / share.clamp(min=1e-300), 0.0)
    return {n: own if n == _USERS else v for n, v in mean.items() if n != _PRESENT}


def _public(theta: Params) -> dict[str, Tensor]:
    return {**theta, _USERS: theta[_USERS].mean(0, keepdim=True)}


def _delta(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    start = part(theta, is_head)
    return subtract(start, descend(learner, start, task.support, inner))


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    """The head of an embedding that was fitted to the support set, from the mean embedding."""
    at = theta[_USERS].mean(0)
    velocity = torch.zeros_like(at)
    for step in range(inner.steps):
        head, back, *_ = vjp(lambda e: generate(theta, e), at)
        yield head
        examples = learner.minibatch(task.support, step, inner.batch)
        velocity = inner.momentum * velocity + back(learner.grad(head, examples))[0]
        at = at - inner.options.embedding_rate * inner.rate * velocity
    yield generate(theta, at)


PFEDHN = Method(
    name="pfedhn",
    moves=False,
    family="generated initialization",
    source="Shamsian et al. 2021",
    communicates="the delta of a head made for him, and his weight, each user's by itself",
    sends=is_head,
    beside=(SHARE,),
    adapt=ending(_walk),
    walk=_walk,
    contribute=_delta,
    defaults=Defaults(rate=1.0, steps=10, server_rate=2.0),
    newcomer="is sent the network and the mean embedding, fits an embedding on the support set",
    cost="bytes of FedAvg, but no sum over users; the network's on the server and to new users",
    start=_start,
    finish=_finish,
    nearest="fedavg-ft",
    generator=Generator(_issue, _collect, _public),
    plain=True,
)
