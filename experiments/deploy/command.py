"""``fedmeta deploy``: the commands of an operator, and of the owner of a node."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.options import AsJson, Seed, Sets, config_of, show

app = typer.Typer(
    no_args_is_help=True,
    help="Real clients over gRPC: certificates and keys, server, nodes, runs.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the deployment.")]
Name = Annotated[str, typer.Option(help="Name of the node.")]
Key = Annotated[Path | None, typer.Option(help="The node's public key; none: a pair is made here.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="A name or address of the server; the first is what nodes use."),
]
Days = Annotated[int, typer.Option(help="Days for which the server's certificate is good.")]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Do not go to the background: systemd, containers.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="No TLS, no keys: for tries alone.")]
WARNING = (
    "warning: this deployment is INSECURE: whoever reaches the port may pass for a node, and read"
    " and change what is sent"
)


def tell(line: str) -> None:
    """A line for the operator, on standard error."""
    typer.echo(line, err=True)


@app.command()
def init(
    folder: Folder,
    host: Hosts = None,
    nodes: Annotated[str, typer.Option(help="Comma-separated names of nodes.")] = "",
    listen: Annotated[
        str, typer.Option(help="Address on which nodes are taken; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    fleet_port: Annotated[int, typer.Option(help="Port of the nodes.")] = 9092,
    control_port: Annotated[int, typer.Option(help="Port of the operator, on loopback.")] = 8000,
    days: Days = 365,
    insecure: Insecure = False,
) -> None:
    """Make a deployment: a CA, the server's certificate, keys of nodes, config files."""
    from experiments.deploy import layout, setup

    names = tuple(sorted(name.strip() for name in nodes.split(",") if name.strip()))
    made = layout.Deployment(
        folder.expanduser().absolute(),
        tuple(host or ["127.0.0.1"]),
        listen,
        fleet_port,
        control_port,
        insecure,
        names,
    )
    setup.init(made, days)
    if insecure:
        tell(WARNING)
    tell(f"made {made.folder}; keep ca/ca.key safe, and give nodes deployment.toml and ca/ca.crt")


@app.command()
def key(folder: Folder, name: Name) -> None:
    """On a node's machine: make its pair of keys; the public one goes to the server."""
    from experiments.deploy import setup

    typer.echo(str(setup.make_key(folder, name)))


@app.command()
def add(folder: Folder, name: Name, key: Key = None) -> None:
    """On the server: let one more node in."""
    from experiments.deploy import layout, setup

    _registered(setup.add(layout.read(folder), name, key))


@app.command()
def remove(folder: Folder, name: Name) -> None:
    """On the server: let a node in no more. What it has in its own folder stays there."""
    from experiments.deploy import layout, setup

    _registered(setup.remove(layout.read(folder), name))


@app.command()
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
    _registered(found)


@app.command()
def server(folder: Folder, foreground: Foreground = False) -> None:
    """Start the SuperLink, and tell it of the nodes."""
    from experiments.deploy import layout
    from experiments.deploy import server as superlink

    found = layout.read(folder)
    if found.insecure:
        tell(WARNING)
    if foreground:
        superlink.run(found, tell)
    started = superlink.start(found, tell)
    superlink.register(found, tell)
    tell(f"SuperLink runs as process {started.pid}; log: {started.log}")


@app.command()
def register(folder: Folder) -> None:
    """Tell a SuperLink that was started in the foreground of the nodes."""
    from experiments.deploy import layout

    _registered(layout.read(folder))


@app.command()
def node(
    folder: Folder,
    name: Name,
    data: Annotated[Path, typer.Option(help="The user's own examples: a file, or its folder.")],
    own: Annotated[
        Path | None, typer.Option("--folder", help="The node's own folder; DIR/nodes/NAME.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of its own processes; 0: a free one.")] = 0,
    foreground: Foreground = False,
) -> None:
    """Start a node: one user, his data, his rules."""
    from experiments.deploy import layout
    from experiments.deploy import node as supernode

    found = layout.read(folder)
    if found.insecure:
        tell(WARNING)
    here = supernode.place(found, name, data, own, port)
    if foreground:
        supernode.run(found, here, tell)
        return
    started = supernode.start(found, here, tell)
    tell(f"node {name} runs as process {started.pid}; log: {started.log}")


@app.command()
def run(
    folder: Folder,
    config: Annotated[Path | None, typer.Argument(help="TOML file; none: the default.")] = None,
    facts: Annotated[
        Path | None, typer.Option(help="Public facts of the data (JSON); DIR/facts.json.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "",
    sets: Sets = None,
    seed: Seed = None,
    resume: Annotated[str, typer.Option(help="Name of a run that was left: go on.")] = "",
    as_json: AsJson = False,
) -> None:
    """Run a config on the nodes, and wait for its end. Ctrl-C leaves it running."""
    from experiments.deploy import layout, running

    found = layout.read(folder)
    if found.insecure:
        tell(WARNING)
    wanted = None if resume else config_of(config, sets, seed, None, None)
    ready = running.ready(found, wanted, facts, name, resume)
    content, table = running.run(found, ready, tell, quiet=as_json)
    if as_json:
        show(content, None, as_json=True)
    else:
        typer.echo(table)


@app.command()
def facts(
    folder: Folder,
    config: Annotated[Path | None, typer.Argument(help="TOML file; none: the default.")] = None,
    sets: Sets = None,
) -> None:
    """Write DIR/facts.json from public data of the same kind as that of the nodes."""
    from experiments.deploy import layout, running

    path = running.write_facts(layout.read(folder), config_of(config, sets, None, None, None))
    typer.echo(str(path))


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """What runs: server, nodes, runs. Exit code 1 if something of this machine does not."""
    from experiments.deploy import layout
    from experiments.deploy import status as state

    found = state.look(layout.read(folder))
    show(found, state.table(found), as_json)
    if not state.well(found):
        raise typer.Exit(1)


@app.command()
def stop(
    folder: Folder,
    name: Annotated[str, typer.Option(help="One node; none: all of this machine.")] = "",
) -> None:
    """End what was started here: one node, or all nodes and then the SuperLink."""
    from experiments.deploy import layout, processes

    found = layout.read(folder)
    there = processes.every(found.folder)
    wanted = [one for one in there if not name or one.part == f"node-{name}"]
    processes.stop_all(found.folder, wanted)
    tell(f"ended {', '.join(one.part for one in wanted) or 'nothing: nothing runs'}")


@app.command()
def demo(
    nodes: Annotated[int, typer.Option(min=3, help="Nodes, one user each.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    sets: Sets = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder to keep; none: a temporary one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See it: a server and nodes with TLS and keys on this machine, a small run, and all ended."""
    from experiments.deploy import demo as shown

    content, table = shown.demo(nodes, rounds, sets or [], keep, tell)
    if as_json:
        show(content, None, as_json=True)
    else:
        typer.echo(table)


def _registered(deployment: object) -> None:
    """Tell the SuperLink, if it runs, of the nodes as they are now."""
    from experiments.deploy import processes
    from experiments.deploy import server as superlink
    from experiments.deploy.layout import Deployment

    if not isinstance(deployment, Deployment):  # pragma: no cover - for the type checker
        raise TypeError
    if processes.listens("127.0.0.1", deployment.control_port):
        superlink.register(deployment, tell)
    else:
        tell("the SuperLink does not run: it is told when it is started")
