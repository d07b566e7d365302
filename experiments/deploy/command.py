"""``fedmeta deploy``: the commands of an operator, and of the owner of a node."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.deploy import members
from experiments.deploy.members import Days, Folder, Hosts, Name, tell
from experiments.options import AsJson, Seed, Sets, config_of, show

app = typer.Typer(
    no_args_is_help=True,
    help="Real clients over gRPC: certificates and keys, server, nodes, runs.",
)

Foreground = Annotated[
    bool, typer.Option("--foreground", help="Do not go to the background: systemd, containers.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="No TLS, no keys: for tries alone.")]
WARNING = (
    "warning: this deployment is INSECURE: whoever reaches the port may pass for a node, and read"
    " and change what is sent"
)


for command in (members.key, members.add, members.remove, members.rotate, members.register):
    app.command()(command)


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
