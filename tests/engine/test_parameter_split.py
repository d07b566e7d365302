"""FedPer, FedRep, FedBABU, LG-FedAvg and FedRecon against loops written out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from fedmeta import cohort, loop
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.params import add, as_own, is_output, is_trunk, owned, part
from fedmeta.problem import initial
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params, Task, Update
from tests.engine.cases import SIZES, distance, model_of, only, problem, tasks, theta_of

TRUNK = ("hidden.weight", "hidden.bias")
OUTPUT = ("output.weight", "output.bias")
ALL = TRUNK + OUTPUT
SPLIT = ["fedper", "fedrep", "fedbabu", "lg-fedavg", "fedrecon"]
RATE, STEPS = 0.6, 3
INNER = Inner(RATE, STEPS, options=MethodConfig(head_steps=5, trunk_rate=0.2))


def sgd(
    start: Params, moving: Sequence[str], examples: Examples, rate: float, steps: int
) -> dict[str, Tensor]:
    """Gradient descent of a two-layer network in which only some parameters move."""
    here = {name: value.clone() for name, value in start.items()}
    if not len(examples.weight):
        return here
    for _ in range(steps):
        free = [here[name].requires_grad_() for name in moving]
        hidden = linear(examples.x, here["hidden.weight"], here["hidden.bias"]).relu()
        logits = linear(hidden, here["output.weight"], here["output.bias"])
        found = torch.autograd.grad(cross_entropy(logits, examples.y.T), free)
        for name, g in zip(moving, found, strict=True):
            here[name] = (here[name] - rate * g).detach()
    return here


def server(seed: int) -> dict[str, Tensor]:
    return theta_of(METHODS["fedper"], model_of("mlp"), seed)


def contribution(
    name: str, theta: Params, task: Task, memory: Params | None = None, inner: Inner = INNER
) -> Update:
    return cohort.contribute(METHODS[name], model_of("mlp"), theta, task, inner, memory=memory)


def stacked(params: Sequence[Params]) -> dict[str, Tensor]:
    return {name: torch.stack([p[name] for p in params]) for name in params[0]}


def check(name: str, moved: Sequence[Params], theta: Params, found: Update) -> None:
    """Users that ended at ``moved`` sent one block's change, all in all, and kept the other."""
    sends = METHODS[name].sends
    expected = {
        n: sum((theta[n] - phi[n] for phi in moved), torch.zeros_like(theta[n]))
        for n in theta
        if sends(n)
    }
    assert distance(found.total, expected) < 1e-12
    if METHODS[name].own is None:
        assert not found.kept
    else:
        kept = stacked([part(phi, lambda n: not sends(n)) for phi in moved])
        assert distance(owned(found.kept), kept) < 1e-12


def test_which_block_is_whose() -> None:
    blocks = {name: sorted(filter(METHODS[name].sends, ALL)) for name in SPLIT}
    trunk, output = sorted(TRUNK), sorted(OUTPUT)
    assert blocks.pop("lg-fedavg") == output
    assert all(block == trunk for block in blocks.values())
    theta = server(81)
    for name, local in (("fedper", output), ("fedrep", output), ("lg-fedavg", trunk)):
        own = METHODS[name].own
        assert own is not None
        assert sorted(own(theta)) == ["own/" + n for n in local]
    assert METHODS["fedbabu"].own is METHODS["fedrecon"].own is None


@pytest.mark.parametrize("name", ["fedper", "lg-fedavg"])
def test_joint_training_of_both_blocks(name: str) -> None:
    """Three rounds in which the server averages one block and users go on with the other."""
    task, theta, sends = tasks(82), dict(server(82)), METHODS[name].sends
    mine = [dict(theta) for _ in SIZES]
    memory: Params | None = None
    for _ in range(3):
        moved = [
            sgd({**theta, **part(mine[u], lambda n: not sends(n))}, ALL, only(task, u).support,
                RATE, STEPS)
            for u in range(len(SIZES))
        ]  # fmt: skip
        found = contribution(name, theta, task, memory)
        check(name, moved, theta, found)
        theta = add(theta, found.total, -1 / len(SIZES))
        mine, memory = moved, found.kept
    for user in range(1, len(SIZES)):  # by now users differ
        assert distance(mine[user], mine[0]) > 0.05


@pytest.mark.parametrize("name", ["fedper", "lg-fedavg"])
def test_a_newcomer_splits_fedavgs_delta(name: str) -> None:
    theta, task = server(83), tasks(83)
    whole = contribution("fedavg", theta, task).total
    assert distance(contribution(name, theta, task).total, part(whole, METHODS[name].sends)) < 1e-12


@pytest.mark.parametrize("name", ["fedper", "lg-fedavg"])
def test_one_user_alone_just_trains(name: str) -> None:
    """With a server that takes the mean as it is, rounds of one user are one long descent."""
    theta, task = dict(server(84)), tasks(84, [(6, 0)])
    start, memory = theta, None
    for _ in range(4):
        found = contribution(name, theta, task, memory)
        theta, memory = add(theta, found.total, -1.0), found.kept
    expected = sgd(start, ALL, only(task, 0).support, RATE, 4 * STEPS)
    got = {**theta, **{n: v[0] for n, v in owned(memory or {}).items()}}
    assert distance(got, expected) < 1e-12


def test_fedrep_takes_turns() -> None:
    """The output layer for 5 steps, then the trunk for 3, from what was kept; two rounds."""
    task, theta = tasks(85), dict(server(85))
    mine = [dict(theta) for _ in SIZES]
    memory: Params | None = None
    for _ in range(2):
        moved = []
        for user in range(len(SIZES)):
            support = only(task, user).support
            fitted = sgd({**theta, **part(mine[user], is_output)}, OUTPUT, support, RATE, 5)
            moved.append(sgd(fitted, TRUNK, support, RATE, STEPS))
        found = contribution("fedrep", theta, task, memory)
        check("fedrep", moved, theta, found)
        theta = add(theta, found.total, -1 / len(SIZES))
        mine, memory = moved, found.kept
    usual = replace(INNER, options=MethodConfig())
    long = replace(INNER, options=MethodConfig(head_steps=STEPS))
    a, b = (contribution("fedrep", theta, task, memory, inner).total for inner in (usual, long))
    assert distance(a, b) == 0.0


def test_fedbabu_moves_the_trunk_alone() -> None:
    task, theta = tasks(86), server(86)
    moved = [sgd(theta, TRUNK, only(task, u).support, RATE, STEPS) for u in range(len(SIZES))]
    check("fedbabu", moved, theta, contribution("fedbabu", theta, task))


def test_fedrecon_rebuilds_then_moves_the_trunk() -> None:
    task, theta = tasks(87), server(87)
    moved = []
    for user in range(len(SIZES)):
        mine = only(task, user)
        rebuilt = sgd(theta, OUTPUT, mine.support, RATE, 5)
        moved.append(sgd(rebuilt, TRUNK, mine.query, 0.2, STEPS))
    check("fedrecon", moved, theta, contribution("fedrecon", theta, task))


def test_fedrecon_without_support_is_fedbabu_on_the_query() -> None:
    task, theta = tasks(88), server(88)
    same = replace(INNER, options=MethodConfig())
    without = Task(cohort.first(task.support, 0), task.query)
    a = contribution("fedrecon", theta, without, inner=same).total
    b = contribution("fedbabu", theta, Task(task.query, task.query), inner=same).total
    assert distance(a, b) < 1e-12
    assert distance(contribution("fedrecon", theta, task, inner=same).total, b) > 1e-2


@pytest.mark.parametrize(
    ("name", "moving"),
    [("fedper", ALL), ("lg-fedavg", ALL), ("fedbabu", ALL), ("fedrep", OUTPUT),
     ("fedrecon", OUTPUT)],
)  # fmt: skip
def test_what_a_newcomer_trains(name: str, moving: Sequence[str]) -> None:
    task, theta = tasks(89), server(89)
    found = cohort.predict(
        METHODS[name], model_of("mlp"), theta, task, [Trial(replace(INNER, steps=4), 99)]
    )[0]
    for user, (_, queries) in enumerate(SIZES):
        mine = only(task, user)
        phi = sgd(theta, moving, mine.support, RATE, 4)
        logits = Primal(model_of("mlp")).logits(phi, mine.query)
        torch.testing.assert_close(found[user, :, :queries], logits, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SPLIT)
def test_the_other_block_of_the_server_never_moves(name: str) -> None:
    run = problem(method__name=name, head__name="mlp")
    first, sends = initial(run), METHODS[name].sends
    *_, state = loop.train(run)
    for key, value in state.meta.items():
        assert torch.equal(value, first[key]) == (not sends(key))


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if "trunk" in m.needs])
def test_without_a_trunk_they_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"method\.name = '{name}'.*'linear'.*= 'mlp'"):
        problem(method__name=name, head__name="linear")
    assert problem(method__name=name, head__name="mlp").method.name == name


def test_a_fixed_output_of_zero_is_refused() -> None:
    """FedBABU would send its trunk a gradient of zero for ever."""
    with pytest.raises(ConfigError, match=r"'fedbabu'.*'scale-shift' is zero.*'mlp'"):
        problem(method__name="fedbabu", head__name="scale-shift")


def test_blocks_have_names() -> None:
    theta = server(90)
    assert [*part(theta, is_trunk), *part(theta, is_output)] == list(ALL)
    assert not any(is_trunk(name) or is_output(name) for name in as_own(theta))
