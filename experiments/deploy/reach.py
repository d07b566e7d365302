"""Whether a node can reach its server, and whether that is the server it should be."""

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from experiments.deploy import certificates
from experiments.deploy.errors import DeployError
from experiments.deploy.layout import Deployment

PATIENCE = 5.0


def check(deployment: Deployment, tell: Callable[[str], None]) -> None:
    """Shake hands with the server as the node will; an absent one is only told of, it may come.

    Raises:
        DeployError: somebody is there, and it is not the server that the CA vouches for.
    """
    host, port = deployment.hosts[0], deployment.fleet_port
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as connection:
            if not deployment.insecure:
                _shake_hands(deployment, connection, host)
    except DeployError:
        raise
    except socket.gaierror as error:
        raise DeployError(
            f"the server's name {host!r} is not known here ({error.strerror}); put right hosts in"
            f" {str(deployment.folder / 'deployment.toml')!r}"
        ) from None
    except OSError as error:
        tell(f"no server at {host}:{port} yet ({error}); the node waits for it")


def _shake_hands(deployment: Deployment, connection: socket.socket, host: str) -> None:
    context = ssl.create_default_context(cafile=str(deployment.ca))
    context.set_alpn_protocols(["h2"])
    where = f"{host}:{deployment.fleet_port}"
    try:
        with context.wrap_socket(connection, server_hostname=host):
            return
    except ssl.SSLCertVerificationError as error:
        raise DeployError(_meaning(error, where, deployment)) from None
    except ssl.SSLError as error:
        raise DeployError(
            f"{where} does not speak TLS ({error.reason}): is another program there, or was the"
            " server started with --insecure?"
        ) from None


def _meaning(error: ssl.SSLCertVerificationError, where: str, deployment: Deployment) -> str:
    said = error.verify_message
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if error.verify_code in (9, 10):  # not yet good, or past
        return (
            f"the certificate of {where} is not good now: {said}; the clock of this machine says"
            f" {now}. Set the clock right, or rotate the server's certificate"
        )
    if error.verify_code in (62, 64):  # another name, or another address
        return (
            f"the certificate of {where} is for other names: {said}; add this one on the server"
            " with `fedmeta deploy rotate DIR --server --host NAME`"
        )
    ends = certificates.read(deployment.ca).ends
    return (
        f"{where} is not the server that {str(deployment.ca)!r} vouches for: {said} (that CA is"
        f" good until {ends:%Y-%m-%d}); copy ca.crt from the server once more"
    )
