"""A real SuperLink, and real nodes that it does not let in: what their owners are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.deploy import node, processes, server, setup
from tests.deploy import worlds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by way of /proc"),
]


def test_a_key_that_the_server_does_not_know(tmp_path: Path) -> None:
    deployment = worlds.make(tmp_path, ("ann",))
    (tmp_path / "x.csv").write_text("user,text,label\nann,a,b\n")
    try:
        server.start(deployment, worlds.quiet)
        server.register(deployment, worlds.quiet)
        assert list(server.registered(deployment)) == ["ann"]
        setup.make_key(tmp_path / "other", "ann")
        (tmp_path / "other" / "keys" / "ann").replace(deployment.key("ann"))
        here = node.place(deployment, "ann", tmp_path / "x.csv")
        command = (
            "import sys; from experiments.deploy import keeper, node;"
            "node.PATIENCE = 1.0; sys.exit(keeper.main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                command,
                str(deployment.folder),
                here.name,
                str(here.data),
                str(here.folder),
                str(here.port),
            ],
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ,
            check=False,
        )
        assert done.returncode == 1
        assert "does not know this node's key" in done.stdout.splitlines()[-1]
    finally:
        processes.stop_all(deployment.folder, processes.every(deployment.folder))
    assert not worlds.leftovers(deployment)
