"""The benchmark of the Ray path, with few users; how fast it is, is not tested."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from typer.testing import CliRunner

from experiments.bench import flower, ours, plain, stock, users
from experiments.cli import app
from fedmeta.config import ConfigError
from fedmeta.problem import build

FIELDS = ("work", "users", "users_per_s", "stock_users_per_s", "ratio", "peak_rss_mb")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    users.write(tmp_path / "users.npz", 6)
    return tmp_path / "users.npz"


def test_users(archive: Path) -> None:
    """The run and stock Flower see the same users, and the run does the same work."""
    config = users.config(archive, 4, 2, 1, "inline")
    problem, pool = build(config), users.read(archive)
    population = problem.population
    assert len(population.store.users("train")) == 6
    assert population.features.shape == (users.ITEMS, 384)
    for number in (0, 5):
        mine = population.store.ids.index(str(number))
        at = slice(*population.store.offsets[mine : mine + 2])
        np.testing.assert_array_equal(population.store.item[at], pool.item[number])
        np.testing.assert_array_equal(population.store.label[at], pool.label[number])
    inner = users.WORK.inner
    assert replace(problem.train, options=inner.options) == inner


def test_inline_run(archive: Path) -> None:
    found = ours.run(archive, 4, 2, "inline")
    assert found.users_per_s > 0
    assert found.peak_rss_mb > 0


def test_stock_client_is_the_plain_loop(archive: Path) -> None:
    theta = {name: torch.from_numpy(value) for name, value in users.initial().items()}
    content = RecordDict(
        {
            "arrays": ArrayRecord(dict(theta)),
            "config": ConfigRecord({"path": str(archive)}),
        }
    )
    message = Message(content, dst_node_id=1, message_type="train")
    context = Context(1, 1, {"partition-id": 2}, RecordDict(), {})
    reply = stock.client(message, context).content.array_records["arrays"]
    pool, none = users.read(archive), torch.empty(0)
    user = plain.User(
        torch.from_numpy(pool.items[pool.item[2]]), torch.from_numpy(pool.label[2]), none, none
    )
    sent = plain.contribution(users.WORK, list(theta.values()), user)
    for (name, before), delta in zip(theta.items(), sent, strict=True):
        np.testing.assert_array_equal(reply[name].numpy(), (before - delta).numpy())


@pytest.mark.parametrize("text", ["", "0", "10,-1", "ten"])
def test_cohorts_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match="--users"):
        flower.cohorts_of(text)


def test_cohorts() -> None:
    assert flower.cohorts_of("10, 200") == [10, 200]


def test_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "measure", lambda *_: ours.Measured(5000.0, 900.0))
    monkeypatch.setattr(stock, "measure", lambda *_: 80.0)
    done = CliRunner().invoke(app, ["bench", "flower", "--users", "4,8", "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["users"] for line in lines] == [4, 8]
    assert tuple(lines[0]) == FIELDS
    assert lines[0]["ratio"] == 62.5


@pytest.mark.slow
def test_stock_flower_takes_too_long(archive: Path) -> None:
    with pytest.raises(stock.StockError, match="did not finish"):
        stock.measure(archive, 6, 1, limit=1.0)


@pytest.mark.slow
def test_end_to_end() -> None:
    (row,) = flower.rows([10], 1, stock_nodes=10)
    assert row["users_per_s"] > row["stock_users_per_s"] > 0
