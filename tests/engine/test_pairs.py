"""Methods that compare examples: relation network, Siamese network, kNN-Per."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.knn_per import GRID
from fedmeta.methods.method import Setup
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params, Task
from tests.engine.cases import FEATURES, HIDDEN, flat, model_of, only, problem, tasks, theta_of
from tests.engine.slopes import agrees
from tests.engine.test_metric import centred, embedded

MODEL = model_of("mlp")
INNER = Inner(0.7, 2)
SIZES = ((9, 4), (12, 5), (2, 6), (1, 3))
Array = NDArray[np.float64]


def query_logits(name: str, theta: Params, task: Task, inner: Inner = INNER) -> list[Tensor]:
    (found,) = cohort.predict(METHODS[name], MODEL, theta, task, [Trial(inner, 99)])
    return [found[user, :, :queries] for user, (_, queries) in enumerate(SIZES)]


def relation_of(theta: Params, f: Array, c: Array) -> float:
    """``g([f; c])``: one affine layer on both side by side, relu, one number."""
    p = {name.removeprefix("relation/"): value.numpy() for name, value in theta.items()}
    joint = np.concatenate([p["query.weight"], p["class.weight"]], axis=1)
    hidden = np.maximum(joint @ np.concatenate([f, c]) + p["hidden.bias"], 0)
    return float(p["output.weight"] @ hidden + p["output.bias"])


def classes_of(mine: Task) -> tuple[NDArray[np.int64], list[int]]:
    label = mine.support.y.argmax(0).numpy()
    return label, sorted(set(label.tolist()))


def relations(theta: Params, mine: Task) -> Tensor:
    """Relations of the classes shown, in plain loops; NaN for others."""
    h, queries = embedded(theta, mine.support.x), embedded(theta, mine.query.x)
    label, classes = classes_of(mine)
    out = np.full((3, len(queries)), np.nan)
    for k in classes:
        out[k] = [relation_of(theta, f, h[label == k].mean(0)) for f in queries]
    return torch.from_numpy(out)


def similarities(theta: Params, mine: Task) -> Array:
    w, b = theta["siamese/weight"].numpy(), float(theta["siamese/bias"])
    h, queries = embedded(theta, mine.support.x), embedded(theta, mine.query.x)
    return np.array([[w @ np.abs(a - f) + b for f in queries] for a in h])


def completed(scores: Array, n: int) -> Tensor:
    scores = scores.copy()
    absent = np.isnan(scores).all(1)
    scores[absent] = np.nanmean(scores, axis=0) - np.log(1 + n)
    return torch.from_numpy(scores)


def test_relations_by_hand() -> None:
    task, theta = tasks(71, SIZES, pad=2), theta_of(METHODS["relation"], MODEL, 71)
    for user, found in enumerate(query_logits("relation", theta, task)):
        mine = only(task, user)
        expected = completed(relations(theta, mine).numpy(), SIZES[user][0])
        torch.testing.assert_close(found, expected)


def test_the_most_similar_example_gives_the_class() -> None:
    task, theta = tasks(72, SIZES, pad=2), theta_of(METHODS["siamese"], MODEL, 72)
    for user, found in enumerate(query_logits("siamese", theta, task)):
        mine = only(task, user)
        z, (label, classes) = similarities(theta, mine), classes_of(mine)
        scores = np.full((3, z.shape[1]), np.nan)
        for k in classes:
            scores[k] = z[label == k].max(0)
        torch.testing.assert_close(found, completed(scores, len(label)))
        assert found.argmax(0).tolist() == label[z.argmax(0)].tolist()


def test_relation_gradient() -> None:
    """Of the squared error of sigmoids to 1 and 0, of the classes shown."""
    theta = theta_of(METHODS["relation"], MODEL, 73)
    for user in (0, 2):
        mine = only(tasks(73, SIZES), user)

        def loss(at: Params, mine: Task = mine) -> Tensor:
            gap = torch.sigmoid(relations(at, mine)) - mine.query.y
            return gap.square().nansum(0).mean()

        assert METHODS["relation"].contribute is not None
        sent = METHODS["relation"].contribute(Primal(MODEL), theta, mine, INNER)
        assert agrees(loss, theta, sent)


def test_siamese_gradient() -> None:
    """Of the mean binary cross-entropy over all pairs."""
    theta, mine = theta_of(METHODS["siamese"], MODEL, 74), only(tasks(74, SIZES), 1)

    def loss(at: Params) -> Tensor:
        same = mine.support.y.argmax(0)[:, None] == mine.query.y.argmax(0)
        z = torch.from_numpy(similarities(at, mine))
        return torch.nn.functional.binary_cross_entropy_with_logits(z, same.double())

    assert METHODS["siamese"].contribute is not None
    sent = METHODS["siamese"].contribute(Primal(MODEL), theta, mine, INNER)
    assert agrees(loss, theta, sent)


@pytest.mark.parametrize("name", ["relation", "siamese"])
def test_what_is_near_is_alike_from_the_start(name: str) -> None:
    """The modules start as a falling function of the distance."""
    random, model = torch.Generator().manual_seed(3), model_of("linear")
    setup = Setup(model.head.init(random), INNER, FEATURES, 3, random)
    start = METHODS[name].start
    assert start is not None
    theta = start(setup)
    assert all(param.startswith(name + "/") for param in theta)
    task = tasks(75, [(1, 1)] * 200, dtype=torch.float32)
    at = task.support.x[:, 0]
    scores = []
    for scale in (0.0, 0.3, 1.0, 2.0):
        query = task.query._replace(x=(at + scale * task.query.x[:, 0])[:, None])
        trials = [Trial(INNER, 1)]
        (z,) = cohort.predict(METHODS[name], model, theta, task._replace(query=query), trials)
        scores.append(float(z.amax(1).mean()))
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.5


def votes(h: Array, y: Array, f: Array, options: MethodConfig) -> Array:
    """Shares of classes among the nearest, each counting ``exp(-distance / scale)``."""
    distance = np.sqrt(((h - f) ** 2).sum(1))
    near = np.argsort(distance)[: options.neighbours]
    weight = np.exp(-distance[near] / options.knn_scale)
    return np.asarray(y[:, near] @ weight / weight.sum())


def softmax(theta: Params, h: Array) -> Array:
    z = np.exp(h @ theta["output.weight"].numpy().T + theta["output.bias"].numpy())
    return np.asarray(z / z.sum(1, keepdims=True))


def mixture(theta: Params, mine: Task, options: MethodConfig, weight: float) -> Array:
    h, q = embedded(theta, mine.support.x), embedded(theta, mine.query.x)
    p = np.array([votes(h, mine.support.y.numpy(), f, options) for f in q])
    return weight * p + (1 - weight) * softmax(theta, q)


def own_weight(theta: Params, mine: Task, options: MethodConfig) -> float:
    """Each support example is judged by the others."""
    h, y = embedded(theta, mine.support.x), mine.support.y.numpy()
    alone, n = softmax(theta, h), len(h)
    likelihood = np.zeros(len(GRID))
    for i in range(n if n > 1 else 0):
        others, true = np.arange(n) != i, y[:, i].argmax()
        p = votes(h[others], y[:, others], h[i], options)[true]
        for number, weight in enumerate(GRID):
            likelihood[number] += np.log(weight * p + (1 - weight) * alone[i, true])
    return GRID[int(likelihood.argmax())]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_probabilities_are_mixed_with_probabilities(k: int) -> None:
    task, theta = tasks(76, SIZES, pad=3), theta_of(METHODS["knn-per"], MODEL, 76)
    chosen: set[float | None] = set()
    for weight in (-1.0, 0.3, 0.9):
        options = MethodConfig(neighbours=k, knn_weight=weight, knn_scale=0.6)
        found = query_logits("knn-per", theta, task, replace(INNER, options=options))
        for user, logits in enumerate(found):
            mine = only(task, user)
            own = own_weight(theta, mine, options) if weight < 0 else weight
            chosen.add(own if weight < 0 else None)
            expected = mixture(theta, mine, options, own)
            torch.testing.assert_close(logits.exp(), torch.from_numpy(expected).mT)
            torch.testing.assert_close(
                logits.exp().sum(0), torch.ones(SIZES[user][1], dtype=torch.float64)
            )
    assert len(chosen) > 2


def test_without_neighbours_it_is_fedavg() -> None:
    """In training always; in prediction with weight 0, or with an empty memory."""
    task, theta = tasks(77, SIZES), theta_of(METHODS["fedavg"], MODEL, 77)
    sent = [
        cohort.contribute(METHODS[n], MODEL, theta, task, INNER).total
        for n in ("knn-per", "fedavg")
    ]
    torch.testing.assert_close(flat(sent[0]), flat(sent[1]))
    off = replace(INNER, options=MethodConfig(knn_weight=0.0))
    (fedavg,) = cohort.predict(METHODS["fedavg"], MODEL, theta, task, [Trial(INNER, 99)])
    for trial in (Trial(off, 99), Trial(INNER, 0)):
        (found,) = cohort.predict(METHODS["knn-per"], MODEL, theta, task, [trial])
        torch.testing.assert_close(centred(found), centred(fedavg))
    votes_alone = replace(INNER, options=MethodConfig(knn_weight=1.0, neighbours=1))
    (found,) = cohort.predict(METHODS["knn-per"], MODEL, theta, task, [Trial(votes_alone, 99)])
    assert bool(found.isfinite().all())


def test_regression_is_refused() -> None:
    for name in ("knn-per", "siamese", "protonet-frozen"):
        assert "classes" in METHODS[name].needs
    assert "classes" not in METHODS["ridge"].needs
    with pytest.raises(ConfigError, match=r"method\.knn-weight"):
        problem(method__name="knn-per", method__knn_weight=1.5)
    assert HIDDEN > 1
