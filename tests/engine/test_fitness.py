"""What cannot work is refused with what does, and what does is not; settings that nobody reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmeta import cohort, evaluation, generation, loop, unread
from fedmeta.config import Config, ConfigError
from fedmeta.inner import Inner, descend
from fedmeta.methods import METHODS
from fedmeta.problem import Problem, initial, resolve
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params
from tests.data.rows import write
from tests.engine.cases import DOMAINS, FITS, flat, only, problem, tasks

NOTHING_TO_LEARN = {
    "bias", "fedavg-ft", "fedprox", "reptile", "per-fedavg", "pfedme", "ditto", "apfl", "fomaml",
    "maml", "anil", "imaml", "knn-per", "damstf", "metaadapt", "meta-fine-tuning",
}  # fmt: skip
"""Methods of which users have only the start of a linear head in common."""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes in each split, with domains."""
    parts = ("train", "valid", "test")
    rows = [
        {
            "text": f"{part} word{c} word{i}",
            "label": f"{part}{c}",
            "class_split": part,
            "place": f"site{i % DOMAINS}",
        }
        for part in parts
        for c in range(4)
        for i in range(9)
    ]
    return write(tmp_path_factory.mktemp("episodes") / "classes.csv", rows)


def episodes(path: Path, **values: Any) -> Problem:
    """Three-way episodes of classes that are numbered anew in each."""
    given = {
        "data__source": str(path),
        "data__tasks": "episodic",
        "data__way": 3,
        "data__support": 6,
        "data__domain_column": "place",
        "data__domains": 1,
        **values,
    }
    return problem(**given)


@pytest.mark.parametrize("name", METHODS)
def test_an_output_layer_of_renamed_classes(classes: Path, name: str) -> None:
    """Refused on a linear head where nothing else is shared; with a trunk all but two work."""
    head = "linear" if "linear" in FITS[name] else FITS[name][0]
    try:
        episodes(classes, method__name=name, head__name=head)
        refused = ""
    except ConfigError as error:
        refused = str(error)
    if name in NOTHING_TO_LEARN:
        assert f"method.name = {name!r} with head.name = 'linear'" in refused
        assert "nothing to meta-learn; use head.name = 'mlp'" in refused
    elif name == "lg-fedavg":
        assert "nothing to meta-learn; use a method that shares the trunk" in refused
    elif name == "fedmd":
        assert "cannot be averaged; use a method whose output layer is made of" in refused
    else:
        assert not refused
    if "mlp" in FITS[name] and name not in ("lg-fedavg", "fedmd"):
        assert episodes(classes, method__name=name, head__name="mlp").method.name == name


def test_problems_of_one_label_space_may_share_an_output_layer(tmp_path: Path) -> None:
    rows = [
        {"user": f"u{u:02d}", "text": f"word{i} {u}", "label": (i + u) % 2}
        for u in range(12)
        for i in range(8)
    ]
    same = write(tmp_path / "same.csv", rows)
    other = write(tmp_path / "other.csv", [r | {"label": f"class {r['label']}"} for r in rows])
    given = {"data__tasks": "cross-problem", "head__name": "linear", "method__name": "maml"}
    assert not problem(data__problems=f"preferences,{same}", **given).population.store.renamed
    with pytest.raises(ConfigError, match=r"'cross-problem' a class number means another thing"):
        problem(data__problems=f"preferences,{other}", **given)


class Slope:
    """A loss with the same gradient everywhere, so that all curvature is the proximal term's."""

    def grad(self, params: Params, examples: Examples) -> dict[str, Tensor]:
        return {name: torch.ones_like(value) for name, value in params.items()}

    def minibatch(self, examples: Examples, step: int, size: int) -> Examples:
        return examples

    def run(
        self, params: Params, examples: Examples, rate: float, steps: int, size: int
    ) -> Iterator[Params]:
        raise NotImplementedError


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_where_steps_begin_to_leave_their_anchor(momentum: float) -> None:
    """Below the bound they come to rest where the two forces balance; above it they fly off."""
    theta = {"w": torch.zeros(2, dtype=torch.float64)}
    mu, nobody = 2.0, only(tasks(3), 0).support
    ends = []
    for share in (0.99, 1.01):
        rate = share * 2 * (1 + momentum) / mu
        inner = Inner(rate, 4000, momentum=momentum, mu=mu)
        ends.append(float((descend(Slope(), theta, nobody, inner)["w"] + 1 / mu).abs().max()))
    assert ends[0] < 1e-6
    assert not ends[1] < 1e6


@pytest.mark.parametrize(
    ("name", "key", "weight"), [("imaml", "imaml_lambda", 4.0), ("fedprox", "mu", 4.0)]
)
@pytest.mark.parametrize("which", ["rate", "adapt_rate"])
def test_rates_that_do_not_go_with_a_weight(name: str, key: str, weight: float, which: str) -> None:
    given = {"method__name": name, f"method__{key}": weight, "method__rate": 0.1}
    dashed = which.replace("_", "-")
    rule = rf"method\.{dashed} = 0\.5 times .* use method\.{dashed}"
    with pytest.raises(ConfigError, match=rule):
        problem(**given | {f"method__{which}": 0.5})
    problem(**given | {f"method__{which}": 0.49})
    problem(**given | {f"method__{which}": 0.5, "method__momentum": 0.1})
    problem(**given | {f"method__{which}": 0.5, "method__name": "fedavg-ft"})


@pytest.mark.parametrize(("task", "expected"), [("classification", 1.0), ("regression", 0.25)])
def test_rates_of_regression(task: str, expected: float) -> None:
    """Per-FedAvg's two rates are both a quarter; given ones are taken as they are."""
    run = problem(method__name="per-fedavg", data__task=task)
    assert run.train.rate == expected
    assert (run.train.options.local_rate or run.train.rate) == expected
    assert (
        problem(method__name="per-fedavg", method__local_rate=0.7).train.options.local_rate == 0.7
    )


PROBES = {
    "rate": 0.37, "steps": 7, "batch": 2, "momentum": 0.6, "adapt_rate": 0.37, "adapt_steps": 7
}  # fmt: skip
"""Values that make a difference wherever a setting is read."""


def outcome(name: str, **values: Any) -> Tensor:
    """All that a method gives: where it starts, what users send and keep, and scores."""
    head = "mlp" if "mlp" in FITS[name] else FITS[name][-1]
    given = {"method__steps": 3} | values
    run = problem(method__name=name, head__name=head, **given)
    random, theta = torch.Generator().manual_seed(1), initial(run)
    found = [flat(theta)]
    # From elsewhere than the start, where some gradients are zero.
    theta = {n: v + 0.3 * torch.randn(v.shape, generator=random) for n, v in theta.items()}
    users = loop.cohort_of(run.population, run.config, 1)
    if run.method.contribute is not None:
        task, _ = loop.prepared(run, users, 2)
        made = generation.issue(run, theta, users)
        fresh = run.method.own(theta) if run.method.own else {}
        own = {n: v.expand(len(users), *v.shape) for n, v in fresh.items()}
        own |= {**loop.facts_of(run, users), **made}
        inner = loop.inner_of(run, 2)
        update = cohort.contribute(
            run.method, run.model, theta, task, inner, memory=own, apart=bool(made)
        )
        found += [flat(part) for part in (update.total, update.kept) if part]
    new, trial = run.population.store.users("test"), cohort.Trial(run.adapt, 4)
    scores = evaluation.evaluate(run, generation.public(run.method, theta), new, [trial])
    return torch.cat([*found, torch.from_numpy(scores[0, :3]).flatten()])


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_it_ignores(name: str) -> None:
    """Exactly the settings of the inner loop that change nothing at all."""
    usual = outcome(name)
    without_effect = set()
    for key, value in PROBES.items():
        if key == "batch" and not METHODS[name].batches:
            continue
        got = outcome(name, **{f"method__{key}": value})
        if got.shape == usual.shape and torch.equal(got, usual):
            without_effect.add(key)
    assert without_effect == {f for f in PROBES if not unread.reads(name, f, MethodConfig())}


def test_settings_of_single_methods_are_of_methods_that_there_are() -> None:
    fields = MethodConfig.model_fields
    owned = {name: unread.owners(info.description or "") for name, info in fields.items()}
    assert {name for names in owned.values() for name in names} <= set(METHODS)
    common = {name for name, names in owned.items() if not names}
    assert common == {"name", *PROBES}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("protonet", {"batch": 5}, r"method\.batch = 5: method\.name = 'protonet' does not read"),
        ("siamese", {"momentum": 0.5}, r"method\.momentum = 0\.5: .*'siamese' does not read it;"),
        ("meta-sgd", {"adapt_rate": 0.3}, r"method\.adapt-rate = 0\.3: .*'meta-sgd'"),
        ("maml-pp", {"adapt_rate": 0.3}, r"method\.adapt-rate = 0\.3: .*'maml-pp'"),
        ("maml", {"mu": 0.5}, r"method\.mu = 0\.5: .*'maml' .* a method that does: fedprox$"),
        ("fedper", {"trunk_rate": 0.5}, r"method\.trunk-rate = 0\.5.* that does: fedrecon$"),
        ("per-fedavg", {"difference": 0.1}, r"0\.1 counts only with method\.hessian-free = true:"),
        ("per-fedavg", {"difference": 0.1, "hessian_free": True}, ""),
        ("maml-pp", {"adapt_rate": 0.3, "learned_rates": False}, ""),
        ("meta-sgd", {"rate": 0.3, "adapt_steps": 7}, ""),
        ("protonet", {"batch": 0, "momentum": 0.0, "rate": 0.0}, ""),
        ("fedprox", {"mu": 0.5}, ""),
        ("fedavg", {"rate": 0.3}, ""),
    ],
)
def test_settings_that_nobody_reads(name: str, values: dict[str, Any], reason: str) -> None:
    config = Config(method=MethodConfig(name=name, **values))
    # A config that was resolved and written is taken as the one that it was made of.
    for one in (config, resolve(config, "classification")):
        if reason:
            with pytest.raises(ConfigError, match=reason):
                unread.check(one, [name], "classification")
        else:
            assert unread.check(one, [name], "classification") == {}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_resolved_config_has_nothing_that_was_not_given(name: str, task: str) -> None:
    config = resolve(Config(method=MethodConfig(name=name)), task)
    assert unread.given(config, task) == {}


def test_in_a_comparison_one_reader_is_enough() -> None:
    config = Config(method=MethodConfig(mu=0.5, rate=0.3))
    found = unread.check(config, ["fedavg", "fedprox", "protonet"], "classification")
    assert found == {"method.mu": ["fedprox"], "method.rate": ["fedavg", "fedprox"]}
