"""The files in deploy/: systemd's own check of the units, and what the containers are told."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app

FOLDER = Path(__file__).parents[2] / "deploy"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))


def _started(words: list[str]) -> None:
    """The command line exists, with these options."""
    shown = CliRunner().invoke(app, ["deploy", words[0], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for word in words:
        if word.startswith("--"):
            assert word in shown.output


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
    assert "USER fedmeta" in text
