"""Making a deployment, and changing who belongs to it: keys made, added, rotated, removed."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.deploy import certificates, flower, layout, shipped
from experiments.deploy.errors import DeployError
from experiments.deploy.files import write_public
from experiments.deploy.layout import Deployment


def init(deployment: Deployment, days: int = certificates.SERVER_DAYS) -> Deployment:
    """Make the folder of a deployment: CA, certificate, keys of its nodes, config, the app.

    Args:
        deployment: as it is to be; keys are made for its nodes.
        days: for which the server's certificate is good.

    Raises:
        DeployError: there is something already, or it cannot be written.
    """
    folder = deployment.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeployError(
            f"{str(folder)!r} is not empty: name a new folder, or change the deployment there with"
            " `fedmeta deploy add`, `remove` and `rotate`"
        )
    layout.checked(deployment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeployError(f"{str(folder)!r} cannot be made: {error.strerror}") from None
    try:
        _fill(deployment, days)
    except (DeployError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)  # half of one is none; it can be made again
        if isinstance(error, DeployError):
            raise
        raise DeployError(f"{str(folder)!r} cannot be written: {error.strerror}") from None
    return deployment


def _fill(deployment: Deployment, days: int) -> None:
    folder = deployment.folder
    folder.chmod(0o700)
    if not deployment.insecure:
        certificates.make_ca(folder / "ca")
        hosts = (*deployment.hosts, deployment.listen)
        certificates.make_server(folder / "ca", deployment.server, _known(hosts), days)
        for name in deployment.nodes:
            certificates.make_node(folder / "keys", name)
    deployment.server.mkdir(exist_ok=True)
    layout.write(deployment)
    refresh(deployment)


def refresh(deployment: Deployment) -> None:
    """Write what follows from the settings and from the version: Flower's config, the app."""
    write_public(deployment.home / "config.toml", flower.connection(deployment).encode())
    shipped.write(deployment.folder / "app")


def add(deployment: Deployment, name: str, public: Path | None) -> Deployment:
    """The deployment with one more node.

    Args:
        deployment: as it was.
        name: of the node.
        public: its public key; None: a pair is made here, of which the private one must be
            brought to the node.

    Raises:
        DeployError: the name is taken, or the key is none.
    """
    if name in deployment.nodes:
        raise DeployError(
            f"there is a node {name!r}; give it another key with `fedmeta deploy rotate"
            f" {deployment.folder} --name {name}`, or choose another name"
        )
    after = layout.checked(deployment._replace(nodes=(*deployment.nodes, name)))
    _take_key(deployment, name, public)
    layout.write(after)
    return after


def rotate_node(deployment: Deployment, name: str, public: Path | None) -> None:
    """Another key for a node: the one given, or a new pair."""
    _check_known(deployment, name)
    _take_key(deployment, name, public)


def rotate_server(deployment: Deployment, days: int = certificates.SERVER_DAYS) -> None:
    """A new key and certificate for the server; the nodes know the CA, and need nothing new."""
    if deployment.insecure:
        raise DeployError("this deployment is insecure: it has no certificates")
    before = deployment.server / "server.crt"
    names = certificates.read(before).names if before.exists() else []
    hosts = _known((*names, *deployment.hosts, deployment.listen))
    certificates.make_server(deployment.folder / "ca", deployment.server, hosts, days)


def remove(deployment: Deployment, name: str) -> Deployment:
    """The deployment without a node; its public key goes, its own folder stays where it is."""
    _check_known(deployment, name)
    after = deployment._replace(nodes=tuple(n for n in deployment.nodes if n != name))
    layout.write(after)
    for path in (deployment.key(name), deployment.key(name).with_name(f"{name}.pub")):
        path.unlink(missing_ok=True)
    return after


def make_key(folder: Path, name: str) -> Path:
    """A pair of keys on the machine of a node; its public half, which goes to the server.

    Raises:
        DeployError: there is one, or the name is no good.
    """
    layout.check_names([name])
    folder = folder.expanduser().absolute()
    if (folder / "keys" / name).exists():
        raise DeployError(
            f"there is a key {str(folder / 'keys' / name)!r}; the server knows the node by it:"
            " remove it first if the node is to have another"
        )
    certificates.make_node(folder / "keys", name)
    return folder / "keys" / f"{name}.pub"


def _take_key(deployment: Deployment, name: str, public: Path | None) -> None:
    keys = deployment.folder / "keys"
    if deployment.insecure:
        return
    if public is None:
        certificates.make_node(keys, name)
        return
    certificates.check_public(public)
    keys.mkdir(exist_ok=True)
    target = keys / f"{name}.pub"
    if public.absolute() != target:
        shutil.copyfile(public, target)


def _check_known(deployment: Deployment, name: str) -> None:
    if name not in deployment.nodes:
        known = ", ".join(deployment.nodes) or "none"
        raise DeployError(f"no node {name!r} in {str(deployment.folder)!r}; there are: {known}")


def _known(hosts: Sequence[str]) -> list[str]:
    """Without the addresses that mean all of a machine, which no certificate can name."""
    return [host for host in hosts if host not in ("0.0.0.0", "::")]
