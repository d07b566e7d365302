"""``fedmeta inspect``: what is in a file, and a config for it that runs."""

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmeta.config import parse
from tests.data.rows import text_rows, with_column, write
from tests.experiments.runs import Result, offset_rows, sets


def test_table_of_texts(fedmeta: Callable[..., Result]) -> None:
    rows = text_rows(20, 6) + text_rows(23, 1)[:3]  # u20 to u22 have one each, which is too few
    rows = [{**row, "label": "[/b]" if row["label"] == "no" else "yes"} for row in rows]
    path = write(Path("my [red] table.csv"), rows)
    found = fedmeta("inspect", path, "--json").json
    assert found["task"] == "classification"
    assert found["items"] == {"kind": "text", "count": 6}
    assert sum(found["users"].values()) == 20
    assert found["examples"]["count"] == 120
    assert found["examples"]["per_user"] == {"min": 6, "p10": 6, "median": 6, "p90": 6, "max": 6}
    assert found["users_with_more_than"] == {"5": 20, "10": 0, "20": 0, "50": 0}
    assert found["labels"] == {"[/b]": 0.5, "yes": 0.5}
    assert found["dropped"] == {"users with fewer than 2 examples": 3}
    assert not found["item_folds"]
    shown = fedmeta("inspect", path)
    assert shown.code == 0, shown.err
    for text in ("my [red] table.csv", "[/b] 0.5", "> 5: 20", "3 users with fewer", "support = 2"):
        assert text in shown.out


@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_its_config_runs(kind: str, fedmeta: Callable[..., Result]) -> None:
    rows = text_rows() if kind == "text" else offset_rows()
    rows = with_column(rows, "who", lambda i: rows[i]["user"])
    path = write(Path("data.csv"), [{k: v for k, v in r.items() if k != "user"} for r in rows])
    found = fedmeta("inspect", path, "--set", "data.user-column=who", "--json").json
    config = tomllib.loads(found["config"])
    support = 2 if kind == "text" else 5
    assert config == {"data": {"source": str(path), "support": support, "user-column": "who"}}
    assert parse(config).data.support == support
    Path("mine.toml").write_text(found["config"], encoding="utf-8")
    small = {"data__users": 1000, "backbone__name": "auto" if kind == "numbers" else "hashing"}
    summary = fedmeta("simulate", "mine.toml", *sets(**small), "--json").json
    assert summary["measure"] == ("accuracy" if kind == "text" else "mae")
    assert summary["support"] == support
    assert summary["users"] == found["users"]


def test_regression_and_folds(fedmeta: Callable[..., Result]) -> None:
    rows = with_column(offset_rows(), "item_fold", lambda i: i % 5)
    found = fedmeta("inspect", write(Path("data.parquet"), rows), "--json").json
    assert found["task"] == "regression"
    assert found["item_folds"]
    targets = [row["label"] for row in rows]
    assert found["labels"]["mean"] == pytest.approx(sum(targets) / len(targets), rel=1e-5)
    assert found["items"]["kind"] == "features"


def test_other_sources(fedmeta: Callable[..., Result]) -> None:
    found = fedmeta("inspect", "digits", "--set", "data.users=30", "--json").json
    assert len(found["labels"]) == 10
    shown = fedmeta("inspect", "digits", "--set", "data.users=30")
    assert "and 2 more" in shown.out


@pytest.mark.parametrize(("users", "few"), [(8, True), (30, False)])
def test_too_few_users_for_a_verdict(users: int, few: bool, fedmeta: Callable[..., Result]) -> None:
    path = write(Path("data.csv"), text_rows(users, 6))
    shown = fedmeta("inspect", path)
    assert shown.code == 0, shown.err
    assert ("a verdict needs at least 5 test users" in shown.out) == few


def test_whole_numbers_that_are_no_classes(fedmeta: Callable[..., Result]) -> None:
    """It says so, proposes a regression, and its command goes through where another would not."""
    rows = [row | {"label": round(3 * row["label"])} for row in offset_rows()]
    path = write(Path("my data.csv"), rows)
    found = fedmeta("inspect", path, "--json").json
    assert (found["task"], tomllib.loads(found["config"])["data"]["task"]) == ("regression",) * 2
    shown = fedmeta("inspect", path).out
    assert "taken for numbers to predict" in " ".join(shown.split())
    command = shown[shown.index("fedmeta compare \\\n") :]
    words = shlex.split(command.replace("\\\n", ""))[1:]  # as a shell joins the lines
    assert "data.source=my data.csv" in words
    small = sets(federation__rounds=1, backbone__name="auto")
    assert fedmeta(*words, "--methods", "local", *small, "--json").json["measure"] == "mae"
    same = fedmeta("inspect", path, "--set", "data.task=classification")
    assert same.code == 2
    assert "set data.task=regression if they are numbers to predict" in same.err


def test_classes_by_number_stay_classes(fedmeta: Callable[..., Result]) -> None:
    rows = [row | {"label": number % 25} for number, row in enumerate(offset_rows())]
    found = fedmeta("inspect", write(Path("data.csv"), rows), "--json").json
    assert (found["task"], found["numbers"]) == ("classification", "")
