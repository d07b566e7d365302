"""`head.adapt`: what the inner loop moves, against masks that methods have and closed forms."""

from dataclasses import replace

import pytest
import torch

from fedmeta import cohort
from fedmeta.inner import Inner, descend
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.params import is_output, is_trunk
from tests.engine.cases import distance, model_of, only, problem, tasks, theta_of
from tests.engine.whole import whole_model, whole_tasks

OUTPUT, TRUNK = (
    frozenset({"output.weight", "output.bias"}),
    frozenset({"hidden.weight", "hidden.bias"}),
)
INNER = Inner(0.4, 3, batch=2)


@pytest.mark.parametrize(("wanted", "other"), [(OUTPUT, "anil"), (TRUNK, "boil")])
def test_maml_with_a_mask_is_the_method_that_has_it(wanted: frozenset[str], other: str) -> None:
    task, theta = tasks(3), theta_of(METHODS["maml"], model_of("mlp"), 4)
    model = model_of("mlp")._replace(head=replace(model_of("mlp").head, tail=None))
    found = cohort.contribute(METHODS["maml"], model, theta, task, replace(INNER, moves=wanted))
    expected = cohort.contribute(METHODS[other], model_of("mlp"), theta, task, INNER)
    assert distance(found.total, expected.total) < 1e-12


def test_what_a_delta_has_moved() -> None:
    """Steps of momentum and of a proximal term move the named parameters alone."""
    model, mine = model_of("mlp"), only(tasks(3), 0)
    theta = theta_of(METHODS["maml"], model, 4)
    for inner in (INNER, replace(INNER, momentum=0.5), replace(INNER, mu=0.3)):
        phi = descend(Primal(model), theta, mine.support, replace(inner, moves=OUTPUT))
        masked = descend(Primal(model), theta, mine.support, inner, block=is_output)
        assert all(torch.equal(phi[name], masked[name]) for name in theta)
        assert all(torch.equal(phi[name], theta[name]) == is_trunk(name) for name in theta)
    ditto = cohort.contribute(
        METHODS["ditto"], model._replace(head=replace(model.head, tail=None)), theta, tasks(3),
        replace(INNER, moves=OUTPUT),
    )  # fmt: skip
    assert not ditto.total["hidden.weight"].any()
    assert not (ditto.kept["own/hidden.weight"] - theta["hidden.weight"]).any()
    assert (ditto.kept["own/output.weight"] - theta["output.weight"]).any()


@pytest.mark.parametrize("head", ["conv4", "gru"])
def test_the_head_of_a_whole_model(head: str) -> None:
    """`head` leaves the body where it is for the user; the query teaches it all the same."""
    model, task = whole_model(head), whole_tasks(head, 3)
    theta = theta_of(METHODS["maml"], model, 4)
    names = frozenset(name for name in theta if not name.startswith(model.head.body))
    assert names == OUTPUT
    inner = replace(INNER, rate=0.1, moves=names)
    found = cohort.contribute(METHODS["maml"], model, theta, task, inner)
    expected = cohort.contribute(METHODS["anil"], model, theta, task, replace(inner, moves=None))
    assert distance(found.total, expected.total) < 1e-10


@pytest.mark.parametrize(
    ("adapt", "moves"), [("auto", None), ("all", None), ("head", None), ("output.*", OUTPUT),
                         ("*.weight", {"hidden.weight", "output.weight"}), ("*", None)],
)  # fmt: skip
def test_what_the_setting_means(adapt: str, moves: frozenset[str] | None) -> None:
    run = problem(head__adapt=adapt, head__name="mlp", method__name="maml")
    assert run.train.moves == run.adapt.moves == moves
    assert cohort.has_dual(run.method, run.model, True) == (moves is None)
