"""The page of config keys is what the code says, and the configs that come along run."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.reference import PAGE, render
from experiments.reproduce import CONFIGS
from experiments.settings import read
from fedmeta.config import known_keys
from fedmeta.data.sources import SOURCES
from tests.experiments.runs import Result, sets

FILES = sorted(CONFIGS.glob("*.toml"))
assert FILES
FAST = [
    pytest.param(path, marks=pytest.mark.slow if path.stem in ("omniglot", "shakespeare") else ())
    for path in FILES
]
"""Whole models take long, even in two rounds."""


def test_page() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m experiments.reference`"


@pytest.mark.parametrize("key", known_keys())
def test_every_key_is_explained(key: str) -> None:
    default, description = known_keys()[key]
    row = next(line for line in render().splitlines() if line.startswith(f"| `{key}` |"))
    assert description
    assert row.replace("\\|", "").count("|") == 5
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    assert shown in row


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_parses(path: Path) -> None:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    assert read(path).data.source == values["data"]["source"]


@pytest.mark.parametrize("path", FAST, ids=lambda path: path.stem)
def test_config_runs(
    path: Path, request: pytest.FixtureRequest, fedmeta: Callable[..., Result]
) -> None:
    """Two rounds with a tiny backbone, where the data are at hand."""
    source = read(path).data.source
    given: dict[str, Any] = {
        "federation__rounds": 2,
        "federation__users_per_round": 9,  # of whom a robust rule may take two for malicious
        "data__source": source,
        "backbone__columns": 64,
    }
    if source not in SOURCES:
        file = request.getfixturevalue("shared_data") / source
        given["data__source"] = file
    if source.endswith(".npz") or source == "sinusoid" or read(path).data.window:
        given["backbone__name"] = "identity"
    summary = fedmeta("simulate", path, *sets(**given), "--json").json
    assert summary["rounds"] == 2
    assert summary["users"]["test"] >= 8
