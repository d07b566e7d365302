"""The files in deploy/: systemd's own check of the units, and what the containers are told."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from click import UsageError
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from experiments.deploy import flower, link
from experiments.deploy.layout import Deployment
from tests.docs.blocks import PAGES, words
from tests.docs.commands import parsed

FOLDER = Path(__file__).parents[2] / "deploy"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
OURS = re.compile(r"(?:^| |/)(fedmeta deploy .*)", re.MULTILINE)
FLOWERS = re.compile(r"^ *(?:flower-supernode|flower-superlink|flwr) (?:.*\\\n)*.*", re.MULTILINE)
PARSERS = {
    "flower-superlink": _parse_args_run_superlink,
    "flower-supernode": _parse_args_run_supernode,
}


def _started(words: list[str]) -> None:
    """The command is there, and takes these options."""
    path, _ = parsed(["fedmeta", "deploy", *words])
    assert path == f"deploy {words[0]}"


def _flowers(line: list[str]) -> None:
    """Flower's own command takes it."""
    program, *rest = line
    if (make := PARSERS.get(Path(program).name)) is not None:
        make().parse_args([word for word in rest if word != "..."])
        return
    with warnings.catch_warnings():  # of Flower's own ways with typer
        warnings.simplefilter("ignore", DeprecationWarning)
        from flwr.cli.app import app as flwr
    command: Any = typer.main.get_command(flwr)
    context = command.make_context("flwr", rest)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    name = unit.name.replace("@", "@alice")
    # It looks for the program, which is elsewhere on a machine of developers.
    text = unit.read_text().replace("/opt/fedmeta/bin/fedmeta", shutil.which("true") or "/bin/true")
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert unit.stem.split("@")[0] not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_start_what_there_is(unit: Path) -> None:
    (line,) = [one for one in unit.read_text().splitlines() if one.startswith("ExecStart=")]
    assert line.split()[:2] == ["ExecStart=/opt/fedmeta/bin/fedmeta", "deploy"]
    _started(line.split()[2:])


def test_containers_start_what_there_is_and_hide_the_control_port() -> None:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert set(found["services"]) == {"server", "node"}
    for service in found["services"].values():
        _started(service["command"])
    assert found["services"]["server"]["ports"] == ["9092:9092"]
    assert "ports" not in found["services"]["node"]


def test_the_image_has_what_the_package_is_made_of() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    root = FOLDER.parent
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    for names in copied:
        for name in names:
            assert name.startswith("--from") or name.startswith("/") or (root / name).exists()
    for package in ("fedmeta", "clients", "strategies", "experiments"):
        assert any(package in names for names in copied)
    for setting in ("FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1"):
        assert setting in text
    assert "USER 10001" in text  # a number, so that an engine sees that it is not root
    assert "--uid 10001" in text


def test_what_to_type_is_what_there_is() -> None:
    """In the comments of these files, `fedmeta deploy`; in the pages Flower's own commands too."""
    files = [*UNITS, FOLDER / "compose.yaml", FOLDER / "Dockerfile"]
    found = [line for path in files for line in OURS.findall(path.read_text())]
    assert len(found) >= 5
    for line in found:
        _started(words(line)[2:])
    shown = [line for page in PAGES for line in FLOWERS.findall(page.read_text())]
    assert len(shown) >= 2
    for line in shown:
        _flowers(words(line.replace("\\\n", " ")))


@pytest.mark.parametrize("insecure", [False, True])
def test_flower_takes_the_commands_of_the_launcher(insecure: bool, tmp_path: Path) -> None:
    """Without starting them, so that a change of Flower's is seen where no process can run."""
    deployment = Deployment(tmp_path, ("fl.example.org",), insecure=insecure)
    _flowers(flower.superlink(deployment))
    _flowers(flower.supernode(deployment, "ann", tmp_path / "a.csv", tmp_path / "own", 9094))
    _flowers(["flwr", *link.register_arguments(deployment, "ann")])
    _flowers(["flwr", *link.begin_arguments(tmp_path / "app", tmp_path / "shipped.toml")])


def test_a_mistake_would_be_seen() -> None:
    for line in ("flwr run . --run-confg x", "flwr rn .", "flower-superlink --fleet-adress x"):
        with pytest.raises((UsageError, SystemExit)):
            _flowers(words(line))
    with pytest.raises(UsageError):
        _started(["server", "/deployment", "--foregroud"])
