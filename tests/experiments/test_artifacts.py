"""A run's folder: what is in it, and that its figures are those of its users."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from experiments.found import Run
from experiments.plain import plain
from experiments.running import simulate
from fedmeta.config import Config, flatten, known_keys, parse
from fedmeta.head_file import weights_sha256
from tests.experiments.runs import TINY, Result, rounds_of, sets, strict, summary_of, users_of

FILES = {
    ".lock",
    "checkpoints",
    "config.toml",
    "model.safetensors",
    "personal.json",
    "rounds.jsonl",
    "summary.json",
    "users.parquet",
}
FIGURES = {"accuracy_macro", "accuracy_micro", "f1_macro", "median", "p10", "worst_decile"}
CONFIG: Config = parse(
    TINY | {"evaluation.tune": True, "data.support": 12, "run.seed": 3, "method.name": "reptile"}
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(CONFIG, tmp_path_factory.mktemp("runs") / "deep" / "er")


@pytest.fixture(scope="module")
def summary(run: Run) -> Any:
    return summary_of(run.folder)


def test_files(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == FILES
    assert summary_of(run.folder) == plain(run.summary)


def test_summary_has_what_is_promised(summary: Any) -> None:
    assert {"method", "seed", "backend", "rounds", "users", "valid", "test", "speed"} <= set(
        summary
    )
    assert (summary["method"], summary["seed"], summary["backend"]) == ("reptile", 3, "inline")
    assert summary["rounds"] == 3
    assert 1 <= summary["best_round"] <= 3
    assert summary["users"] == {"train": 36, "valid": 9, "test": 15}
    for split in ("valid", "test"):
        assert set(summary[split]["before"]) >= FIGURES
        assert set(summary[split]["after"]) >= FIGURES
        assert set(summary[split]["gain"]) == {"mean", "ci95"}
        assert 0 <= summary[split]["hurt_share"] <= 1
        assert list(summary[split]["curve"]) == ["0", "1", "2", "5", "10", "12"]
    assert set(summary["versions"]) >= {"fedmeta", "python", "torch", "flwr", "ray"}
    assert len(summary["weights_sha256"]) == len(summary["model_sha256"]) == 64


def test_speed_adds_up(summary: Any) -> None:
    speed = summary["speed"]
    parts = speed["backbone_s"] + speed["startup_s"] + speed["rounds_s"]
    assert 0 < parts < speed["wall_s"] < 300
    rate = 3 * 8 / speed["rounds_s"]
    assert speed["user_updates_per_s"] == pytest.approx(rate)
    assert 50 < speed["peak_rss_mb"] < 50_000


@pytest.mark.parametrize("split", ["valid", "test"])
def test_figures_are_those_of_the_users(run: Run, summary: Any, split: str) -> None:
    figures = summary[split]
    ends = {"before": users_of(run.folder, split, 0), "after": users_of(run.folder, split, 12)}
    for name, rows in ends.items():
        assert len(rows) == summary["users"][split]
        value, count = rows["accuracy"], rows["examples"]
        worst = value.sort_values().iloc[: max(1, round(len(rows) / 10))]
        expected = {
            "accuracy_macro": value.mean(),
            "accuracy_micro": (value * count).sum() / count.sum(),
            "f1_macro": rows["f1"].mean(),
            "median": value.median(),
            "p10": np.percentile(value, 10),
            "worst_decile": worst.mean(),
        }
        assert {key: figures[name][key] for key in expected} == pytest.approx(expected)
    gains = ends["after"]["accuracy"] - ends["before"]["accuracy"]
    low, high = figures["gain"]["ci95"]
    assert figures["gain"]["mean"] == pytest.approx(gains.mean())
    assert figures["hurt_share"] == pytest.approx((gains < 0).mean())
    error = gains.std() / np.sqrt(len(gains))
    assert low < gains.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.35)
    bayes = ends["after"]["bayes"].mean()
    share = gains.mean() / (bayes - ends["before"]["accuracy"].mean())
    assert figures["achieved_share"] == pytest.approx(share)
    for k, value in figures["curve"].items():
        assert value == pytest.approx(users_of(run.folder, split, int(k))["accuracy"].mean())


@pytest.mark.parametrize("name", ["maml", "local", "fedavg", "fedavg-ft"])
def test_no_gain_over_a_start_that_nobody_would_use(
    fedmeta: Callable[..., Result], name: str
) -> None:
    """A head at chance flatters whatever follows; the table says so in place of the figure."""
    given = sets(method__name=name, federation__rounds=1)
    result = fedmeta("simulate", *given, "--out", "shown")
    summary = summary_of(Path("shown"))
    fair = name.startswith("fedavg")
    for split in ("valid", "test"):
        figures = [summary[split][key] for key in ("gain", "hurt_share", "achieved_share")]
        assert [figure is not None for figure in figures] == [fair] * 3
        assert summary[split]["after"]["accuracy_macro"] > 0.3
    assert bool(summary["notes"]) is not fair
    assert (f"no gain is shown: the start of {name}" in " ".join(result.out.split())) is not fair
    assert ("of the achievable gain" in result.out) is fair


def test_the_model_holds_no_training_user(fedmeta: Callable[..., Result]) -> None:
    """Of the embeddings that a server learned of its users only the mean is handed on."""
    given = sets(method__name="pfedhn", federation__rounds=1, head__name="linear")
    assert fedmeta("simulate", *given, "--out", "made").code == 0
    model, summary = load_file("made/model.safetensors"), summary_of(Path("made"))
    state = load_file("made/checkpoints/1/state.safetensors")
    users = state["best:embedding/users"]
    assert len(users) == summary["users"]["train"] > 1
    assert model["embedding/users"].tolist() == users.mean(0, keepdim=True).tolist()
    assert summary["model_sha256"] == weights_sha256(model)


def test_users(run: Run) -> None:
    frame = pd.read_parquet(run.folder / "users.parquet")
    assert set(frame.columns) >= {"user", "split", "method", "k", "seed"}
    assert len(frame) == (9 + 15) * 6
    assert not frame.duplicated(["user", "method", "k", "seed"]).any()
    assert frame["method"].unique().tolist() == ["reptile"]
    assert frame["seed"].unique().tolist() == [3]
    per_user = frame.groupby("user")["examples"].nunique()
    assert (per_user == 1).all()  # one query set, whatever K is
    hits = frame["accuracy"] * frame["examples"]
    np.testing.assert_allclose(hits, hits.round(), atol=1e-9)


def test_rounds(run: Run, summary: Any) -> None:
    rounds = rounds_of(run.folder)
    assert [line["round"] for line in rounds] == [1, 2, 3]
    assert all(line["rounds"] == 3 and line["users"] == 8 and not line["failed"] for line in rounds)
    assert [line["valid"] is None for line in rounds] == [True, False, False]
    best = max((line for line in rounds if line["valid"] is not None), key=lambda e: e["valid"])
    assert summary["best_round"] == best["round"]


def test_model(run: Run, summary: Any) -> None:
    tensors = load_file(run.folder / "model.safetensors")
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    assert shapes == {name: tuple(v.shape) for name, v in run.outcome.meta.items()}
    assert {"output.weight", "output.bias"} < set(shapes)
    assert weights_sha256(tensors) == summary["model_sha256"]
    assert weights_sha256(run.outcome.last) == summary["weights_sha256"]


def test_config_is_resolved_and_repeats_the_run(run: Run, fedmeta: Callable[..., Result]) -> None:
    path = run.folder / "config.toml"
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    config = parse(written)
    assert set(flatten(config)) == set(known_keys())
    assert sum(map(len, written.values())) == len(known_keys())
    assert config.method.rate > 0
    assert config.method.steps > 0
    assert config.method.adapt_rate > 0
    assert config.server.rate > 0
    assert config.server.optimizer != "auto"
    again = fedmeta("simulate", path, "--json", "--out", "again").json
    assert again["weights_sha256"] == run.summary["weights_sha256"]
    assert again["model_sha256"] == run.summary["model_sha256"]
    assert again["test"] == plain(run.summary)["test"]
    assert (Path("again") / "config.toml").read_bytes() == path.read_bytes()
    other = fedmeta("simulate", path, "--seed", 4, "--json", "--out", "other").json
    assert other["weights_sha256"] != again["weights_sha256"]


def test_default_folders(fedmeta: Callable[..., Result]) -> None:
    """Runs that begin in the same second do not fight over one folder."""
    short = sets(run__name="a b/[c]", federation__rounds=0)
    folders = [Path(fedmeta("simulate", *short, "--json").json["folder"]) for _ in range(2)]
    assert len(set(folders)) == 2
    for folder in folders:
        assert folder.parent == Path("runs")
        assert "a-b-" in folder.name
        assert {path.name for path in folder.iterdir()} == FILES - {"rounds.jsonl", "checkpoints"}


def test_a_folder_in_the_config_does_not_stand_in_the_way_of_a_repetition(
    fedmeta: Callable[..., Result],
) -> None:
    first = fedmeta("simulate", *sets(run__out="here"), "--json").json
    assert first["folder"] == "here"
    again = fedmeta("simulate", "here/config.toml", "--json").json
    assert Path(again["folder"]).parent == Path("runs")
    assert again["weights_sha256"] == first["weights_sha256"]


def test_table_says_what_the_summary_says(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("simulate", *sets(run__name="[red]", method__name="reptile"), "--out", "here")
    assert result.code == 0
    summary = summary_of(Path("here"))
    assert "[red]: accuracy" in result.out
    for figure in (summary["test"]["before"], summary["test"]["after"]):
        assert f" {100 * figure['accuracy_macro']:.1f} " in result.out
    assert f"{summary['test']['hurt_share']:.0%}" in result.out
    assert summary["weights_sha256"][:16] in result.out


def test_json_has_no_nan() -> None:
    nan, inf = float("nan"), float("inf")
    assert plain({"a": (nan, 1.5), "b": [-inf, {"c": inf}], "d": "nan"}) == {
        "a": [None, 1.5],
        "b": [None, {"c": None}],
        "d": "nan",
    }
    with pytest.raises(AssertionError):
        strict("[NaN]")
