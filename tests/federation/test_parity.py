"""The Flower path computes what the page-long loop computes, for every method."""

from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients import memory
from fedmeta import evaluation, loop
from fedmeta.cohort import Trial
from fedmeta.head_file import weights_sha256
from fedmeta.methods import METHODS
from fedmeta.params import DOMAIN, KEY, part
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from tests.data.rows import write
from tests.engine.cases import FEDERATED, FITS, distance, problem
from tests.federation.runs import over_inline

ROUNDS = 3
ASIDE = ("ditto", "apfl")
"""Methods whose personal models do not influence the common one."""
EVERY_HEAD = ("fedavg", "maml")
"""Methods that are run with all heads; the others with the first two that they can work with."""
LEAST = {"scale-shift": 5e-3}
"""How far a run must come from its start, in its norm; 0.01 for other heads. This one starts at
ones for all features, and a method that learns nothing but them moves little of so much."""
FACTS = (DOMAIN, KEY)
"""What users are told anew in each round; nothing of it need be kept."""


@pytest.mark.parametrize(
    ("name", "head", "weighting"),
    [
        (name, head, weighting)
        for name in FEDERATED
        for head, weighting in zip(FITS[name], cycle(["examples", "uniform"]), strict=False)
        if head in FITS[name][:2] or name in EVERY_HEAD
    ],
)
def test_flower_equals_loop(name: str, head: str, weighting: str) -> None:
    run = problem(
        method__name=name,
        head__name=head,
        federation__rounds=ROUNDS,
        federation__weighting=weighting,
    )
    outcome = over_inline(run)
    assert [event.users for event in outcome.history] == [7] * ROUNDS
    for dtype in (torch.float32, torch.float64):
        *_, state = loop.train(run, dtype)
        assert state.round == ROUNDS
        assert distance(outcome.last, state.meta) < 1e-6
    assert all(value.dtype == torch.float32 for value in outcome.last.values())
    assert distance(outcome.last, initial(run)) > LEAST.get(head, 0.01)


class Forgetful(dict[int, dict[str, torch.Tensor]]):
    """Memory that is written and never read."""

    def get(self, key: int, default: object = None) -> Any:
        return default


def changing(params: Params) -> dict[str, torch.Tensor]:
    """What rounds change; a key is so large that nothing else would count beside it."""
    return part(params, lambda name: name not in FACTS)


HAVING = [name for name in FEDERATED if METHODS[name].own is not None]
TOLD = ("multi-task", "meta-fine-tuning", "metaadapt", "damstf")
"""Methods whose users have nothing but facts."""


def running(name: str) -> Problem:
    head = "mlp" if "mlp" in FITS[name] else FITS[name][0]
    domains = {"data__domains": 3} if name in TOLD else {}
    return problem(method__name=name, head__name=head, federation__rounds=ROUNDS, **domains)


@pytest.mark.parametrize("name", HAVING)
def test_what_users_own_is_more_than_facts(name: str) -> None:
    """The two tests below share the methods out; of facts alone no file and no name is left."""
    method = METHODS[name]
    assert method.own is not None
    assert bool(changing(method.own(initial(running(name))))) == (name not in TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_facts_are_told_and_not_kept(name: str, tmp_path: Path) -> None:
    run = running(name)
    over_inline(run, memory=tmp_path)
    kept: dict[int, dict[str, torch.Tensor]] = {}
    *_, _ = loop.train(run, memory=kept)
    assert kept
    assert not any(kept.values())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [n for n in HAVING if n not in TOLD])
def test_what_users_keep_is_what_the_loop_keeps(name: str, tmp_path: Path) -> None:
    """And it counts: of the users, some come again, and they go on from what they own."""
    run = running(name)
    drawn = [loop.cohort_of(run.population, run.config, r + 1).tolist() for r in range(ROUNDS)]
    times = Counter(user for cohort in drawn for user in cohort)
    assert sum(count > 1 for count in times.values()) > 3
    outcome = over_inline(run, memory=tmp_path)
    kept: dict[int, dict[str, torch.Tensor]] = {}
    forgot = Forgetful()
    *_, state = loop.train(run, torch.float64, kept)
    *_, other = loop.train(run, torch.float64, forgot)
    assert distance(outcome.last, state.meta) < 1e-6
    assert run.method.own is not None
    fresh = run.method.own(outcome.last)
    for user, count in times.items():
        named = [run.population.store.ids[user]]
        found = {n: v[0] for n, v in memory.load(tmp_path, named, ROUNDS + 1, fresh).items()}
        told = loop.facts_of(run, np.array([user]))
        assert all(torch.equal(found[n], told[n][0]) for n in FACTS if n in fresh)
        mine = {n: kept[user][n] for n in changing(fresh)}
        assert distance(changing(found), mine) < 1e-5
        if count > 1:
            assert distance({n: forgot[user][n] for n in mine}, mine) > 1e-3
    apart = distance(other.meta, state.meta)
    assert apart == 0.0 if name in ASIDE else apart > 1e-3


@pytest.mark.parametrize(("name", "chunk"), list(zip(FEDERATED, cycle([1, 100]), strict=False)))
def test_chunks_of_another_size(name: str, chunk: int) -> None:
    few, many = (
        over_inline(method__name=name, federation__chunk=c, federation__rounds=2).last
        for c in (3, chunk)
    )
    assert distance(many, few) < 1e-6


def test_the_number_of_nodes_changes_no_bit() -> None:
    a, b = (over_inline(nodes=n, head__name="mlp", method__name="maml") for n in (1, 3))
    assert weights_sha256(a.last) == weights_sha256(b.last)
    assert weights_sha256(a.meta) == weights_sha256(b.meta)
    for split in ("valid", "test"):
        np.testing.assert_array_equal(a.scores[split], b.scores[split])
    other = over_inline(head__name="mlp", method__name="maml", run__seed=1)
    assert weights_sha256(other.last) != weights_sha256(a.last)


def test_scores_are_those_of_the_evaluation() -> None:
    outcome = over_inline(head__name="mlp", method__name="maml")
    trials = [Trial(outcome.adapt, k) for k in outcome.shots]
    for split, users in outcome.users.items():
        expected = evaluation.evaluate(outcome.problem, outcome.meta, users, trials)
        np.testing.assert_allclose(outcome.scores[split], expected, rtol=1e-5)


def test_best_round_is_the_first_best_of_the_validation_users() -> None:
    outcome = over_inline(head__name="mlp", method__name="fedavg-ft", federation__rounds=5)
    values = {e.round: e.valid for e in outcome.history if e.valid is not None}
    assert list(values) == [2, 4, 5]
    best = max(values.values())
    assert outcome.best_round == min(r for r, value in values.items() if value == best)
    states = list(loop.train(outcome.problem))
    assert distance(outcome.meta, states[outcome.best_round - 1].meta) < 1e-6


@pytest.mark.parametrize("name", ["reptile", "meta-sgd"])
def test_regression(name: str, tmp_path: Path) -> None:
    """Real targets: scaled for training by train users, scored in their own units."""
    random = np.random.default_rng(0)
    rows = [
        {"user": f"u{u:02d}", "a": a, "b": b, "label": 40 + 9 * a + 20 * (u % 3 - 1) + noise}
        for u in range(24)
        for a, b, noise in random.normal(size=(6 + u % 4, 3)).tolist()
    ]
    path = write(tmp_path / "targets.csv", rows)
    run = problem(
        method__name=name,
        method__rate=0.5,
        data__source=str(path),
        backbone__name="auto",
        evaluation__tune=True,
    )
    outcome = over_inline(run)
    *_, state = loop.train(run, torch.float64)
    assert distance(outcome.last, state.meta) < 1e-6
    labels = run.population.store.label
    assert np.std(labels) > 10
    before, after = outcome.scores["test"][[0, -1], 0].mean(axis=-1)
    assert 0.04 < after / np.std(labels) < 0.8 * before / np.std(labels) < 2


def test_a_way_to_personalize_that_diverges_is_not_chosen(tmp_path: Path) -> None:
    """A mean error that is NaN is the worst there is; ``argmax`` would take it for the best."""
    random = np.random.default_rng(1)
    rows = [
        {"user": f"u{u:02d}", "a": a, "b": b, "label": 3 * a + u % 3 + b / 7}
        for u in range(24)
        for a, b in random.normal(size=(8, 2)).tolist()
    ]
    run = problem(
        method__name="local",
        method__rate=8.0,
        data__source=str(write(tmp_path / "targets.csv", rows)),
        backbone__name="auto",
        evaluation__tune=True,
    )
    trials = [Trial(inner, 4) for inner in evaluation.candidates(run)]
    users = run.population.store.users("valid")
    scores = evaluation.evaluate(run, initial(run), users, trials)[:, 0].mean(axis=-1)
    assert np.isnan(scores).any()
    outcome = over_inline(run)
    assert outcome.adapt == trials[int(np.nanargmin(scores))].inner
    assert np.isfinite(outcome.scores["valid"]).all()
