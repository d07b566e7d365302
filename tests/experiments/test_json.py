"""``--json`` prints one document, and nothing else goes to standard output."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmeta import __version__
from fedmeta.backbones import BACKBONES
from fedmeta.data.sources import DATA
from fedmeta.heads import HEADS
from fedmeta.methods import METHODS
from tests.experiments.runs import Result, sets, strict, summary_of

NAMES = {
    "methods": list(METHODS),
    "heads": list(HEADS),
    "data": list(DATA),
    "backbones": list(BACKBONES),
}


@pytest.mark.parametrize("what", NAMES)
def test_list(what: str, fedmeta: Callable[..., Result]) -> None:
    rows = fedmeta("list", what, "--json").json
    assert [row["name"] for row in rows] == NAMES[what]
    assert all(text for row in rows for text in row.values())
    shown = fedmeta("list", what)
    assert (shown.code, shown.err) == (0, "")
    for name in NAMES[what]:
        assert name in shown.out


def test_simulate(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("simulate", *sets(), "--out", "here", "--json")
    assert result.json == summary_of(Path("here")) | {"folder": "here"}
    assert result.err == ""
    assert result.out.count("\n") == 1


def test_compare(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("compare", *sets(), "--methods", "fedavg,maml", "--out", "here", "--json")
    content = strict(Path("here/compare.json").read_text(encoding="utf-8"))
    assert result.json == content | {"folder": "here"}
    assert result.err == ""


def test_inspect(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("inspect", "preferences", "--set", "data.users=30", "--json")
    assert result.json["task"] == "classification"
    assert sum(result.json["users"].values()) == 30
    assert result.err == ""


def test_without_json_progress_goes_to_standard_error(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("simulate", *sets(), "--out", "here")
    assert result.code == 0
    assert "round 3/3" in result.err
    assert "round 3/3" not in result.out
    assert "gain [95 %]" in result.out
    assert "gain [95 %]" not in result.err


def test_help_and_version(fedmeta: Callable[..., Result]) -> None:
    shown = fedmeta("--help")
    assert shown.code == 0
    for command in ("simulate", "compare", "list", "inspect", "reproduce"):
        assert command in shown.out
    assert fedmeta("--version").out == f"fedmeta {__version__}\n"


@pytest.mark.slow
def test_ray_in_a_process_of_its_own_gives_the_same_weights(
    fedmeta: Callable[..., Result], tmp_path: Path
) -> None:
    """Nothing that Ray or a worker says gets between the caller and the document."""
    inline = fedmeta("simulate", *sets(), "--out", "inline", "--json").json
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from experiments.cli import main; main()", "simulate"),
            *sets(run__backend="ray", run__workers=1),
            *("--out", "ray", "--json"),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    ray = strict(done.stdout)
    assert ray["backend"] == "ray"
    assert ray["weights_sha256"] == inline["weights_sha256"]
    assert ray["model_sha256"] == inline["model_sha256"]
    assert ray["test"] == inline["test"]
    assert ray["speed"]["startup_s"] > inline["speed"]["startup_s"]
    assert "Traceback" not in done.stderr
