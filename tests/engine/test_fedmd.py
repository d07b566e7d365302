"""FedMD: heads of several widths that meet in their logits on a public set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.summary import notes
from fedmeta import backbones, cohort, public
from fedmeta.cohort import Trial
from fedmeta.data.messages import pool
from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.methods.fedmd import digest, mask
from fedmeta.params import KEY, OWN, is_head, owned, part
from fedmeta.problem import Problem, initial
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params, Task
from tests.data.rows import feature_rows, write
from tests.engine.cases import (
    FEATURES,
    HIDDEN,
    OUTPUTS,
    PUBLIC,
    VECTOR_HEADS,
    model_of,
    problem,
    tasks,
    theta_of,
)

METHOD = METHODS["fedmd"]
every_head = pytest.mark.parametrize("head", VECTOR_HEADS)


def settings(steps: int = 3, digests: int = 4, least: float = 0.25, rate: float = 0.5) -> Inner:
    options = MethodConfig(digest_steps=digests, least_width=least)
    return Inner(rate, steps, options=options)


def logits(model: Model, head: Params, x: Tensor) -> Tensor:
    return model.head.logits(head, x)


@every_head
def test_digesting_descends_on_the_divergence_from_the_consensus(head: str) -> None:
    """A step of rate 1 is the gradient of KL(consensus || own), by finite differences."""
    model = model_of(head)
    theta = theta_of(METHOD, model, 61)
    start = {n: v.clone() for n, v in theta.items() if is_head(n)}
    ones = {n: torch.ones_like(v) for n, v in start.items()}
    phi = digest(Primal(model), theta, start, settings(digests=1), ones)
    p = torch.softmax(theta["public/logits"], 0)

    def divergence(at: Params) -> float:
        own = torch.log_softmax(logits(model, at, theta["public/x"]), 0)
        return float((p * (p.log() - own)).sum(0).mean())

    for name, value in start.items():
        found = (value - phi[name]).flatten()
        for at in range(0, value.numel(), 3):
            ends = []
            for h in (1e-5, -1e-5):
                moved = value.clone()
                moved.view(-1)[at] += h
                ends.append(divergence({**start, name: moved}))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(found[at]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    assert divergence(phi) < divergence(start)


def test_nobody_digests_before_there_is_a_consensus() -> None:
    model = model_of("mlp")
    theta = theta_of(METHOD, model, 62)
    theta["public/logits"] = torch.zeros_like(theta["public/logits"])
    start = {n: v for n, v in theta.items() if is_head(n)}
    ones = {n: torch.ones_like(v) for n, v in start.items()}
    phi = digest(Primal(model), theta, start, settings(), ones)
    assert all(torch.equal(phi[name], start[name]) for name in start)


@every_head
def test_without_private_steps_all_heads_come_to_agree(head: str) -> None:
    model, task = model_of(head), tasks(63)
    theta = theta_of(METHOD, model, 63)
    random = torch.Generator().manual_seed(63)
    memory = {
        OWN + n: v + torch.randn(5, *v.shape, generator=random, dtype=v.dtype)
        for n, v in theta.items()
        if is_head(n)
    } | {KEY: torch.arange(5)}

    def spread() -> float:
        heads = owned({n: v for n, v in memory.items() if n != KEY})
        each = [
            torch.softmax(logits(model, {n: v[u] for n, v in heads.items()}, theta["public/x"]), 0)
            for u in range(5)
        ]
        consensus = torch.softmax(theta["public/logits"], 0)
        return max(float((one - consensus).abs().max()) for one in each)

    inner = settings(0, 30, 1.0, 1.0)
    spreads = [spread()]
    for _ in range(12):
        update = cohort.contribute(METHOD, model, theta, task, inner, memory=memory)
        mean = update.total["public/logits"] / update.weight
        theta = theta | {"public/logits": theta["public/logits"] - mean}
        memory = dict(update.kept)
        spreads.append(spread())
    assert spreads[-1] < 0.02 < 0.2 < spreads[0]


def test_a_narrow_head_is_a_head_of_that_width() -> None:
    """Units that a user has not got neither count nor come to life; for each user his own."""
    theta, task = theta_of(METHOD, model_of("mlp"), 64), tasks(64)
    memory = {KEY: torch.arange(5)} | {
        OWN + n: v.expand(5, *v.shape) for n, v in theta.items() if is_head(n)
    }
    update = cohort.contribute(METHOD, model_of("mlp"), theta, task, settings(), memory=memory)
    widths = []
    for user in range(5):
        key = torch.tensor(user)
        width = int(mask(part(theta, is_head), key, 0.25).sum())
        widths.append(width)
        last = update.kept["own/output.weight"][user]
        assert last[:, :width].all()
        assert not last[:, width:].any()
        narrow = Model(
            HEADS["mlp"](FEATURES, OUTPUTS["classification"], width), LOSSES["classification"]
        )
        small = theta | {
            "hidden.weight": theta["hidden.weight"][:width],
            "hidden.bias": theta["hidden.bias"][:width],
            "output.weight": theta["output.weight"][:, :width],
        }
        one = Task(*(type(s)(*(f[user : user + 1] for f in s)) for s in task))
        alone = cohort.contribute(METHOD, narrow, small, one, settings(least=1.0))
        torch.testing.assert_close(alone.kept["own/output.weight"][0], last[:, :width])
        torch.testing.assert_close(
            alone.kept["own/hidden.weight"][0], update.kept["own/hidden.weight"][user][:width]
        )
    assert len(set(widths)) > 2
    assert min(widths) >= 0.25 * HIDDEN


def test_only_public_logits_leave() -> None:
    theta = theta_of(METHOD, model_of("mlp"), 65)
    update = cohort.contribute(METHOD, model_of("mlp"), theta, tasks(65), settings())
    assert {n: v.shape for n, v in update.total.items()} == {
        "public/logits": (OUTPUTS["classification"], PUBLIC)
    }
    assert set(update.kept) == {KEY, *(OWN + n for n in theta if is_head(n))}


def test_a_newcomer_without_examples_answers_as_the_consensus() -> None:
    model, task = model_of("mlp"), tasks(66)
    theta = theta_of(METHOD, model, 66)
    at_public = task.query._replace(
        x=theta["public/x"].expand(5, -1, -1),
        y=torch.zeros(5, OUTPUTS["classification"], PUBLIC),
        weight=torch.full((5, PUBLIC), 1 / PUBLIC, dtype=torch.float64),
    )
    trial = Trial(settings(digests=400, least=1.0, rate=1.0), 0)
    (found,) = cohort.predict(METHOD, model, theta, task._replace(query=at_public), [trial])
    expected = torch.softmax(theta["public/logits"], 0)
    assert float((torch.softmax(found, 1) - expected).abs().max()) < 0.1


def features_of(run: Problem) -> set[bytes]:
    return {row.numpy().tobytes() for row in run.population.features}


def test_the_public_set_of_preferences_is_nobodys() -> None:
    """Messages that the generator makes beside those of the users, of all combinations alike."""
    run = problem(method__name="fedmd", head__name="mlp", method__public_examples=50)
    x = initial(run)["public/x"]
    assert x.shape == (50, run.population.features.shape[1])
    assert torch.equal(initial(run)["public/x"], x)
    assert not public.is_private(run.config.data)
    whole = pool(160 + 50, run.config.data.seed).texts
    assert whole[:160] == pool(160, run.config.data.seed).texts
    users = set(run.population.store.items)
    assert users <= set(whole[:160])
    store = replace(run.population.store, items=whole[160:])
    expected = {row.tobytes() for row in backbones.features(store, run.config.backbone)}
    assert {row.numpy().tobytes() for row in x} == expected
    assert not expected & features_of(run)


@pytest.mark.parametrize("kind", ["texts", "features"])
def test_a_public_file(tmp_path: Path, kind: str) -> None:
    """It needs neither users nor labels, and is scaled by the constants of training users."""
    rows = [row | {"text": f"alpha{row['a']} beta{row['b']}"} for row in feature_rows(20, 8)]
    inputs = ["text"] if kind == "texts" else ["a", "b"]
    roles = ["user", "label", *inputs]
    own = write(tmp_path / "own.csv", [{name: row[name] for name in roles} for row in rows])
    shown = [{name: row[name] for name in inputs} for row in rows[:40:4]]
    path = write(tmp_path / "public.csv", shown)
    given = {
        "method__name": "fedmd",
        "data__source": str(own),
        "backbone__name": "auto" if kind == "features" else "hashing",
    }
    assert public.is_private(problem(**given).config.data)
    run = problem(data__public=str(path), **given)
    assert not public.is_private(run.config.data)
    x = initial(run)["public/x"]
    assert len(x) == 10
    assert {row.numpy().tobytes() for row in x} <= features_of(run)  # the same rows, in the data
    other = problem(data__public=str(path), run__seed=1, method__public_examples=4, **given)
    assert len(initial(other)["public/x"]) == 4
    numbers = "a,b\n1,2\n" if kind == "texts" else "a\n1\n"
    for content, message in (
        (numbers, r"public\.csv' holds \d features, and users of .* have "),
        (None, r"data\.public: no file"),
    ):
        path.unlink()
        if content is not None:
            path.write_text(content)
        public._items.cache_clear()  # as in a process of its own
        with pytest.raises(ValueError, match=message):
            problem(data__public=str(path), **given)
        path.touch()
    public._items.cache_clear()


def test_else_the_public_set_is_of_training_users_items() -> None:
    run = problem(method__name="fedmd", data__source="digits", backbone__name="auto",
                  method__public_examples=50, data__min_examples=5)  # fmt: skip
    population = run.population
    store = population.store
    x = initial(run)["public/x"]
    assert x.shape == (50, population.features.shape[1])
    assert public.is_private(run.config.data)
    at = [int((population.features == row).all(1).nonzero()[0]) for row in x]
    user = np.repeat(np.arange(len(store.ids)), store.sizes())
    there = store.split[user] == 0
    assert set(at) <= set(store.item[there].tolist())
    assert not set(at) <= set(store.item[~there].tolist())
    assert any("WARNING: the public set of fedmd" in note for note in notes(run))
    assert not notes(problem(method__name="fedavg", data__source="digits", backbone__name="auto"))
