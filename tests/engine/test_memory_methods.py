"""Methods with a memory of the user's examples: MANN and Meta Networks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal
from fedmeta.methods import METHODS
from fedmeta.methods.mann import DECAY, ROWS, UNITS, WIDTH, ask, read_support
from fedmeta.methods.meta_networks import SLOPES, STEP
from fedmeta.methods.method import Setup
from fedmeta.outer import advance, begin
from fedmeta.sections.run import ServerConfig
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import FEATURES, model_of, only, tasks, theta_of
from tests.engine.slopes import agrees

INNER = Inner(0.7, 2)
SIZES = ((9, 4), (12, 5), (2, 6), (1, 3))
NAMES = ["mann", "meta-networks"]


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str, head: str) -> None:
    """Of the mean cross-entropy of the queries; for MANN also of the support on its way."""
    method, model, mine = METHODS[name], model_of(head), only(tasks(91, SIZES), 0)
    theta, learner = theta_of(method, model, 91), Primal(model)

    def entropy(z: Tensor, side: Examples) -> Tensor:
        return torch.nn.functional.cross_entropy(z.mT, side.y.argmax(0))

    def loss(at: Params) -> Tensor:
        assert method.predict is not None
        value = entropy(method.predict(learner, at, mine, INNER), mine.query)
        if name == "mann":
            value = (value + entropy(read_support(learner, at, mine.support)[1], mine.support)) / 2
        return value

    assert method.contribute is not None
    assert agrees(loss, theta, method.contribute(learner, theta, mine, INNER))


@pytest.mark.parametrize("name", NAMES)
def test_queries_are_read_each_by_itself(name: str) -> None:
    method, model, task = METHODS[name], model_of("mlp"), tasks(92, SIZES)
    theta = theta_of(method, model, 92)
    x = task.query.x.clone()
    x[:, 0] += 1.0
    a, b = (
        cohort.predict(method, model, theta, t, [Trial(INNER, 99)])[0]
        for t in (task, task._replace(query=task.query._replace(x=x)))
    )
    torch.testing.assert_close(a[..., 1:], b[..., 1:], rtol=0, atol=1e-13)
    assert float((a[..., 0] - b[..., 0]).abs().amax(1).min()) > 1e-6


def test_a_label_arrives_after_its_prediction() -> None:
    """Changing label t changes what is said from t + 1 on, and nothing before."""
    model, mine = model_of("mlp"), only(tasks(93, SIZES), 0)
    theta = theta_of(METHODS["mann"], model, 93)
    _, said = read_support(Primal(model), theta, mine.support)
    for t in (0, 4, 8):
        y = mine.support.y.clone()
        y[:, t] = y[:, t].roll(1)
        _, other = read_support(Primal(model), theta, mine.support._replace(y=y))
        torch.testing.assert_close(other[:, : t + 1], said[:, : t + 1], rtol=0, atol=0)
        if t < 8:
            assert bool(((other - said)[:, t + 1 :].abs().amax(0) > 1e-9).all())
    assert said.shape == (3, 9)


def test_memory_by_hand() -> None:
    """More examples than rows, in plain loops: rows are emptied, and usage is forgotten."""
    model, mine = model_of("mlp"), only(tasks(96, ((ROWS + 9, 3),)), 0)
    theta, learner = theta_of(METHODS["mann"], model, 96), Primal(model)
    p = {name.removeprefix("mann/"): value for name, value in theta.items()}
    state, said = read_support(learner, theta, mine.support)
    asked = ask(theta, state, learner.embed(theta, mine.query))

    def zeros(n: int) -> Tensor:
        return torch.zeros(n, dtype=torch.float64)

    keys, values = [zeros(WIDTH)] * ROWS, [zeros(3)] * ROWS
    used, emptied = [0.0] * ROWS, set[int]()
    h, c, label = zeros(UNITS), zeros(UNITS), zeros(3)

    def step(x: Tensor) -> tuple[Tensor, Tensor, Tensor, list[float], Tensor]:
        z = p["gates.input"] @ x + p["gates.label"] @ label + p["gates.state"] @ h + p["gates.bias"]
        i, f, o, new = z.chunk(4)
        cell = f.sigmoid() * c + i.sigmoid() * new.tanh()
        out = o.sigmoid() * cell.tanh()
        key = p["key.input"] @ x + p["key.state"] @ out
        near = torch.stack([torch.cosine_similarity(key, row, dim=0) for row in keys])
        looked = torch.softmax(p["log-sharpness"].exp() * near, 0).tolist()
        found = sum((a * row for a, row in zip(looked, values, strict=True)), start=zeros(3))
        says = p["output.state"] @ out + p["output.read"] @ found + p["output.bias"]
        return out, cell, key, looked, says

    gate = float(p["gate"].sigmoid())
    for t, x in enumerate(learner.embed(theta, mine.support).mT):
        h, c, key, looked, says = step(x)
        torch.testing.assert_close(said[:, t], says, rtol=1e-9, atol=1e-10)
        label, least = mine.support.y[:, t], used.index(min(used))
        if bool(values[least].any()):
            emptied.add(least)
        for row in range(ROWS):
            where = gate * looked[row] + (1 - gate) * (row == least)
            kept = float(row != least)
            keys[row] = kept * keys[row] + where * key
            values[row] = kept * values[row] + where * label
            used[row] = DECAY * used[row] + looked[row] + where
    assert len(emptied) > 5
    torch.testing.assert_close(state.values, torch.stack(values), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(state.keys, torch.stack(keys), rtol=1e-9, atol=1e-10)
    for q, x in enumerate(learner.embed(theta, mine.query).mT):
        torch.testing.assert_close(asked[:, q], step(x)[-1], rtol=1e-9, atol=1e-10)


def episodes(seed: int, users: int, length: int) -> Task:
    """Three groups around centres of the user's own, which half of the features say nothing of.

    Labels are the user's own too.
    """
    random = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(users, 3, 3, generator=random), dim=-1)
    group = torch.randint(3, (users, length + 6), generator=random)
    label = torch.rand(users, 3, generator=random).argsort(-1).gather(1, group)
    told = centres.gather(1, group[..., None].expand(-1, -1, 3))
    told = told + 0.1 * torch.randn(told.shape, generator=random)
    x = torch.cat([0.5 * told, 0.5 * torch.randn(told.shape, generator=random)], -1)
    y = torch.nn.functional.one_hot(label, 3).float().mT
    cut = [slice(0, length), slice(length, None)]
    return Task(
        *(
            Examples(x[:, at], y[..., at], torch.full((users, n), 1 / n))
            for at, n in zip(cut, (length, 6), strict=True)
        )
    )


def kth_instance(model: Model, theta: Params, task: Task) -> list[float]:
    """Accuracy on the k-th example of a class that a user meets, k = 1, 2, ..."""
    read = torch.func.vmap(lambda mine: read_support(Primal(model), theta, mine)[1])
    hit = (read(task.support).argmax(1) == task.support.y.argmax(1)).float()
    instance = (task.support.y.cumsum(-1) * task.support.y).sum(1)
    return [float(hit[instance == k].mean()) for k in (1, 2, 4)]


def test_mann_learns_from_one_instance_to_the_next() -> None:
    """Labels are permuted for each user, so the first instance of a class cannot be known."""
    method, model = METHODS["mann"], model_of("linear")
    random = torch.Generator().manual_seed(4)
    assert method.start is not None
    theta = method.start(Setup(model.head.init(random), INNER, FEATURES, 3, random))
    settings = ServerConfig(optimizer="adam", rate=0.03)
    state, judged = begin(theta, settings), episodes(999, 200, 12)
    untrained = kth_instance(model, state.meta, judged)
    for number in range(30):
        update = cohort.contribute(method, model, state.meta, episodes(number, 16, 12), INNER)
        mean = {name: value / update.weight for name, value in update.total.items()}
        state = advance(state, mean, settings)
    first, second, fourth = kth_instance(model, state.meta, judged)
    assert first < 0.6 < second < fourth
    assert fourth > untrained[2] + 0.05


def test_a_map_that_is_linear_makes_a_step_of_descent() -> None:
    """Attention to all alike: the output layer after one step at rate ``STEP``, for every query."""
    method, model, task = METHODS["meta-networks"], model_of("mlp"), tasks(94, SIZES)
    theta = dict(theta_of(method, model, 94))
    small = torch.full((len(SLOPES),), 1e-5, dtype=torch.float64)
    theta["meta-networks/output-map.slopes"] = small
    theta["meta-networks/output-map.heights"] = -STEP / (len(SLOPES) * small)
    theta["meta-networks/log-sharpness"] = torch.tensor(-60.0, dtype=torch.float64)
    (found,) = cohort.predict(method, model, theta, task, [Trial(INNER, 99)])
    learner = Primal(model)
    for user, (_, queries) in enumerate(SIZES):
        mine = only(task, user)
        step = learner.grad(theta, mine.support)
        phi = {n: theta[n] - STEP * step[n] for n in ("output.weight", "output.bias")}
        expected = learner.logits({**theta, **phi}, mine.query)
        torch.testing.assert_close(found[user, :, :queries], expected, rtol=1e-8, atol=1e-8)


def test_fast_weights_by_hand() -> None:
    """Example by example, with the gradients of autograd; the features are the embeddings."""
    method, model, mine = METHODS["meta-networks"], model_of("linear"), only(tasks(97, SIZES), 0)
    theta = theta_of(method, model, 97)
    p = {name.removeprefix("meta-networks/"): value for name, value in theta.items()}
    label = mine.support.y.argmax(0)
    head = [theta["output.weight"], theta["output.bias"]]

    def made(name: str, g: Tensor) -> Tensor:
        pairs = zip(p[f"{name}-map.slopes"], p[f"{name}-map.heights"], strict=True)
        return sum((v * torch.tanh(u * g) for u, v in pairs), start=torch.zeros_like(g))

    slow = p["key"].clone().requires_grad_()
    own = torch.stack([p["read-out"] @ torch.relu(slow @ x) for x in mine.support.x])
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(own, label), slow)
    fast_key = made("key", g)

    def represented(h: Tensor) -> Tensor:
        return torch.relu(p["key"] @ h) + torch.relu(fast_key @ h)

    layers = []
    for x, y in zip(mine.support.x, label, strict=True):
        free = [value.clone().requires_grad_() for value in head]
        loss = torch.nn.functional.cross_entropy(free[0] @ x + free[1], y)
        layers.append([made("output", g) for g in torch.autograd.grad(loss, free)])
    assert method.predict is not None
    found = method.predict(Primal(model), theta, mine, INNER)
    for q, x in enumerate(mine.query.x):
        like = [
            torch.cosine_similarity(represented(x), represented(other), dim=0)
            for other in mine.support.x
        ]
        attention = torch.softmax(p["log-sharpness"].exp() * torch.stack(like), 0)
        assert float(attention.max()) > 1.5 * float(attention.min())
        expected = head[0] @ x + head[1]
        for a, (weight, bias) in zip(attention, layers, strict=True):
            expected = expected + a * (weight @ x + bias)
        torch.testing.assert_close(found[:, q], expected, rtol=1e-9, atol=1e-10)


def test_without_fast_weights_it_is_the_slow_head() -> None:
    method, model, task = METHODS["meta-networks"], model_of("mlp"), tasks(95, SIZES)
    theta = dict(theta_of(method, model, 95))
    (nothing,) = cohort.predict(method, model, theta, task, [Trial(INNER, 0)])
    theta["meta-networks/output-map.heights"] = torch.zeros(len(SLOPES), dtype=torch.float64)
    (off,) = cohort.predict(method, model, theta, task, [Trial(replace(INNER, steps=9), 99)])
    expected = torch.stack([model.head.logits(theta, x) for x in task.query.x])
    torch.testing.assert_close(nothing, expected)
    torch.testing.assert_close(off, expected)
