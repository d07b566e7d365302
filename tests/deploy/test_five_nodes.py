"""Five real nodes over gRPC with TLS and keys: the simulation's numbers, and who is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from experiments.deploy import certificates, server
from experiments.deploy.layout import Deployment
from experiments.running import simulate
from fedmeta.config import Config
from tests.deploy import raw, worlds

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by way of /proc"),
]


class World(NamedTuple):
    """Nodes that are online, and a run that is over."""

    folder: Path
    deployment: Deployment
    config: Config
    summary: dict[str, object]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("five")
    with worlds.running(folder) as (deployment, config):
        plan, number = worlds.begun(deployment, config, "first")
        yield World(folder, deployment, config, worlds.ended(deployment, plan, number))


def test_the_simulation_of_the_same_users_has_the_same_weights(world: World) -> None:
    table = worlds.alone(world.folder)
    data = world.config.data.model_copy(update={"source": str(table)})
    chunk = world.config.federation.model_copy(update={"chunk": 1})
    same = world.config.model_copy(update={"data": data, "federation": chunk})
    found = simulate(same, world.folder / "inline").summary
    assert world.summary["weights_sha256"] == found["weights_sha256"]
    for split in ("valid", "test"):
        assert world.summary[split] == found[split]
    other = same.model_copy(update={"run": same.run.model_copy(update={"seed": 1})})
    assert (
        simulate(other, world.folder / "other").summary["weights_sha256"]
        != (found["weights_sha256"])
    )


def test_nothing_of_the_data_is_on_the_server(world: World) -> None:
    words = worlds.alone(world.folder).read_text().splitlines()[1].split(",")
    text = next(word for word in words if len(word) > 20)
    for place in ("server", "runs", "flwr", "app"):
        for path in (world.deployment.folder / place).rglob("*"):
            if path.is_file():
                assert text.encode() not in path.read_bytes(), path


class Stranger(NamedTuple):
    """What a client that is not let in tries, and what it is told."""

    address: str
    root: bytes
    known: ec.EllipticCurvePrivateKey
    nodes: dict[str, int]


@pytest.fixture
def stranger(world: World) -> Stranger:
    deployment = world.deployment
    return Stranger(
        deployment.fleet,
        deployment.ca.read_bytes(),
        certificates.load_key(deployment.key("ann")),
        {name: one.node for name, one in server.registered(deployment).items()},
    )


def _activate(key: ec.EllipticCurvePrivateKey) -> ActivateNodeRequest:
    public = public_key_to_bytes(key.public_key())
    return ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)


def _pull(node: int) -> PullMessagesRequest:
    return PullMessagesRequest(node=Node(node_id=node))


def test_who_is_who_he_says_is_let_in(stranger: Stranger) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known)
    fleet.PullMessages(_pull(stranger.nodes["ann"]), timeout=20)


def test_plaintext_is_refused(stranger: Stranger) -> None:
    with pytest.raises(grpc.RpcError) as found:
        raw.fleet(stranger.address, None, stranger.known).PullMessages(
            _pull(stranger.nodes["ann"]), timeout=20
        )
    assert found.value.code() == grpc.StatusCode.UNAVAILABLE


def test_another_ca_is_refused(stranger: Stranger, tmp_path: Path) -> None:
    certificates.make_ca(tmp_path)
    other = (tmp_path / "ca.crt").read_bytes()
    with pytest.raises(grpc.RpcError) as found:
        raw.fleet(stranger.address, other, stranger.known).PullMessages(
            _pull(stranger.nodes["ann"]), timeout=20
        )
    assert found.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_key_that_is_not_registered_is_refused(stranger: Stranger) -> None:
    key = certificates.new_key()
    fleet = raw.fleet(stranger.address, stranger.root, key)
    for request, call in ((_activate(key), fleet.ActivateNode), (_pull(1), fleet.PullMessages)):
        with pytest.raises(grpc.RpcError):
            call(request, timeout=20)


@pytest.mark.parametrize("late", [310.0, -60.0])
def test_a_clock_that_is_off_is_refused(stranger: Stranger, late: float) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known, late=late)
    with pytest.raises(grpc.RpcError) as found:
        fleet.PullMessages(_pull(stranger.nodes["ann"]), timeout=20)
    assert found.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "timestamp" in found.value.details()


def test_the_key_of_another_node_is_refused(stranger: Stranger) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known)
    with pytest.raises(grpc.RpcError) as found:
        fleet.PullMessages(_pull(stranger.nodes["ben"]), timeout=20)
    assert found.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_request_without_a_signature_is_refused(stranger: Stranger) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known, signed=False)
    with pytest.raises(grpc.RpcError) as found:
        fleet.PullMessages(_pull(stranger.nodes["ann"]), timeout=20)
    assert found.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_key_that_is_online_cannot_be_used_twice(stranger: Stranger) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known)
    with pytest.raises(grpc.RpcError) as found:
        fleet.ActivateNode(_activate(stranger.known), timeout=20)
    assert "2004" in found.value.details()


def test_a_run_that_is_unknown_is_refused(stranger: Stranger) -> None:
    fleet = raw.fleet(stranger.address, stranger.root, stranger.known)
    with pytest.raises(grpc.RpcError):
        fleet.GetRun(GetRunRequest(node=Node(node_id=stranger.nodes["ann"]), run_id=1), timeout=20)
