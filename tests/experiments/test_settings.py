"""Layers of the config: embedded default, file, --set, flags."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.settings import read
from fedmeta.config import Config, ConfigError, flatten
from tests.experiments.runs import Result, sets


def file(text: str, name: str = "given.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_embedded_default() -> None:
    assert read(None) == Config()


def test_each_layer_wins_over_those_before() -> None:
    path = file("[federation]\nrounds = 7\nchunk = 3\n[run]\nseed = 7\n[data]\nsupport = 7\n")
    config = read(path, ["federation.rounds=8", "run.seed=8"], {"run.seed": 9, "run.backend": None})
    changed = flatten(config).items() - flatten(Config()).items()
    assert dict(changed) == {
        "data.support": 7,
        "federation.chunk": 3,
        "federation.rounds": 8,
        "run.seed": 9,
    }


def test_flags_of_the_command_win(fedmeta: Callable[..., Result]) -> None:
    path = file('[run]\nseed = 1\nbackend = "ray"\non-client-error = "fail"\nout = "from-file"\n')
    options = ["--backend", "inline", "--on-client-error", "skip", "--device", "cpu", "--seed", "5"]
    small = sets(run__seed=2, run__backend="ray", federation__rounds=0)
    summary = fedmeta("simulate", path, *small, *options, "--out", "from-flag", "--json").json
    assert (summary["seed"], summary["backend"]) == (5, "inline")
    assert not Path("from-file").exists()
    written = tomllib.loads(Path("from-flag/config.toml").read_text(encoding="utf-8"))
    assert written["run"]["on-client-error"] == "skip"
    assert written["data"]["users"] == 60


@pytest.mark.parametrize(
    "text",
    [
        '"data.support" = 5\n"method.name" = "reptile"\n',
        'data.support = 5\nmethod.name = "reptile"\n',
        '[data]\nsupport = 5\n[method]\nname = "reptile"\n',
        '"data.support" = 5\n[method]\nname = "reptile"\n',
        'data = { support = 5 }\nmethod = { name = "reptile" }\n',
    ],
)
def test_flat_and_nested_files_mean_the_same(text: str) -> None:
    config = read(file(text))
    assert dict(flatten(config).items() - flatten(Config()).items()) == {
        "data.support": 5,
        "method.name": "reptile",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("federation.rounds=12", 12),
        ("federation.rounds = 1_000", 1000),
        ("method.rate=0.25", 0.25),
        ("method.rate=1e-3", 0.001),
        ("method.rate=2", 2.0),
        ("evaluation.tune=false", False),
        ("data.unseen-items=true", True),
        ("method.name=reptile", "reptile"),
        ('method.name="reptile"', "reptile"),
        ("method.name='reptile'", "reptile"),
        ("data.source=folder/my data.csv", "folder/my data.csv"),
        ("data.source=a=b.csv", "a=b.csv"),
        ("evaluation.shots=0,5", "0,5"),
        ("evaluation.shots=5", "5"),  # a key that takes a text, though this is a TOML number
        ("run.name=2024-05-01", "2024-05-01"),
        ("data.split-column=", ""),
        ("data.split-column=''", ""),
        ("data.seed=-3", -3),
    ],
)
def test_set(text: str, value: object) -> None:
    key = text.partition("=")[0].strip()
    found = flatten(read(None, [text]))[key]
    assert found == value
    assert type(found) is type(value)


def test_the_last_set_wins() -> None:
    assert read(None, ["run.seed=1", "run.seed=2"]).run.seed == 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("federation.rounds", ["--set 'federation.rounds'", "key=value"]),
        ("federation.round=3", ["'federation.round'", "did you mean 'federation.rounds'"]),
        ("data.min_examples=3", ["'data.min_examples'", "did you mean 'data.min-examples'"]),
        ("rounds=3", ["unknown config key 'rounds'"]),
        ("federation=3", ["unknown config key 'federation'"]),
        ("federation.rounds.x=3", ["unknown config key 'federation.rounds.x'"]),
        ("federation.rounds=-1", ["federation.rounds = -1", "greater than or equal to 0"]),
        ("federation.rounds=2.5", ["federation.rounds = 2.5", "integer"]),
        ("federation.rounds=many", ["federation.rounds = 'many'", "integer"]),
        ("federation.rounds=true", ["federation.rounds = True", "integer"]),
        ("method.rate=nan", ["method.rate = nan", "number"]),
        ("data.alpha=inf", ["data.alpha = inf", "finite"]),
        ("data.alpha=0.0", ["data.alpha = 0.0", "greater than 0"]),
        ("data.heterogeneity=1.5", ["data.heterogeneity = 1.5", "less than or equal to 1"]),
        ("evaluation.tune=1", ["evaluation.tune = 1", "boolean"]),
        ("head.name=transformer", ["head.name = 'transformer'", "'gru' or 'encoder'"]),
        ("run.backend=threads", ["run.backend = 'threads'", "'ray' or 'inline'"]),
        ("data.support=[1, 2]", ["data.support = [1, 2]", "integer"]),
        ("data.support={a = 1}", ["unknown config key 'data.support.a'"]),
    ],
)
def test_bad_set(text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(None, [text])
    for part in parts:
        assert part in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    path = file("[data]\nsupport = 0\nsuport = 3\n[head]\nname = 3\n")
    with pytest.raises(ConfigError) as caught:
        read(path)
    for part in ("data.support = 0", "'data.suport'; did you mean 'data.support'", "head.name = 3"):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"[data\n", b"a = \n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_malformed_file(content: bytes, fedmeta: Callable[..., Result]) -> None:
    Path("broken.toml").write_bytes(content)
    result = fedmeta("simulate", "broken.toml")
    assert result.code == 2
    assert result.err.startswith("error: config file 'broken.toml' cannot be read as TOML")
    assert "Traceback" not in result.err


def test_missing_file(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("simulate", "nowhere.toml")
    assert (result.code, result.out) == (2, "")
    assert "'nowhere.toml'" in result.err
    folder = fedmeta("compare", ".")
    assert folder.code == 2
    assert "Traceback" not in folder.err
