"""What cannot be run is refused with one clear line and exit code 2, and nothing is left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.rows import feature_rows, text_rows, with_column, write
from tests.experiments.runs import Result, rounds_of, sets, summary_of

Call = Callable[..., Result]


def refused(result: Result, *parts: str) -> None:
    """One line that says all the parts, and neither a traceback nor a folder."""
    assert result.code == 2, result
    assert result.out == ""
    lines = [line for line in result.err.splitlines() if not line.startswith("encoding texts")]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert not Path("out").exists()
    assert not Path("runs").exists()


def simulate(fedmeta: Call, *more: str, **values: Any) -> Result:
    return fedmeta("simulate", *sets(**values), "--out", "out", *more)


def on(fedmeta: Call, path: Path | str, **values: Any) -> Result:
    given = {"data__source": str(path), "backbone__name": "auto", "data__support": 2, **values}
    return simulate(fedmeta, **given)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"federation__round": 3}, ["'federation.round'", "did you mean 'federation.rounds'"]),
        ({"federation__rounds": -1}, ["federation.rounds = -1", "greater than or equal to 0"]),
        ({"method__name": "mamml"}, ["method.name = 'mamml'", "maml", "reptile"]),
        ({"head__name": "deep"}, ["head.name = 'deep'", "'gru' or 'encoder'"]),
        ({"backbone__name": "bert"}, ["'bert'"]),
        ({"backbone__name": "identity"}, ["identity", "hashing"]),
        ({"backbone__name": "nobody/no-such-model"}, ["nobody/no-such-model", "online"]),
        ({"backbone__name": "./nowhere"}, ["./nowhere", "folder"]),
        ({"data__source": "prefs"}, ["'prefs'", "preferences"]),
        ({"data__source": "nowhere.csv"}, ["nowhere.csv", "check the path"]),
        ({"data__support": 5000}, ["a user needs 5001 different messages", "data.support"]),
        ({"evaluation__shots": "1;2"}, ["evaluation.shots = '1;2'", "comma-separated"]),
        ({"evaluation__shots": "1,-2"}, ["evaluation.shots = '1,-2'", "negative"]),
        ({"run__device": "cude"}, ["run.device = 'cude'", "cpu, cuda or cuda:N"]),
        ({"run__device": "cuda:x"}, ["run.device = 'cuda:x'", "cpu, cuda or cuda:N"]),
        ({"run__device": "cuda:99"}, ["run.device = 'cuda:99'", "CUDA devices"]),
    ],
)
def test_settings(fedmeta: Call, values: dict[str, Any], parts: list[str]) -> None:
    refused(simulate(fedmeta, **values), *parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda(fedmeta: Call) -> None:
    began = time.monotonic()
    refused(simulate(fedmeta, "--device", "cuda"), "run.device = 'cuda'", "0 CUDA devices")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "more", [["--on-client-error", "maybe"], ["--backend", "threads"], ["--set", "run.seed"]]
)
def test_flags(fedmeta: Call, more: list[str]) -> None:
    refused(simulate(fedmeta, *more), more[-1])


@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_more_workers_than_cpus(fedmeta: Call, command: str) -> None:
    many = (os.cpu_count() or 1) + 1
    given = sets(run__backend="ray", run__workers=many)
    began = time.monotonic()
    refused(fedmeta(command, *given, "--out", "out"), f"run.workers = {many}", "CPUs")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--methods", "maml,nonsense"], ["'maml,nonsense'", "reptile"]),
        (["--methods", ","], ["--methods"]),
        (["--seeds", "0"], ["--seeds 0"]),
    ],
)
def test_compare(fedmeta: Call, options: list[str], parts: list[str]) -> None:
    refused(fedmeta("compare", *sets(), *options, "--out", "out"), *parts)


@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_output_folder_in_use(fedmeta: Call, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before any data is read, and what is in it stays."""

    def never(*_: object) -> None:
        raise AssertionError("data was read first")

    monkeypatch.setattr("experiments.running.build", never)
    Path("mine").mkdir()
    Path("mine/summary.json").write_text("precious", encoding="utf-8")
    Path("file").write_text("precious", encoding="utf-8")
    for out, part in (("mine", "not empty"), ("file", "is a file")):
        refused(fedmeta(command, *sets(), "--out", out), repr(out), part, "--out")
        refused(fedmeta(command, *sets(run__out=out)), repr(out), part)
    assert [p.read_text() for p in (Path("mine/summary.json"), Path("file"))] == ["precious"] * 2
    assert len(list(Path("mine").iterdir())) == 1


def test_empty_output_folder_is_taken(fedmeta: Call) -> None:
    Path("empty").mkdir()
    assert fedmeta("simulate", *sets(federation__rounds=1), "--out", "empty").code == 0
    assert len(rounds_of(Path("empty"))) == 1


def test_output_folder_that_cannot_be_made(fedmeta: Call) -> None:
    Path("file").touch()
    result = fedmeta("simulate", *sets(), "--out", "file/below")
    refused(result, "'file/below'", "cannot be used")


def test_missing_column(fedmeta: Call) -> None:
    path = write(Path("data.csv"), feature_rows())
    refused(
        on(fedmeta, path, data__label_column="lable"),
        "'lable'", "columns found: user, a, b, label", "did you mean 'label'",
    )  # fmt: skip
    refused(on(fedmeta, path, data__user_column="who"), "'who'", "columns found")


def test_a_split_without_users(fedmeta: Call) -> None:
    rows = with_column(feature_rows(), "split", lambda i: "train" if i < 60 else "test")
    refused(on(fedmeta, write(Path("data.csv"), rows)), "no valid", "'split'")


def test_one_class_only(fedmeta: Call) -> None:
    rows = [{**row, "label": 1} for row in feature_rows()]
    refused(on(fedmeta, write(Path("data.csv"), rows)), "one class only (1)")


def test_labels_never_seen_in_training(fedmeta: Call) -> None:
    rows = [
        {**row, "label": "odd" if number >= 102 and number % 2 else row["label"]}
        for number, row in enumerate(
            with_column(feature_rows(), "split", lambda i: ["train", "valid", "test"][i // 42])
        )
    ]
    refused(on(fedmeta, write(Path("data.csv"), rows)), "labels in test never seen in train", "odd")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_features_that_are_not_finite(fedmeta: Call, bad: float) -> None:
    features = np.zeros((90, 2))
    features[33, 1] = bad
    user, label = np.arange(90) // 6, np.arange(90) % 2
    np.savez("data.npz", X=features, y=label, user=user)
    refused(on(fedmeta, "data.npz"), "row 34", "finite")


def test_text_file_that_is_no_table(fedmeta: Call) -> None:
    Path("data.jsonl").write_text('{"user": "a"\n', encoding="utf-8")
    refused(on(fedmeta, "data.jsonl"), "data.jsonl, line 1", "JSON")
    Path("data.npz").write_text("no archive", encoding="utf-8")
    refused(on(fedmeta, "data.npz"), "data.npz")
    Path("empty.csv").touch()
    refused(on(fedmeta, "empty.csv"), "empty.csv", "empty")


def test_users_with_too_few_examples(fedmeta: Call) -> None:
    """They are dropped and counted; without any left it is an error."""
    rows = text_rows(20, 6) + text_rows(24, 2)[:8]  # u20 to u23 have two each
    path = write(Path("data.csv"), rows)
    refused(on(fedmeta, path, data__support=6), "fewer than 7 examples", "data.support (now 6)")
    result = on(fedmeta, path, backbone__name="hashing", federation__users_per_round=4)
    assert result.code == 0, result.err
    summary = summary_of(Path("out"))
    assert sum(summary["users"].values()) == 20
    assert summary["dropped"] == {"users with fewer than 3 examples": 4}


def test_encoder_that_is_not_installed(fedmeta: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmeta.backbones.models.MINILM_PACKAGE", "no_such_package")
    refused(simulate(fedmeta, backbone__name="minilm"), "MiniLM", "pip install 'fedmeta[offline]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--no-such-option"],
        ["simulate", "--seed", "many"],
        ["simulate", "a.toml", "b.toml"],
        ["no-such-command"],
        ["list"],
        ["inspect"],
    ],
)
def test_usage(fedmeta: Call, arguments: list[str]) -> None:
    result = fedmeta(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [["list", "everything"], ["inspect", "nowhere.csv"]])
def test_other_commands(fedmeta: Call, arguments: list[str]) -> None:
    refused(fedmeta(*arguments), arguments[-1])
    refused(fedmeta(*arguments, "--json"), arguments[-1])


def test_debug_shows_the_traceback(fedmeta: Call) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.csv"):
        fedmeta("--debug", "inspect", "nowhere.csv")


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The exit code and the one line are what a shell sees, too."""
    done = subprocess.run(
        [sys.executable, "-c", "from experiments.cli import main; main()", "list", "everything"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    refused(Result(done.returncode, done.stdout, done.stderr), "'everything'", "backbones")
