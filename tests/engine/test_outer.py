"""Outer optimizers equal the formulas of Reddi et al. 2021 (algorithm 2), written in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedmeta import loop
from fedmeta.methods import METHODS
from fedmeta.outer import OUTER, SCHEDULES, ServerState, advance, begin
from fedmeta.problem import initial
from fedmeta.sections.run import ServerConfig
from tests.engine.cases import distance, problem

Array = NDArray[np.float64]
ROUNDS, B1, B2, EPS, RATE, HYPER = 6, 0.8, 0.95, 0.01, 0.3, 0.4


def settings(name: str) -> ServerConfig:
    return ServerConfig.model_validate(
        {
            "optimizer": name,
            "rate": RATE,
            "momentum": B1,
            "beta2": B2,
            "epsilon": EPS,
            "hyper_rate": HYPER,
        }
    )


def gradients() -> list[Array]:
    random = np.random.default_rng(7)
    return [random.normal(size=(3, 2)) * 10.0 ** random.integers(-3, 2) for _ in range(ROUNDS)]


def sgd(x: Array, rounds: list[Array]) -> Array:
    for g in rounds:
        x = x - RATE * g
    return x


def momentum(x: Array, rounds: list[Array]) -> Array:
    velocity = np.zeros_like(x)
    for g in rounds:
        velocity = B1 * velocity + g
        x = x - RATE * velocity
    return x


def adam(x: Array, rounds: list[Array]) -> Array:
    m, v = np.zeros_like(x), np.full_like(x, EPS**2)
    for g in rounds:
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        x = x - RATE * m / (np.sqrt(v) + EPS)
    return x


def yogi(x: Array, rounds: list[Array]) -> Array:
    m, v = np.zeros_like(x), np.full_like(x, EPS**2)
    for g in rounds:
        m = B1 * m + (1 - B1) * g
        v = v - (1 - B2) * g**2 * np.sign(v - g**2)
        x = x - RATE * m / (np.sqrt(v) + EPS)
    return x


def hypergradient(x: Array, rounds: list[Array]) -> Array:
    m, v = np.zeros_like(x), np.full_like(x, EPS**2)
    rate, direction = RATE, np.zeros_like(x)
    for g in rounds:
        size = np.linalg.norm(g) * np.linalg.norm(direction)
        rate *= np.exp(HYPER * (g * direction).sum() / size) if size else 1.0
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        direction = m / (np.sqrt(v) + EPS)
        x = x - rate * direction
    return x


FORMULAS: dict[str, Callable[[Array, list[Array]], Array]] = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": adam,
    "yogi": yogi,
    "hypergradient": hypergradient,
}


def start(name: str, x: Array, dtype: torch.dtype = torch.float64) -> ServerState:
    return begin({"w": torch.tensor(x, dtype=dtype)}, settings(name))


@pytest.mark.parametrize("name", OUTER)
def test_formula(name: str) -> None:
    x = np.random.default_rng(8).normal(size=(3, 2))
    state = start(name, x)
    for number, g in enumerate(gradients(), 1):
        state = advance(state, {"w": torch.tensor(g)}, settings(name))
        assert state.round == number
        expected = FORMULAS[name](x, gradients()[:number])
        np.testing.assert_allclose(state.meta["w"].numpy(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["momentum", "adam", "yogi", "hypergradient"])
def test_state_lives_across_rounds(name: str) -> None:
    """An optimizer that is rebuilt every round gives something else."""
    x = np.random.default_rng(9).normal(size=(3, 2))
    kept, rebuilt = start(name, x), start(name, x)
    for g in gradients():
        kept = advance(kept, {"w": torch.tensor(g)}, settings(name))
        fresh = begin(rebuilt.meta, settings(name))
        rebuilt = advance(fresh, {"w": torch.tensor(g)}, settings(name))
    gap = (kept.meta["w"] - rebuilt.meta["w"]).abs()
    assert float(gap.min()) > 1e-3


@pytest.mark.parametrize("name", OUTER)
def test_float32_parameters_move_in_float64(name: str) -> None:
    x = np.random.default_rng(10).normal(size=(3, 2)).astype(np.float32).astype(np.float64)
    state = start(name, x, torch.float32)
    after = advance(state, {"w": torch.tensor(gradients()[0])}, settings(name))
    assert after.meta["w"].dtype == torch.float32
    assert all(part.dtype == torch.float64 for part in after.outer["w"])
    expected = FORMULAS[name](x, gradients()[:1]).astype(np.float32)
    np.testing.assert_array_equal(after.meta["w"].numpy(), expected)


def test_absent_names_stay_and_nothing_changes_in_place() -> None:
    meta = {"w": torch.ones(2), "v": torch.full((2,), 3.0)}
    state = begin(meta, settings("adam"))
    after = advance(state, {"w": torch.tensor([1.0, -2.0])}, settings("adam"))
    assert torch.equal(after.meta["v"], meta["v"])
    assert torch.equal(state.meta["w"], torch.ones(2))
    assert not state.outer["w"][0].any()
    assert after.outer["w"][0].all()


def test_hypergradient_is_one_rate_for_all_parameters() -> None:
    """The product is over all of them: what one parameter does, moves the rate of the other."""
    config, x = settings("hypergradient"), torch.zeros(2, dtype=torch.float64)
    ones = torch.ones(2, dtype=torch.float64)
    rates = []
    for second in (5.0, -5.0):
        state = begin({"v": x, "w": x}, config)
        state = advance(state, {"v": ones, "w": 2 * ones}, config)
        state = advance(state, {"v": ones, "w": second * ones}, config)
        factors = {name: float(kept[3]) for name, kept in state.outer.items()}
        assert factors["v"] == factors["w"]
        rates.append(factors["v"])
        assert state.outer["w"][0].abs().min() > 0
    assert np.exp(HYPER) > rates[0] > 1 > rates[1] > np.exp(-HYPER)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    rounds = 5
    formulas: dict[str, Callable[[int], float]] = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t / rounds,
        "cosine": lambda t: (1 + float(np.cos(np.pi * t / rounds))) / 2,
    }
    config = settings("sgd").model_copy(update={"schedule": name})
    x = torch.zeros(1, dtype=torch.float64)
    state = begin({"w": x}, config)
    for done in range(rounds):
        after = advance(state, {"w": x + 2.0}, config, rounds)
        moved = float(state.meta["w"] - after.meta["w"])
        assert moved == pytest.approx(RATE * formulas[name](done) * 2.0, rel=1e-12)
        state = after


def test_a_run_follows_its_schedule() -> None:
    """Given by name, or by the method's default; the page-long loop and Flower share the step."""
    given = {"method__name": "fedavg", "server__rate": 0.8, "federation__rounds": 2}
    runs = [problem(server__schedule=name, **given) for name in ("auto", "constant", "linear")]
    auto, constant, linear = (list(loop.train(run, torch.float64)) for run in runs)
    assert distance(auto[-1].meta, constant[-1].meta) == 0.0
    assert distance(linear[0].meta, constant[0].meta) == 0.0
    assert distance(linear[1].meta, constant[1].meta) > 1e-3
    assert METHODS["maml-pp"].defaults.schedule == "cosine"
    assert problem(method__name="maml-pp").config.server.schedule == "cosine"
    assert runs[0].config.server.schedule == "constant"
    assert set(initial(runs[0])) == set(auto[0].meta)
