"""The folder of a deployment: what is where, and the few settings that all commands share.

On the server::

    deployment.toml   this file's settings          app/      what `flwr run` ships
    ca/               CA key and certificate        runs/     one folder for each run
    server/           server key and certificate, the SuperLink's database, log
    keys/             public keys of nodes (private ones too, of nodes on this machine)
    nodes/NAME/       a node's own folder: policy, ledger, memory, features, log
    flwr/             Flower's own home             run/      processes that were started

On a machine of a node: ``deployment.toml``, ``ca/ca.crt``, ``keys/NAME`` and ``nodes/NAME``.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from experiments.deploy.errors import DeployError
from experiments.deploy.files import write_public

FILE = "deployment.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
FLEET_PORT, CONTROL_PORT = 9092, 8000


class Deployment(NamedTuple):
    """A deployment's folder and settings.

    Attributes:
        folder: full path.
        hosts: names and addresses by which nodes reach the server; the first is what they use.
        listen: address on which the server takes nodes.
        fleet_port: of the nodes' gRPC.
        control_port: of the operator's commands, on loopback only: who reaches it can run code.
        insecure: without TLS and authentication.
        nodes: names of the nodes, sorted.
    """

    folder: Path
    hosts: tuple[str, ...]
    listen: str = "127.0.0.1"
    fleet_port: int = FLEET_PORT
    control_port: int = CONTROL_PORT
    insecure: bool = False
    nodes: tuple[str, ...] = ()

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca" / "ca.crt"

    @property
    def server(self) -> Path:
        """Folder of the server."""
        return self.folder / "server"

    @property
    def home(self) -> Path:
        """Flower's own folder, for the server and for its command."""
        return self.folder / "flwr"

    @property
    def fleet(self) -> str:
        """Where nodes connect to."""
        return f"{_bracketed(self.hosts[0])}:{self.fleet_port}"

    def key(self, name: str) -> Path:
        """The private key of a node."""
        return self.folder / "keys" / name

    def node(self, name: str) -> Path:
        """The folder of a node."""
        return self.folder / "nodes" / name


def read(folder: Path) -> Deployment:
    """The deployment in a folder.

    Raises:
        DeployError: there is none, or its file cannot be understood.
    """
    folder = folder.expanduser().absolute()
    path = folder / FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DeployError(
            f"no {FILE} in {str(folder)!r}: make a deployment with `fedmeta deploy init {folder}`,"
            " or copy the server's file there"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeployError(f"{str(path)!r} cannot be read as TOML: {error}") from None
    known = set(Deployment._fields) - {"folder"}
    fields = {key.replace("-", "_"): value for key, value in content.items()}
    if unknown := sorted(set(fields) - known):
        raise DeployError(f"{str(path)!r} has unknown keys {', '.join(unknown)}")
    return checked(Deployment(folder, **_typed(path, fields)))


def write(deployment: Deployment) -> None:
    """Write ``deployment.toml``; it holds no secret, and nodes need a copy."""
    fields: dict[str, Any] = checked(deployment)._asdict()
    del fields["folder"]
    content = {key.replace("_", "-"): value for key, value in fields.items()}
    content |= {"hosts": list(deployment.hosts), "nodes": sorted(deployment.nodes)}
    write_public(deployment.folder / FILE, tomli_w.dumps(content).encode())


def checked(deployment: Deployment) -> Deployment:
    """The deployment, if its settings can work.

    Raises:
        DeployError: the first that cannot, with the rule.
    """
    if not deployment.hosts or not all(deployment.hosts):
        raise DeployError("hosts is empty: name at least one by which nodes reach the server")
    for name in ("fleet_port", "control_port"):
        port = getattr(deployment, name)
        if not 1 <= port <= 65535:
            raise DeployError(f"{name.replace('_', '-')} = {port}: expected 1 to 65535")
    if deployment.fleet_port == deployment.control_port:
        raise DeployError(f"fleet-port and control-port are both {deployment.fleet_port}")
    check_names(deployment.nodes)
    return deployment


def check_names(names: Sequence[str]) -> None:
    """Refuse names of nodes that are no good as names of files and of users.

    Raises:
        DeployError: the first, and the rule.
    """
    for name in names:
        if not NAME.fullmatch(name):
            raise DeployError(
                f"node name {name!r}: expected 1 to 63 letters, digits, '.', '_' or '-', a letter"
                " or digit first"
            )
    if len(set(names)) < len(names):
        raise DeployError(f"node names {', '.join(names)} are not all different")


def _typed(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, type] = {
        "hosts": list, "nodes": list, "listen": str, "fleet_port": int, "control_port": int,
        "insecure": bool,
    }  # fmt: skip
    for key, value in fields.items():
        if type(value) is not kinds[key]:
            raise DeployError(f"{str(path)!r}: {key} = {value!r}; expected {kinds[key].__name__}")
    if "hosts" not in fields:
        raise DeployError(f"{str(path)!r} names no hosts")
    return {k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in fields.items()}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
