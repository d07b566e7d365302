"""The block in pyproject.toml declares every key with its default, as Flower reads them."""

import tomllib
from pathlib import Path

import pytest
from flwr.common.config import flatten_dict

import fedmeta
from experiments.flower_config import BEGIN, END, PYPROJECT, FlowerConfigError, rewrite, split
from fedmeta.config import Config, flatten, parse

TOML = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))


def test_flower_reads_the_defaults_of_the_config() -> None:
    declared = flatten_dict(TOML["tool"]["flwr"]["app"]["config"])
    defaults = flatten(Config())
    assert declared == defaults, "run `python -m experiments.flower_config`"
    # TOML keeps int and float apart, and so does the config: 0 is not 0.0 there.
    assert {k: type(v) for k, v in declared.items()} == {k: type(v) for k, v in defaults.items()}
    assert parse(declared) == Config()


def test_version_is_the_package_s() -> None:
    assert TOML["project"]["version"] == fedmeta.__version__


def test_rewrite_mends_a_stale_block_and_keeps_the_rest(tmp_path: Path) -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    before, _, after = split(text)
    path = tmp_path / "pyproject.toml"
    path.write_text(f"{before}{BEGIN}stale = true\n{END}{after}", encoding="utf-8")
    rewrite(path)
    assert path.read_text(encoding="utf-8") == text, "run `python -m experiments.flower_config`"


@pytest.mark.parametrize("text", ["", BEGIN, END, END + BEGIN, BEGIN + BEGIN + END])
def test_missing_markers_are_named(text: str) -> None:
    with pytest.raises(FlowerConfigError, match="marker lines"):
        split(text)
