"""A folder of several runs goes on with what it was begun with, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.attack import cells
from experiments.attack.grid import Asked, attack
from experiments.comparison import compare
from experiments.frontier import runs as frontier
from experiments.frontier.asked import Asked as Axes
from experiments.sweep import points
from fedmeta.config import Config, ConfigError, parse
from fedmeta.problem import _POPULATIONS
from strategies.checkpoint import CheckpointError

SMALL: dict[str, Any] = {
    "data.support": 2, "backbone.name": "hashing", "head.name": "linear", "method.name": "reptile",
    "federation.rounds": 2, "federation.users-per-round": 5, "evaluation.tune": False,
    "run.backend": "inline", "run.report": False,
}  # fmt: skip


def table(path: Path, turned: bool) -> None:
    """Eight rows for each of thirty users; turned: some labels are others."""
    rows = [
        f"u{user},text {user} {i},{(user + i + turned * (i > 2)) % 2}"
        for user in range(30)
        for i in range(8)
    ]
    path.write_text("user,text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    _POPULATIONS.clear()  # as in a process of its own


@pytest.fixture
def config(tmp_path: Path) -> Config:
    table(tmp_path / "data.csv", False)
    return parse(SMALL | {"data.source": str(tmp_path / "data.csv")})


ASKED = Asked(("sign-flip",), ("median",), 0.2, True)


def attacked(config: Config, out: Path | None, resume: Path | None) -> Any:
    return attack(config, ASKED, out, resume=resume).content


def swept(config: Config, out: Path | None, resume: Path | None) -> Any:
    panel = points.Panel("method.rate", ("0.5", "1.0"), "rate")
    values = [config.model_copy(update={"method": config.method.model_copy(update={"rate": r})})
              for r in (0.5, 1.0)]  # fmt: skip
    made = tuple(points.Point(0, v, c) for v, c in zip(panel.values, values, strict=True))
    planned = points.Planned(config, (panel,), made)
    return points.run(planned, ["reptile"], 1, out, resume).content


def compared(config: Config, out: Path | None, resume: Path | None) -> Any:
    return compare(config, ["reptile"], 1, out, resume=resume).content


def frontiered(config: Config, out: Path | None, resume: Path | None) -> Any:
    axes = Axes(("local", "reptile"), ("user/gaussian",), (8.0,), 1, 0)
    return frontier.run(config, axes, out, resume=resume).content


GRIDS: dict[str, Callable[[Config, Path | None, Path | None], Any]] = {
    "attack": attacked, "sweep": swept, "compare": compared,
    "frontier": frontiered,
}  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
def test_other_data_under_the_same_name(grid: str, config: Config, tmp_path: Path) -> None:
    run, out = GRIDS[grid], tmp_path / "out"
    run(config, out, None)
    run(config, None, out)
    table(tmp_path / "data.csv", True)
    with pytest.raises(CheckpointError, match=r"data \(sha256\)"):
        run(config, None, out)
    table(tmp_path / "data.csv", False)
    run(config, None, out)


def test_a_comparison_keeps_its_plan(config: Config, tmp_path: Path) -> None:
    compare(config, ["reptile", "fedavg-ft"], 1, tmp_path / "out", baselines=False)
    plan = (tmp_path / "out" / "plan.json").read_bytes()
    with pytest.raises(ConfigError, match=r"was begun with 1 seed\(s\) of reptile,fedavg-ft"):
        compare(config, ["reptile"], 1, resume=tmp_path / "out")
    other = parse(SMALL | {"data.source": config.data.source, "federation.rounds": 3})
    with pytest.raises(CheckpointError, match=r"federation\.rounds = 3 \(was 2\)"):
        compare(other, ["reptile", "fedavg-ft"], 1, resume=tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_bytes() == plan


@pytest.mark.parametrize("content", ["", "[]", '{"died": null}', '{"died": null, "sha256": "0"}'])
def test_a_cell_that_is_not_whole_is_run_again(
    content: str, config: Config, tmp_path: Path
) -> None:
    whole = attacked(config, tmp_path / "out", None)
    cell = tmp_path / "out" / "cells" / "sign-flip--median.json"
    before = cell.read_bytes()
    cell.write_text(content, encoding="utf-8")
    assert cells.read(cell) is None
    assert attacked(config, None, tmp_path / "out") == whole
    assert cell.read_bytes() == before
    changed = json.loads(before)
    changed["after"][0] += 0.1
    cell.write_text(json.dumps(changed), encoding="utf-8")
    assert cells.read(cell) is None


def test_an_attack_by_nobody_is_refused(config: Config, tmp_path: Path) -> None:
    for exact, among in ((True, "5 users of a round"), (False, r"\d+ users of training")):
        with pytest.raises(ConfigError, match=rf"--share 0\.01 of {among} is nobody"):
            attack(config, ASKED._replace(share=0.01, exact=exact), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    attacked(config, tmp_path / "out", None)
    (tmp_path / "out" / "plan.json").unlink()
    with pytest.raises(ConfigError, match=r"plan\.json cannot be read"):
        attacked(config, None, tmp_path / "out")
