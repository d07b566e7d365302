"""Meta Fine-Tuning: typicality by its formula, centroids pooled over users, corruption."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmeta import cohort, seeding
from fedmeta.config import ConfigError
from fedmeta.draws import uniform
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.methods.meta_fine_tuning import typicality
from fedmeta.params import DOMAIN, KEY, part
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params
from tests.engine.cases import (
    DOMAINS,
    FEATURES,
    VECTOR_HEADS,
    distance,
    model_of,
    only,
    problem,
    tasks,
    theta_of,
)

METHOD = METHODS["meta-fine-tuning"]
HOME = torch.tensor([0, 1, 1, 1, 0])
MEMORY = {DOMAIN: HOME, KEY: torch.arange(5)}
every_head = pytest.mark.parametrize("head", VECTOR_HEADS)


def settings(corruption: float = 0.3, progress: float = 0.0, steps: int = 3) -> Inner:
    return Inner(
        0.5, steps, options=MethodConfig(corruption=corruption, rate=0.5), progress=progress
    )


def unknown(theta: Params) -> dict[str, Tensor]:
    """The server before it knows any centroid."""
    return {n: torch.zeros_like(v) if "centroid" in n else v for n, v in theta.items()}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_typicality_by_its_formula() -> None:
    random = np.random.default_rng(0)
    mean = random.normal(size=(3, 3, FEATURES)) + 1
    count = np.array([[4.0, 0, 1], [2, 5, 0], [3, 0, 0]])
    x, label = random.normal(size=(12, FEATURES)) + 1, np.arange(12) % 3
    theta = {"centroid/mean": torch.tensor(mean), "centroid/count": torch.tensor(count)}
    y = torch.tensor(np.eye(3)[label].T)
    for home in range(3):
        expected = []
        for row, c in zip(x, label.tolist(), strict=True):
            others = [mean[k, c] for k in range(3) if k != home and count[k, c]]
            sides = [cosine(row, mean[home, c])] if count[home, c] else []
            sides += [cosine(row, np.mean(others, 0))] if others else []
            expected.append(max(float(np.mean(sides)), 0.0) if sides else 1.0)
        told = Examples(torch.tensor(x), y, torch.full((12,), 1 / 12, dtype=torch.float64))
        found = typicality(theta, torch.tensor(home), told)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
        assert np.ptp(expected) > 0.1


def test_a_planted_outlier_counts_little() -> None:
    random = torch.Generator().manual_seed(0)
    mean = torch.eye(3, FEATURES).double().repeat(DOMAINS, 1, 1)
    x = mean[0, torch.arange(9) % 3] + 0.1 * torch.randn(9, FEATURES, generator=random)
    y = torch.eye(3, dtype=torch.float64)[:, torch.arange(9) % 3]
    y[:, 4] = y[:, 5]  # labelled as another class than it looks like
    theta = {"centroid/mean": mean, "centroid/count": torch.ones(DOMAINS, 3).double()}
    found = typicality(theta, torch.tensor(1), Examples(x, y, torch.full((9,), 1 / 9)))
    assert found[4] < 0.3
    assert bool((torch.cat([found[:4], found[5:]]) > 0.9).all())


def test_the_server_pools_sums_and_counts_into_means() -> None:
    model = model_of("linear")
    meta = unknown(theta_of(METHOD, model, 81))
    parts: dict[tuple[int, int], list[Tensor]] = {}
    for seed in (81, 82):
        task = tasks(seed)
        update = cohort.contribute(METHOD, model, meta, task, settings(), memory=MEMORY)
        mean = {name: value / update.weight for name, value in update.total.items()}
        if METHOD.finish is None:
            raise ValueError
        moved = METHOD.finish(mean, meta)
        meta = meta | {n: meta[n] - moved[n] for n in ("centroid/mean", "centroid/count")}
        for user in range(5):
            mine = only(task, user).support
            for row, c in zip(mine.x, mine.y.argmax(0).tolist(), strict=True):
                parts.setdefault((int(HOME[user]), c), []).append(row)
    for (domain, c), rows in parts.items():
        found = meta["centroid/mean"][domain, c]
        torch.testing.assert_close(found, torch.stack(rows).mean(0), rtol=1e-12, atol=1e-14)
        assert float(meta["centroid/count"][domain, c]) * 5 == pytest.approx(len(rows))
    assert len(parts) == 6


def test_centroids_leave_in_the_first_rounds_only() -> None:
    model, task = model_of("mlp"), tasks(83)
    theta = theta_of(METHOD, model, 83)
    for progress, there in ((0.0, True), (0.05, True), (0.5, False)):
        inner = settings(progress=progress)
        found = cohort.contribute(METHOD, model, theta, task, inner, memory=MEMORY).total
        assert any(name.startswith("centroid/") for name in found) == there


@every_head
def test_without_centroids_and_corruption_it_is_fedavg(head: str) -> None:
    model, task = model_of(head), tasks(84)
    theta = unknown(theta_of(METHOD, model, 84))
    plain = cohort.contribute(
        METHODS["fedavg"], model, part(theta, lambda n: "/" not in n), task, settings()
    ).total
    for corruption, same in ((0.0, True), (0.3, head == "linear")):
        found = cohort.contribute(METHOD, model, theta, task, settings(corruption), memory=MEMORY)
        gap = distance({n: found.total[n] for n in plain}, plain)
        assert (gap < 1e-12) == same


def test_one_step_is_the_gradient_of_the_joint_loss() -> None:
    model, task, inner = model_of("mlp"), tasks(85, ((7, 0),)), settings(0.3, 0.5, steps=1)
    theta = theta_of(METHOD, model, 85)
    mine, home, key = only(task, 0).support, torch.tensor([1]), torch.tensor([9])
    free = {n: v.clone().requires_grad_() for n, v in theta.items() if "centroid" not in n}
    drawn = (uniform(key[0], seeding.key("corruption", 2**31), 7) * DOMAINS).long()
    assert len(set(drawn.tolist())) > 1
    hidden = torch.relu(mine.x @ free["hidden.weight"].T + free["hidden.bias"])
    logits = hidden @ free["output.weight"].T + free["output.bias"]
    typical = typicality(theta, home[0], mine)
    losses = cross_entropy(logits, mine.y.argmax(0), reduction="none")
    guess = (hidden + free["domain/vectors"][1]) @ free["domain/weight"].T + free["domain/bias"]
    loss = (losses * typical).mean() + 0.3 * cross_entropy(guess, drawn)
    gradient = torch.autograd.grad(loss, list(free.values()))
    expected = {n: 0.5 * g for n, g in zip(free, gradient, strict=True)}
    memory = {DOMAIN: home, KEY: key}
    found = cohort.contribute(METHOD, model, theta, task, inner, memory=memory).total
    assert distance(found, expected) < 1e-12


def test_shuffles_are_of_the_user_and_of_the_round() -> None:
    model, task = model_of("mlp"), tasks(86)
    theta = theta_of(METHOD, model, 86)

    def sent(key: int, progress: float) -> Params:
        memory = {DOMAIN: HOME, KEY: torch.arange(5) + key}
        inner = settings(progress=progress)
        return cohort.contribute(METHOD, model, theta, task, inner, memory=memory).total

    expected = sent(0, 0.5)
    assert distance(sent(0, 0.5), expected) == 0.0
    assert distance(sent(1, 0.5), expected) > 1e-3
    assert distance(sent(0, 0.6), expected) > 1e-3


def test_users_without_domains_are_refused() -> None:
    for name in ("meta-fine-tuning", "metaadapt"):
        with pytest.raises(ConfigError, match="at least two domains"):
            problem(method__name=name, data__domains=1)
