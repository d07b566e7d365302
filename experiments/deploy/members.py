"""The commands that say who belongs to a deployment: keys, nodes, the server's certificate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from experiments.deploy.layout import Deployment

Folder = Annotated[Path, typer.Argument(help="Folder of the deployment.")]
Name = Annotated[str, typer.Option(help="Name of the node.")]
Key = Annotated[Path | None, typer.Option(help="The node's public key; none: a pair is made here.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="A name or address of the server; the first is what nodes use."),
]
Days = Annotated[int, typer.Option(help="Days for which the server's certificate is good.")]


def tell(line: str) -> None:
    """A line for the operator, on standard error."""
    typer.echo(line, err=True)


def key(folder: Folder, name: Name) -> None:
    """On a node's machine: make its pair of keys; the public one goes to the server."""
    from experiments.deploy import setup

    typer.echo(str(setup.make_key(folder, name)))


def add(folder: Folder, name: Name, key: Key = None) -> None:
    """On the server: let one more node in."""
    from experiments.deploy import layout, setup

    _tell_link(setup.add(layout.read(folder), name, key))


def remove(folder: Folder, name: Name) -> None:
    """On the server: let a node in no more. What it has in its own folder stays there."""
    from experiments.deploy import layout, setup

    _tell_link(setup.remove(layout.read(folder), name))


def rotate(
    folder: Folder,
    name: Annotated[str, typer.Option(help="A node, which gets another key.")] = "",
    key: Key = None,
    server: Annotated[bool, typer.Option("--server", help="The server's certificate.")] = False,
    host: Hosts = None,
    days: Days = 365,
) -> None:
    """Give a node another key, or the server another certificate."""
    from experiments.deploy import layout, setup
    from experiments.deploy.errors import DeployError

    found = layout.read(folder)
    if bool(name) == server:
        raise DeployError("name what to rotate: --name NODE, or --server")
    if server:
        more = found._replace(
            hosts=(*found.hosts, *(h for h in host or () if h not in found.hosts))
        )
        setup.rotate_server(more, days)
        layout.write(more)
        tell("the server has a new certificate; start it again to use it")
        return
    setup.rotate_node(found, name, key)
    _tell_link(found)


def register(folder: Folder) -> None:
    """Tell a SuperLink that was started in the foreground of the nodes."""
    from experiments.deploy import layout

    _tell_link(layout.read(folder))


def _tell_link(deployment: "Deployment") -> None:
    """Tell the SuperLink, if it runs, of the nodes as they are now."""
    from experiments.deploy import processes
    from experiments.deploy import server as superlink

    if processes.listens("127.0.0.1", deployment.control_port):
        superlink.register(deployment, tell)
    else:
        tell("the SuperLink does not run: it is told when it is started")
