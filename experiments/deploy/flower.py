"""Flower's own commands, as an operator could type them, and the environment they run in."""

import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.deploy.errors import DeployError
from experiments.deploy.layout import Deployment

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""No telemetry, no question for updates, no installing of what an app asks for."""
QUICK = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
"""Seconds between two looks of a node's own processes for something to do; Flower's is 1.

A message that is begun before all of it has come waits a second for the rest: sooner is later.
"""
MARK = "FEDMETA_DEPLOYMENT"
"""In the environment of every process of a deployment: its folder and part."""
WARM = "FEDMETA_WARM"
"""In the environment of all that is started by forking (:mod:`experiments.deploy.warm`)."""
LINK = "deployment"
"""The name of the SuperLink in Flower's config."""


def superlink(deployment: Deployment) -> list[str]:
    """The command of the server."""
    server = deployment.server
    secure = [
        *("--ssl-ca-certfile", str(deployment.ca)),
        *("--ssl-certfile", str(server / "server.crt")),
        *("--ssl-keyfile", str(server / "server.key")),
        "--enable-supernode-auth",
    ]
    listen = f"[{deployment.listen}]" if ":" in deployment.listen else deployment.listen
    return [
        program("flower-superlink"),
        *(["--insecure"] if deployment.insecure else secure),
        *("--fleet-api-address", f"{listen}:{deployment.fleet_port}"),
        *("--host", "127.0.0.1", "--port", str(deployment.control_port)),
        *("--database", str(server / "state.db")),
        "--disable-runtime-dependency-installation",
    ]


def supernode(deployment: Deployment, name: str, data: Path, folder: Path, port: int) -> list[str]:
    """The command of a node; ``port`` is one of its own machine, for its own processes."""
    secure = [
        *("--root-certificates", str(deployment.ca)),
        *("--auth-supernode-private-key", str(deployment.key(name))),
    ]
    told = {"name": name, "data": str(data), "folder": str(folder)}
    return [
        program("flower-supernode"),
        *(["--insecure"] if deployment.insecure else secure),
        *("--superlink", deployment.fleet),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", config_text(told)),
    ]


def flwr(*arguments: str) -> list[str]:
    """A command of Flower's own command line, on the deployment's SuperLink."""
    return [program("flwr"), *arguments]


def environment(home: Path, mark: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process: Flower's folder is the deployment's, and it tells nobody.

    Flower starts programs of its own by their bare names, so they must be found first.
    """
    folders = [os.environ.get(WARM, ""), str(Path(program("flwr")).parent)]
    folders.append(os.environ.get("PATH", os.defpath))
    path = os.pathsep.join(folder for folder in folders if folder)
    own = {"FLWR_HOME": str(home), MARK: mark, "PATH": path}
    return QUICK | os.environ | QUIET | own | dict(more or {})


def quick(command: Sequence[str], name: str = "") -> list[str]:
    """The same command, by the script that has it started by forking, where there is one.

    Args:
        command: a program and its arguments; without a name its program alone is replaced.
        name: of the script that stands for all of the command.
    """
    script = Path(os.environ.get(WARM, ""), name or Path(command[0]).name)
    if WARM not in os.environ or not os.access(script, os.X_OK):
        return list(command)
    return [str(script)] if name else [str(script), *command[1:]]


def shown(command: Sequence[str], home: Path) -> str:
    """A command with the settings it needs, to be pasted into a shell."""
    settings = [f"{name}={value}" for name, value in {**QUIET, "FLWR_HOME": str(home)}.items()]
    return f"{' '.join(map(shlex.quote, settings))} \\\n  {shlex.join(command)}"


def connection(deployment: Deployment) -> str:
    """Flower's ``config.toml``, by which its command finds the SuperLink."""
    secure = f"root-certificates = {_toml(str(deployment.ca))}"
    return (
        f"[superlink]\ndefault = {_toml(LINK)}\n\n[superlink.{LINK}]\n"
        f"address = {_toml(f'127.0.0.1:{deployment.control_port}')}\n"
        f"{'insecure = true' if deployment.insecure else secure}\n"
    )


def config_text(values: Mapping[str, str | int | float | bool]) -> str:
    """Settings as Flower's options take them: ``key="value" key=1``.

    Raises:
        DeployError: a text that cannot be written so.
    """
    return " ".join(f"{key}={_toml(value)}" for key, value in values.items())


def program(name: str) -> str:
    """The full path of one of Flower's commands, of the environment that this one is of.

    Raises:
        DeployError: it is not there.
    """
    folders = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    raise DeployError(f"no command {name!r} in {folders[0]}: install fedmeta there again")


def _toml(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if any(mark in value for mark in "\"'\\\n"):
        raise DeployError(f"{value!r} holds a quotation mark, a backslash or a line break")
    return f'"{value}"'
