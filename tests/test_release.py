"""What is handed out: versions, completion, licences, and the list of what comes with it."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from experiments import release
from fedmeta import __version__

ROOT = Path(__file__).parents[1]


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    told = [line for line in project["classifiers"] if line.startswith("Programming Language")]
    # What the tests were run with, which the table of the page says.
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    seen = re.findall(r"^\| (3\.\d+)[.\d]* \| yes", page, re.MULTILINE)
    assert told[1:] == [f"Programming Language :: Python :: {version}" for version in seen]


def _command(words: str, **more: str) -> str:
    code = "import sys; sys.argv[0] = 'fedmeta'; from experiments.cli import main; main()"
    line = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(line, env=os.environ | more, capture_output=True, text=True)
    return done.stdout


def test_the_command_tells_its_version() -> None:
    assert _command("--version") == f"fedmeta {__version__}\n"


def test_the_shell_completes() -> None:
    asked = {"_FEDMETA_COMPLETE": "complete_bash", "COMP_WORDS": "fedmeta sim", "COMP_CWORD": "1"}
    assert _command("", **asked).split() == ["simulate"]
    asked |= {"COMP_WORDS": "fedmeta simulate --bac", "COMP_CWORD": "2"}
    assert "--backend" in _command("", **asked).split()


@pytest.fixture(scope="module")
def found() -> dict[str, importlib.metadata.Distribution]:
    return release.closure("fedmeta", ("", "offline"))


def test_bill_of_materials(found: dict[str, importlib.metadata.Distribution]) -> None:
    content = release.sbom(found)
    assert content == release.sbom(found)
    listed = {one["name"]: one["version"] for one in content["components"]}
    for name in ("torch", "flwr", "ray", "numpy", "opacus"):
        assert listed[name] == importlib.metadata.version(name)
    assert "pytest" not in listed  # of developers
    needs = {one["ref"]: one["dependsOn"] for one in content["dependencies"]}
    assert set(needs) == {c["bom-ref"] for c in content["components"]} | {
        content["metadata"]["component"]["bom-ref"]
    }
    assert f"pkg:pypi/numpy@{listed['numpy']}" in needs[f"pkg:pypi/pandas@{listed['pandas']}"]


def test_licences(
    found: dict[str, importlib.metadata.Distribution], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: found[name] for name in ("torch", "numpy", "flwr", "certifi", "fedmeta")}
    assert release.licence_problems(some) == ""
    monkeypatch.setattr(release, "LICENCES", ("Apache", "BSD"))
    assert "certifi" in release.licence_problems(some)


def test_contents_of_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    kept = [
        *(ROOT / "experiments/configs").iterdir(),
        *(ROOT / "experiments/report/assets").iterdir(),
    ]
    configs = [str(path.relative_to(ROOT)) for path in kept if path.name != "report.css"]
    files = [f"{p}/{name}" for p in release.PACKAGES for name in ("__init__.py", "py.typed")]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*configs, *files[1:], "tests/test_x.py", "fedmeta-1.dist-info/METADATA"):
            archive.writestr(name, "")
    assert release.misplaced(wheel) == [
        "missing: fedmeta/__init__.py",
        "missing: experiments/report/assets/report.css",
        "no place in it: tests/test_x.py",
    ]
