"""Trackers are told what the folder says, by their own readers; none of them ends a run."""

import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.found import Run
from experiments.running import simulate
from experiments.tracking import known
from experiments.tracking.tracker import Ended, Started
from fedmeta.config import parse
from strategies.errors import ClientError
from tests.experiments.runs import TINY, Result, rounds_of, sets, strict

GIVEN: dict[str, Any] = TINY | {"method.name": "fedavg-ft"}


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WANDB_MODE", "offline"), ("MLFLOW_ALLOW_FILE_STORE", "true")):
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def _run(folder: Path, track: str, **more: Any) -> Run:
    changed = {key.replace("__", "."): v for key, v in more.items()} | {"run.track": track}
    return simulate(parse(GIVEN | changed), folder)


def _valid(run: Run) -> dict[int, float]:
    return {one["round"]: one["valid"] for one in rounds_of(run.folder) if one["valid"] is not None}


def _scalars(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard() -> None:
    run = _run(Path("run"), "tensorboard")
    found = _scalars(run.folder / "tensorboard")
    told = {event.step: event.value for event in found.Scalars("round/valid")}
    assert told == pytest.approx(_valid(run), rel=1e-6)
    assert [event.value for event in found.Scalars("round/users")] == [8, 8, 8]
    after = run.summary["test"]["after"]["accuracy_macro"]
    assert found.Scalars("test/after/accuracy_macro")[0].value == pytest.approx(after, rel=1e-6)
    text = found.Tensors("weights_sha256/text_summary")[0].tensor_proto.string_val[0]
    assert text.decode() == run.summary["weights_sha256"]


def test_mlflow() -> None:
    from mlflow import MlflowClient

    run = _run(Path("here") / "run", "mlflow")
    client = MlflowClient(tracking_uri=Path("mlruns").absolute().as_uri())
    home: Any = client.get_experiment_by_name("fedmeta")
    (found,) = client.search_runs([home.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "run"
    history = client.get_metric_history(found.info.run_id, "round/valid")
    assert {one.step: one.value for one in history} == _valid(run)
    assert found.data.metrics["test/gain/ci95/low"] == run.summary["test"]["gain"]["ci95"][0]
    assert found.data.params["federation.users-per-round"] == "8"
    assert found.data.tags["weights_sha256"] == run.summary["weights_sha256"]
    assert found.data.tags["group"] == "here"
    assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["config.toml"]


def _records(path: Path) -> Iterator[Any]:
    """What is in an offline run: a header of 7 bytes, then LevelDB's log of protobuf records."""
    import wandb.proto.wandb_internal_pb2

    proto: Any = wandb.proto.wandb_internal_pb2
    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header in this block
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = proto.Record()
            record.ParseFromString(part)
            yield record
            part = b""


def test_wandb_offline() -> None:
    run = _run(Path("run"), "wandb")
    (path,) = run.folder.glob("wandb/offline-run-*/*.wandb")
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for record in _records(path):
        if record.HasField("history"):
            rows.append(_items(record.history.item) | {"_step": record.history.step.num})
        elif record.HasField("summary"):
            summary |= _items(record.summary.update)
        elif record.HasField("run"):
            assert record.run.project == "fedmeta"
            settings |= _items(record.run.config.update)
    told = {row["_step"]: row["round/valid"] for row in rows if "round/valid" in row}
    assert told == pytest.approx(_valid(run))
    assert summary["weights_sha256"] == run.summary["weights_sha256"]
    assert summary["test/hurt_share"] == pytest.approx(run.summary["test"]["hurt_share"])
    assert settings["federation.rounds"] == 3
    users = run.users["user"].unique()
    assert not any(str(user).encode() in path.read_bytes() for user in users)


def _items(items: Any) -> dict[str, Any]:
    return {i.key or "/".join(i.nested_key): strict(i.value_json) for i in items}


def test_nothing_changes_and_a_resumed_run_is_told_whole(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _run(Path("plain"), "")
    assert not list(plain.folder.glob("tensorboard"))
    from experiments import artifacts

    class StopError(Exception):
        pass

    def stop(folder: Path, event: Any) -> None:
        before(folder, event)
        if event.round == 2:
            raise StopError

    before = artifacts.append_round
    changed = {"run__checkpoint-every": 1, "method__name": "lg-fedavg"}
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "append_round", stop)
        with pytest.raises(StopError):
            _run(Path("left"), "tensorboard", **changed)
    done = fedmeta("simulate", "--resume", "left", "--json").json
    whole = _run(Path("whole"), "tensorboard", **changed)
    assert done["weights_sha256"] == whole.summary["weights_sha256"]
    told = [
        [(event.step, event.value) for event in _scalars(home / "tensorboard").Scalars(tag)]
        for tag in ("round/valid", "round/users")
        for home in (Path("left"), Path("whole"))
    ]
    assert told[0] == told[1]
    assert told[2] == told[3]
    assert len(told[2]) == 3
    again = _run(Path("again"), "tensorboard")
    assert again.summary["weights_sha256"] == plain.summary["weights_sha256"]


class Broken:
    """Fails at what it is told to fail at, and remembers what it was told."""

    def __init__(self, fails: str, started: Started) -> None:
        self.fails, self.calls = fails, list[str]()
        LAST.append(self)
        self._call("open")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise RuntimeError(f"the {name} went\nwrong")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._call("log")

    def result(self, ended: Ended) -> None:
        self._call("result")

    def close(self, finished: bool) -> None:
        self._call(f"close {finished}")


LAST: list[Broken] = []


def _broken(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    kind = known.Kind(lambda started: Broken(fails, started), "sys")
    monkeypatch.setitem(known.TRACKERS, "broken", kind)


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("open", ["open"]),
        ("log", ["open", "log"]),
        ("result", ["open", "log", "log", "log", "result"]),
        ("close True", ["open", "log", "log", "log", "result", "close True"]),
    ],
)
def test_a_tracker_that_fails_ends_no_run(
    fails: str,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _broken(monkeypatch, fails)
    with caplog.at_level(logging.WARNING):
        run = _run(Path("run"), "broken,tensorboard")
    assert LAST[-1].calls == calls
    (note,) = [note for note in run.summary["notes"] if "broken" in note]
    assert f"the {fails} went wrong" in note
    assert note in caplog.messages
    assert note in strict((run.folder / "summary.json").read_text())["notes"]
    assert len(_scalars(run.folder / "tensorboard").Scalars("round/users")) == 3


def test_a_run_that_fails_is_told_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    _broken(monkeypatch, "")

    def fail(*_: object) -> None:
        raise ClientError("no client")

    monkeypatch.setattr("experiments.running.summarize", fail)
    with pytest.raises(ClientError):
        _run(Path("run"), "broken")
    assert LAST[-1].calls[-1] == "close False"


def test_bad_names_and_missing_packages(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = fedmeta("simulate", *sets(run__track="tensorbord"))
    assert said.code == 2
    assert "run.track = 'tensorbord': expected some of tensorboard, mlflow, wandb" in said.err
    for package in ("tensorboard", "mlflow"):
        monkeypatch.setattr(known, "find_spec", lambda name, gone=package: name != gone or None)
        said = fedmeta("compare", *sets(run__track=package))
        assert said.code == 2
        assert f"{package} is not installed; run `pip install 'fedmeta[tracking]'`" in said.err
    assert not Path("runs").exists()


def test_nobody_logged_in(
    fedmeta: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    said = fedmeta("simulate", *sets(run__track="wandb"))
    assert said.code == 2
    assert "run `wandb login`, or set WANDB_MODE=offline" in said.err
    assert not Path("runs").exists()
