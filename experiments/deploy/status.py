"""What of a deployment runs, as this machine and the SuperLink see it."""

from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from experiments.deploy import certificates, link, processes, server
from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.layout import Deployment


def look(deployment: Deployment) -> dict[str, Any]:
    """All that can be seen: processes of this machine, nodes, runs, days of the certificate."""
    there = {one.part: one for one in processes.every(deployment.folder)}
    found: dict[str, Any] = {
        "folder": str(deployment.folder),
        "insecure": deployment.insecure,
        "processes": {part: one.pid for part, one in there.items()},
        "fleet": deployment.fleet,
        # On the machine of a node another program may have that port.
        "here": deployment.server.is_dir(),
        "server": deployment.server.is_dir()
        and processes.listens("127.0.0.1", deployment.control_port),
        "nodes": {},
        "runs": {},
        "certificate_days": None,
        "problem": "",
    }
    started = {path.stem for path in (deployment.folder / "run").glob("*.json")}
    found["gone"] = sorted(started - set(there))
    certificate = deployment.server / "server.crt"
    if certificate.exists():
        try:
            left = certificates.read(certificate).ends - datetime.now(UTC)
            found["certificate_days"] = left.days
        except DeployError as error:
            found["problem"] = str(error)
    if found["server"]:
        try:
            names = {one.node: name for name, one in server.registered(deployment).items()}
            for state in link.nodes(deployment):
                if state.status != "unregistered":
                    found["nodes"][names.get(state.node, str(state.node))] = state.status
            found["runs"] = {str(one.run): one.status for one in link.runs(deployment)}
        except (ProcessError, DeployError) as error:
            found["problem"] = str(error)
    return found


def well(found: dict[str, Any]) -> bool:
    """Whether all that was started here runs, and the SuperLink answers if it is of here."""
    there = found["server"] or bool(found["processes"])
    return not found["gone"] and not found["problem"] and there


def table(found: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=escape(f"deployment {found['folder']}"))
    for heading in ("what", "is"):
        shown.add_column(heading)
    if found["insecure"]:
        shown.add_row("security", "INSECURE: no TLS, no keys", style="bold red")
    answers = f"answers; nodes at {found['fleet']}" if found["server"] else "-"
    shown.add_row("SuperLink", answers if found["here"] else f"elsewhere: {found['fleet']}")
    for part, pid in found["processes"].items():
        shown.add_row(escape(part), f"process {pid}")
    for part in found["gone"]:
        shown.add_row(escape(part), "ended by itself; look at its log", style="red")
    for name, status in found["nodes"].items():
        shown.add_row(escape(f"node {name}"), escape(status))
    for number, status in list(found["runs"].items())[:5]:
        shown.add_row(escape(f"run {number}"), escape(status))
    if (days := found["certificate_days"]) is not None:
        shown.add_row("certificate", f"{days} days left", style="red" if days < 14 else None)
    if found["problem"]:
        shown.add_row("problem", escape(found["problem"]), style="red")
    return shown
