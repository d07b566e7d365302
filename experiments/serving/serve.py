"""``fedmeta serve``: the service on a socket, until it is told to stop."""

import ipaddress
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.serving.extras import need
from experiments.serving.limits import Limits
from experiments.serving.opened import open_run
from experiments.serving.personal import backbone_of
from experiments.serving.store import HeadStore
from experiments.serving.tokens import Tokens
from fedmeta.config import ConfigError

GRACE = 10
"""Seconds that requests in work have when the service is told to stop."""


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    run: Path,
    heads: Path,
    host: str,
    port: int,
    limits: Limits,
    room: int,
    ready: Callable[[str], None],
    tokens: Path | None = None,
) -> None:
    """Serve the heads in a folder until SIGINT or SIGTERM; requests in work are answered.

    Args:
        run: folder of the run.
        heads: folder of the heads.
        host: address to listen at.
        port: port; 0: any that is free.
        limits: bounds of requests.
        room: bytes of heads in memory.
        ready: told the address once requests are answered.
        tokens: file that says who may ask for whom; None: everybody for everybody.

    Raises:
        ConfigError: a run or folder that cannot be served, a port in use, packages missing.
    """
    need("serve")
    import uvicorn

    from experiments.serving.service import LOCAL, make_app

    opened = open_run(run)
    store = HeadStore(opened, heads, room)
    known = Tokens(tokens) if tokens is not None else None
    listening = _listen(host, port)
    with listening:
        if not is_local(host):
            asks = "speaks no TLS" if known else "asks nobody who he is (--tokens)"
            print(
                f"WARNING: {host} may be reached from other machines, and the service {asks}: put a"
                " proxy with TLS and authentication before it",
                file=sys.stderr,
            )
        backbone = backbone_of(opened)
        if opened.needs.modality == "text":
            backbone.encode(["a first text, which allocates what later ones use"])
        hosts = [*LOCAL, host] if is_local(host) else []
        app = make_app(opened, backbone, store, limits, hosts, known)
        bound = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host

        class Announcing(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    ready(f"http://{name}:{bound}")

        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE
        )
        # Once it has ended well, uvicorn raises the signal again that told it to.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, frame: None)
        Announcing(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at the address.

    Raises:
        ConfigError: it is taken, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(1024)
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(
            f"cannot listen at {host} port {port} ({error}); name another with --host, --port"
        ) from None
    return found
