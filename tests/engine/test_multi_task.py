"""Output layers by group: what they are beside training every group by itself."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.methods import METHODS
from fedmeta.methods.method import Setup
from fedmeta.outer import advance, begin
from fedmeta.params import DOMAIN, is_output, is_trunk, part
from fedmeta.sections.run import ServerConfig
from fedmeta.types import Params, Update
from tests.engine.cases import (
    FEATURES,
    FITS,
    INNERS,
    OUTPUTS,
    distance,
    forms,
    model_of,
    problem,
    select,
    tasks,
)

MULTI_TASK, FEDAVG_FT = METHODS["multi-task"], METHODS["fedavg-ft"]
every_head = pytest.mark.parametrize("head", FITS["multi-task"])
HOMES = torch.tensor([2, 0, 2, 0, 0])
WEIGHTS = torch.tensor([1.5, 2.0, 0.25, 3.0, 1.0])


def theta_of_groups(model: Model, groups: int, seed: int = 71) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    head = model.head.init(random)
    if MULTI_TASK.start is None:
        raise ValueError
    outputs = OUTPUTS["classification"]
    start = MULTI_TASK.start(Setup(head, Inner(0.5, 3), FEATURES, outputs, random, groups))
    return {
        n: v.double() + 0.5 * torch.randn(v.shape, generator=random).double()
        for n, v in start.items()
    }


def of_group(theta: Params, group: int) -> dict[str, Tensor]:
    """The head that a group has: the common trunk and its output layer."""
    prefix = f"group/{group}/"
    mine = part(theta, lambda name: name.startswith(prefix))
    return part(theta, is_trunk) | {n.removeprefix(prefix): v for n, v in mine.items()}


def update(
    model: Model, theta: Params, users: Sequence[int], inner: Inner, dual: bool | None
) -> Update:
    at = list(users)
    return cohort.contribute(
        MULTI_TASK,
        model,
        theta,
        select(tasks(71), at),
        inner,
        WEIGHTS[at],
        dual=dual,
        memory={DOMAIN: HOMES[at]},
    )


def finished(found: Update, theta: Params) -> dict[str, Tensor]:
    if MULTI_TASK.finish is None:
        raise ValueError
    return MULTI_TASK.finish({n: v / found.weight for n, v in found.total.items()}, theta)


@pytest.mark.parametrize("inner", INNERS)
@every_head
def test_groups_train_their_heads_separately_on_a_common_trunk(head: str, inner: str) -> None:
    model = model_of(head)
    theta = theta_of_groups(model, 3)
    alone = {}
    for group in (0, 2):
        users = [user for user, home in enumerate(HOMES.tolist()) if home == group]
        alone[group] = cohort.contribute(
            FEDAVG_FT,
            model,
            of_group(theta, group),
            select(tasks(71), users),
            INNERS[inner],
            WEIGHTS[users],
        )
    weight = alone[0].weight + alone[2].weight
    expected = {
        name: (alone[0].total[name] + alone[2].total[name]) / weight
        for name in part(theta, is_trunk)
    }
    for group, found in alone.items():
        for name, value in part(found.total, is_output).items():
            expected[f"group/{group}/{name}"] = value / found.weight
    for dual in forms("multi-task", head):
        whole = update(model, theta, range(5), INNERS[inner], dual)
        assert distance(finished(whole, theta), expected) < 1e-12
        assert not whole.kept


@every_head
def test_one_group_is_federated_averaging(head: str) -> None:
    model, task = model_of(head), tasks(72)
    theta, trials = theta_of_groups(model, 1), [Trial(INNERS["full"], k) for k in (0, 3)]
    for dual in forms("multi-task", head):
        found = cohort.contribute(MULTI_TASK, model, theta, task, INNERS["full"], dual=dual)
        mean = finished(found, theta)
        plain = of_group(theta, 0)
        expected = cohort.contribute(FEDAVG_FT, model, plain, task, INNERS["full"], dual=dual)
        assert {n.removeprefix("group/0/") for n in mean} == set(expected.total)
        for name, value in mean.items():
            torch.testing.assert_close(
                value, expected.total[name.removeprefix("group/0/")] / 5, rtol=1e-12, atol=1e-14
            )
        a = cohort.predict(MULTI_TASK, model, theta, task, trials, dual=dual)
        b = cohort.predict(FEDAVG_FT, model, plain, task, trials, dual=dual)
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-13)


def test_new_users_start_from_their_groups_output_layer() -> None:
    model, task = model_of("mlp"), tasks(73)
    theta, trial = theta_of_groups(model, 3), Trial(INNERS["full"], 2)
    for dual in (False, True):
        (found,) = cohort.predict(MULTI_TASK, model, theta, task, [trial], {DOMAIN: HOMES}, dual)
        for user, home in enumerate(HOMES.tolist()):
            mine, head = select(task, [user]), of_group(theta, home)
            (expected,) = cohort.predict(FEDAVG_FT, model, head, mine, [trial])
            torch.testing.assert_close(found[user], expected[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_group_of_which_nobody_came_stays_where_it_is(optimizer: str) -> None:
    """Also with an optimizer that would drift on by its momentum."""
    settings = ServerConfig.model_validate({"optimizer": optimizer, "rate": 0.1})
    model = model_of("mlp")
    theta = theta_of_groups(model, 3)
    state = begin(theta, settings)
    for users in (range(5), [1, 3, 4]):
        found = update(model, state.meta, users, INNERS["full"], None)
        before, state = state.meta, advance(state, finished(found, state.meta), settings)
        moved = {n.split("/")[1] for n in theta if "/" in n and (state.meta[n] != before[n]).any()}
        assert moved == ({"0", "2"} if len(users) == 5 else {"0"})


def test_users_without_domains_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs users of at least two domains"):
        problem(method__name="multi-task", data__domains=1)
