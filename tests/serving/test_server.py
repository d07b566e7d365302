"""The command on a socket of this machine: answers as `predict` does, and ends when told."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from experiments.serving import personal
from experiments.serving.heads import Head
from tests.experiments.runs import Result
from tests.serving.worlds import World

Command = Callable[..., Result]


@contextmanager
def service(*args: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`fedmeta serve` in a process of its own, and somebody who talks to it."""
    command = [sys.executable, "-c", "from experiments.cli import main; main()", "serve"]
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [*command, *map(str, args), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["listening"]
        with httpx.Client(base_url=address, timeout=60) as asking:
            yield process, asking
    finally:
        process.kill()
        process.communicate()


def test_serve(maml: World, ann: Path, anns: Head) -> None:
    backbone = personal.backbone_of(maml.opened)
    said = personal.predict(maml.opened, backbone, anns, maml.items)
    with service(maml.opened.folder, "--heads", ann.parent) as (process, asking):
        assert asking.base_url.host == "127.0.0.1"
        assert asking.get("/healthz").json()["method"] == "maml"
        body = {"user": "ann", "texts": maml.items}
        found = asking.post("/v1/predict", json=body).json()["predictions"]
        for one, other in zip(found, said, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
        refused = asking.post("/v1/predict", json={"user": "../ann", "texts": ["a"]})
        assert refused.status_code == 422
        large = asking.post("/v1/predict", json={"user": "ann", "texts": ["a" * 2_000_000]})
        assert large.status_code == 413
        assert "fedmeta_requests_total" in asking.get("/metrics").text
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")


def test_what_cannot_be_served(fedmeta: Command, maml: World, ann: Path) -> None:
    run = maml.opened.folder
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        port = taken.getsockname()[1]
        for words, *args in (
            ("cannot listen at 127.0.0.1", run, "--heads", ann.parent, "--port", port),
            ("is no folder", run, "--heads", "gone"),
            ("no config.toml", ".", "--heads", ann.parent),
        ):
            found = fedmeta("serve", *args)
            assert found.code == 2, found
            assert words in found.err
