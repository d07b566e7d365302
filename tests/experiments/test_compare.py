"""Comparisons: paired by user, over seeds, all from the users' own scores."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli import main
from experiments.comparison import DEFAULT_METHODS
from experiments.selection import HONEST
from fedmeta.methods import METHODS
from tests.experiments.runs import Result, sets, strict, summary_of, users_of

K = 10
METHODS_HERE = ("fedavg", "reptile", "maml")
SEEDS = (4, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, two seeds."""
    out = tmp_path_factory.mktemp("comparisons") / "here"
    arguments = [
        *("fedmeta", "compare", *sets(data__support=K), "--methods", ",".join(METHODS_HERE)),
        *("--no-baselines", "--seeds", "2", "--seed", "4", "--out", str(out), "--json"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit, match="0"):
            main()
    return out


@pytest.fixture(scope="module")
def content(folder: Path) -> Any:
    return strict((folder / "compare.json").read_text(encoding="utf-8"))


def after(folder: Path, method: str, seed: int, split: str = "test", k: int = K) -> Any:
    return users_of(folder / f"{method}-seed{seed}", split, k)["accuracy"]


def gains(folder: Path, method: str, split: str = "test") -> Any:
    """Gain of each user and seed, ``(seeds, users)``."""
    pairs = [(after(folder, method, s, split), after(folder, method, s, split, 0)) for s in SEEDS]
    return np.stack([last - first for last, first in pairs])


def test_folders(folder: Path, content: Any) -> None:
    runs = {f"{method}-seed{seed}" for method in METHODS_HERE for seed in SEEDS}
    assert {path.name for path in folder.iterdir()} == runs | {
        "config.toml",
        "plan.json",
        "data.json",
        "compare.json",
    }
    assert content["seeds"] == list(SEEDS)
    assert tuple(content["methods"]) == METHODS_HERE
    for method in METHODS_HERE:
        summaries = [summary_of(folder / f"{method}-seed{seed}") for seed in SEEDS]
        assert [one["seed"] for one in summaries] == list(SEEDS)
        row = content["methods"][method]
        assert row["seed"] == list(SEEDS)
        digests = [one["weights_sha256"] for one in summaries]
        assert row["weights_sha256"] == digests
        assert len(set(digests)) == 2
        assert set(row) == set(summaries[0])


def test_all_runs_judge_the_same_users_on_the_same_examples(folder: Path) -> None:
    for seed in SEEDS:
        one, two = (users_of(folder / f"{m}-seed{seed}", "test", K) for m in ("fedavg", "maml"))
        assert list(one.index) == list(two.index)
        assert (one["examples"] == two["examples"]).all()
    start = after(folder, "fedavg", 4, k=0)
    assert (start == after(folder, "fedavg", 4)).all()  # FedAvg does not adapt


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("method", METHODS_HERE)
def test_rows_are_means_over_seeds(folder: Path, content: Any, method: str, split: str) -> None:
    figures = content["methods"][method][split]
    expected = np.mean([after(folder, method, seed, split).mean() for seed in SEEDS])
    assert figures["after"]["accuracy_macro"] == pytest.approx(expected)
    assert figures["curve"][str(K)] == pytest.approx(expected)
    if method == "maml":  # its start is not made to be used
        assert figures["gain"] is figures["hurt_share"] is None
        return
    found = gains(folder, method, split)
    assert figures["gain"]["mean"] == pytest.approx(found.mean())
    assert figures["hurt_share"] == pytest.approx((found < 0).mean())
    low, high = figures["gain"]["ci95"]
    assert low <= found.mean() <= high
    if method != "fedavg":  # resampling seeds as well as users gives no less than users alone
        error = found.mean(axis=0).std() / np.sqrt(found.shape[1])
        assert high - low > 2 * 1.96 * error * 0.85


def test_pairs(folder: Path, content: Any) -> None:
    assert [(p["a"], p["b"]) for p in content["pairs"]] == list(combinations(METHODS_HERE, 2))
    for pair in content["pairs"]:
        a, b = (np.stack([after(folder, pair[x], seed) for seed in SEEDS]) for x in "ab")
        assert pair["mean"] == pytest.approx((a - b).mean())
        low, high = pair["ci95"]
        assert low < pair["mean"] < high
    first, second, third = (pair["mean"] for pair in content["pairs"])
    assert first + third == pytest.approx(second)  # (a - b) + (b - c) = a - c


def test_verdict(folder: Path, content: Any) -> None:
    decision = content["decision"]
    valid = {m: content["methods"][m]["valid"]["after"]["accuracy_macro"] for m in METHODS_HERE[1:]}
    assert decision["method"] == max(valid, key=lambda name: valid[name])
    start = {
        m: content["methods"][m]["valid"]["before"]["accuracy_macro"]
        for m in ("fedavg", "reptile")  # those that train a model to be used as it is
    }
    assert decision["reference"] == max(start, key=lambda name: start[name])
    test = {name: content["methods"][name]["test"] for name in METHODS_HERE}
    reached = test[decision["method"]]["after"]["accuracy_macro"]
    assert decision["gain"] == pytest.approx(
        reached - test[decision["reference"]]["before"]["accuracy_macro"]
    )
    low, high = decision["ci95"]
    assert low < decision["gain"] < high
    assert decision["pays"] == (decision["ci95"][0] > 0)
    assert content["verdict"] == decision["sentence"]
    assert content["verdict"].startswith("Personalization ")
    assert f"{decision['method']} with {K} examples" in content["verdict"]


def test_a_run_of_it_alone_gives_the_same(folder: Path, fedmeta: Callable[..., Result]) -> None:
    config = folder / "maml-seed5" / "config.toml"
    alone = fedmeta("simulate", config, "--out", "alone", "--json").json
    before = summary_of(folder / "maml-seed5")
    assert alone["weights_sha256"] == before["weights_sha256"]
    assert alone["test"] == before["test"]
    assert alone["method"] == "maml"


SMALL = sets(federation__rounds=1, data__support=5, evaluation__shots="0")


def few(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A registry of a few methods, so that all of them are soon run."""
    monkeypatch.setattr("experiments.selection.METHODS", {name: METHODS[name] for name in names})


def test_the_usual_methods_and_the_honest_baselines(fedmeta: Callable[..., Result]) -> None:
    found = fedmeta("compare", *SMALL, "--json").json
    added = [name for name in HONEST if name in METHODS and name not in DEFAULT_METHODS]
    assert "bias" in added
    assert found["baselines_added"] == added
    assert list(found["methods"]) == [*DEFAULT_METHODS, *added]
    assert found["left_out"] == {}
    assert Path(found["folder"]).parent == Path("runs")
    assert found["seeds"] == [0]


def test_all_methods_that_fit(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, "local", "fedavg", "fedper")
    found = fedmeta("compare", *SMALL, "--methods", "all", "--json").json
    assert list(found["methods"]) == ["local", "fedavg", "fedper"]
    linear = ["--set", "head.name=linear"]
    found = fedmeta("compare", *SMALL, *linear, "--methods", "all", "--json").json
    assert list(found["methods"]) == ["local", "fedavg"]
    assert list(found["left_out"]) == ["fedper"]
    assert "use head.name = 'mlp'" in found["left_out"]["fedper"]
    shown = fedmeta("compare", *SMALL, *linear, "--methods", "all")
    assert "left out: fedper (method.name = 'fedper' needs a trunk" in shown.out
    refused = fedmeta("compare", *SMALL, *linear, "--methods", "local,fedper", "--out", "never")
    assert refused.code == 2
    assert "use head.name = 'mlp'" in refused.err
    assert not Path("never").exists()


def test_of_all_methods_one_that_fails_is_left_out(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, object]:
        raise RuntimeError("a bug in a method")

    monkeypatch.setitem(METHODS, "fedprox", replace(METHODS["fedprox"], contribute=broken))  # type: ignore[arg-type]
    few(monkeypatch, "fedavg", "fedprox", "local")
    found = fedmeta("compare", *SMALL, "--methods", "all", "--json").json
    assert list(found["methods"]) == ["fedavg", "local"]
    assert "a bug in a method" in found["left_out"]["fedprox"]
    named = fedmeta("compare", *SMALL, "--methods", "fedprox,local")
    assert named.code == 1


def test_a_method_named_twice_runs_once(fedmeta: Callable[..., Result]) -> None:
    given = ["--methods", "maml, local,maml", "--no-baselines"]
    found = fedmeta("compare", *sets(federation__rounds=1), *given, "--json").json
    assert list(found["methods"]) == ["maml", "local"]
    assert found["baselines_added"] == []
    assert len(found["pairs"]) == 1


def test_table(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("compare", *sets(), "--methods", "fedavg,maml", "--out", "here")
    assert result.code == 0
    content = strict(Path("here/compare.json").read_text(encoding="utf-8"))
    assert " ".join(content["verdict"].split()) in " ".join(result.out.split())
    for row in content["methods"].values():
        assert f" {100 * row['test']['after']['accuracy_macro']:.1f} " in result.out
    assert "added to compare with: local, bias, fedavg-ft" in result.out
    runs = len(content["methods"])
    assert f"{runs} of {runs} runs in" in result.err
    assert f"1 of {runs} runs in" in result.err
    for method in ("fedavg", "maml"):
        assert f"{method}: round 3/3" in result.err
