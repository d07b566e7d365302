"""A client that fails: exit code 1, its name and traceback, and what was finished is kept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.settings import read
from fedmeta import loop
from fedmeta.problem import build
from tests.data.rows import write
from tests.experiments.runs import Result, offset_rows, rounds_of, sets, summary_of


@pytest.fixture
def poisoned() -> list[str]:
    """Arguments of a run over a file in which a user of round 2, not of round 1, overflows."""
    rows = offset_rows()
    path = write(Path("data.csv"), rows)
    arguments = sets(
        data__source=path,
        data__support=3,
        data__standardize="none",
        backbone__name="identity",
        head__name="linear",
        method__name="fedavg",
        federation__users_per_round=4,
    )
    config = read(None, arguments[1::2])
    population = build(config).population
    first, second = (set(loop.cohort_of(population, config, n).tolist()) for n in (1, 2))
    name = population.store.ids[min(second - first)]
    write(path, [r | {"a": r["a"] * 1e30} if r["user"] == name else r for r in rows])
    Path("name").write_text(name, encoding="utf-8")
    return arguments


def test_fail(
    poisoned: list[str], fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmeta.problem._POPULATIONS", {})
    result = fedmeta("simulate", *poisoned, "--out", "here")
    assert (result.code, result.out) == (1, "")
    assert "failed: round 2: " in result.err
    assert f"user {Path('name').read_text()!r}" in result.err
    assert "not finite" in result.err
    assert [line["round"] for line in rounds_of(Path("here"))] == [1]
    assert {path.name for path in Path("here").iterdir()} == {
        ".lock",
        "checkpoints",
        "config.toml",
        "rounds.jsonl",
    }


def test_skip(
    poisoned: list[str], fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmeta.problem._POPULATIONS", {})
    options = ["--on-client-error", "skip", "--out", "here", "--json"]
    summary = fedmeta("simulate", *poisoned, *options).json
    rounds = rounds_of(Path("here"))
    assert [line["round"] for line in rounds] == [1, 2, 3]
    assert [line["failed"] for line in rounds][:2] == [0, 1]
    assert all(line["users"] + line["failed"] == 4 for line in rounds)
    assert summary["failed_updates"] == sum(line["failed"] for line in rounds)
    assert summary_of(Path("here"))["test"]["after"]["mae_macro"] > 0


def test_traceback_of_the_first(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client raises is shown with its traceback, from wherever it comes."""

    def fire(*_: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("clients.app.wire.sum_reply", fire)
    result = fedmeta("compare", *sets(), "--methods", "maml", "--out", "here")
    assert result.code == 1
    assert "failed: round 1: " in result.err
    assert "Traceback (most recent call last)" in result.err
    assert "OSError: the disk is on fire" in result.err
    assert not Path("here/compare.json").exists()


def test_failures_of_the_tool_itself_are_one_line(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.artifacts.write_model", full)
    result = fedmeta("simulate", *sets(), "--out", "here")
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("failed: OSError: ")
    assert "No space left on device" in last
    assert "fedmeta --debug" in last
    assert "Traceback" not in result.err
    assert len(rounds_of(Path("here"))) == 3
    with pytest.raises(OSError, match="No space left"):
        fedmeta("--debug", "simulate", *sets(), "--out", "again")
