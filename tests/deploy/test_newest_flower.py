"""The app on the newest Flower, whose nodes speak HTTP: what it needs of Flower is there still."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by way of /proc"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the newest Flower, and all else that is installed here."""
    folder = tmp_path_factory.mktemp("newest") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "flwr>=1.40"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no Flower of 1.40 or later can be had: {done.stderr.strip()[-200:]}")
    (rest,) = (folder / "lib").glob("python*/site-packages")
    # Looked through last, so that Flower and what it brings are the newest.
    (rest / "zz-rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_run_is_the_same_over_http(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [python, "-m", "tests.deploy.newest", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert tuple(map(int, found["flwr"].split(".")[:2])) >= (1, 40)
    assert found["rounds"] == 2
    assert len(set(found["weights_sha256"])) == 1
