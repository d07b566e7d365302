"""``fedmeta deploy``: what it makes, and what it says to bad input."""

import errno
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import settings
from experiments.deploy import certificates, demo, flower, layout, node, processes, runs
from experiments.deploy.errors import DeployError
from fedmeta import facts
from fedmeta.config import ConfigError, parse
from fedmeta.facts import Facts
from strategies.roster import shipped
from tests.deploy import worlds
from tests.experiments.conftest import fedmeta as fedmeta  # the command as a fixture
from tests.experiments.runs import Result

Fedmeta = Callable[..., Result]
FACTS = Facts("classification", ("0", "1"), 64, "hashing")


@pytest.fixture
def made(fedmeta: Fedmeta, tmp_path: Path) -> Path:
    folder = tmp_path / "d"
    ports = ("--fleet-port", processes.free_port(), "--control-port", processes.free_port())
    assert fedmeta("deploy", "init", folder, "--nodes", "ann,ben", *ports).code == 0
    return folder


def test_init_makes_all_that_is_needed(made: Path) -> None:
    for name in (
        "deployment.toml", "ca/ca.key", "ca/ca.crt", "server/server.key", "server/server.crt",
        "keys/ann", "keys/ann.pub", "keys/ben", "flwr/config.toml", "app/pyproject.toml",
        "app/fedmeta_deployed/client.py",
    ):  # fmt: skip
        assert (made / name).is_file(), name
    assert layout.read(made).nodes == ("ann", "ben")


def test_commands_are_shown_as_flower_takes_them(made: Path) -> None:
    deployment = layout.read(made)
    link, one = (
        flower.superlink(deployment),
        node.place(deployment, "ann", made / "deployment.toml"),
    )
    assert "--enable-supernode-auth" in link
    assert "--insecure" not in link
    assert "--disable-runtime-dependency-installation" in link
    assert link[link.index("--host") + 1] == "127.0.0.1"
    command = node.command_of(deployment, one)
    assert {"--root-certificates", "--auth-supernode-private-key"} <= set(command)
    shown = flower.shown(command, deployment.home)
    assert "FLWR_TELEMETRY_ENABLED=0" in shown
    assert "FLWR_DISABLE_UPDATE_CHECK=1" in shown
    environment = flower.environment(deployment.home, "mark")
    assert {key: environment[key] for key in flower.QUIET} == flower.QUIET


def test_insecure_is_asked_for_and_warns(fedmeta: Fedmeta, tmp_path: Path) -> None:
    done = fedmeta("deploy", "init", tmp_path / "i", "--insecure")
    assert done.code == 0
    assert "INSECURE" in done.err
    link = flower.superlink(layout.read(tmp_path / "i"))
    assert "--insecure" in link
    assert "--enable-supernode-auth" not in link
    assert not (tmp_path / "i" / "ca").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("init", "{d}"), "is not empty"),
        (("init", "{t}/x", "--nodes", "a,../b"), "node name"),
        (("init", "{t}/x", "--nodes", "a,a"), "not all different"),
        (("init", "{t}/x", "--fleet-port", "99999"), "fleet-port"),
        (("init", "{t}/x", "--fleet-port", "8000"), "both 8000"),
        (("server", "{t}/nothing"), "no deployment.toml"),
        (("node", "{d}", "--name", "zoe", "--data", "{d}/ca/ca.crt"), "no key"),
        (("node", "{d}", "--name", "ann", "--data", "{d}/keys"), "0 files"),
        (("node", "{d}", "--name", "ann", "--data", "{t}/none.csv"), "no file or folder"),
        (("add", "{d}", "--name", "ann"), "there is a node"),
        (("add", "{d}", "--name", "cem", "--key", "{d}/ca/ca.crt"), "no public key"),
        (("remove", "{d}", "--name", "zoe"), "no node"),
        (("rotate", "{d}"), "name what to rotate"),
        (("key", "{d}", "--name", "ann"), "there is a key"),
        (("run", "{d}"), "no facts"),
        (("run", "{d}", "--resume", "zoe"), "no run 'zoe'"),
        (("demo", "--nodes", "5", "--keep", "{d}"), "is not empty"),
    ],
)
def test_bad_input_is_told_and_ends_with_2(
    fedmeta: Fedmeta, made: Path, tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    done = fedmeta("deploy", *(one.format(d=made, t=tmp_path) for one in arguments))
    assert done.code == 2
    assert word in done.err
    assert done.err.count("\n") == 1


def test_a_server_that_cannot_work_is_not_started(fedmeta: Fedmeta, made: Path) -> None:
    deployment = layout.read(made)
    ports = {"fleet-port": deployment.fleet_port, "control-port": deployment.control_port}
    for key, port in ports.items():
        with socket.create_server(("127.0.0.1", port)):
            done = fedmeta("deploy", "server", made)
        assert done.code == 2
        assert f"({key} in deployment.toml) 127.0.0.1:{port} cannot be had" in done.err
    certificates.make_server(made / "ca", made / "server", [], days=-1)
    done = fedmeta("deploy", "server", made)
    assert done.code == 2
    assert "expired" in done.err
    assert not processes.every(made)
    done = fedmeta("deploy", "rotate", made, "--server", "--host", "fl.example.org")
    assert done.code == 0
    assert "fl.example.org" in certificates.read(made / "server" / "server.crt").names


def test_init_on_a_full_disk_leaves_nothing(
    fedmeta: Fedmeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(certificates, "make_node", full)
        done = fedmeta("deploy", "init", tmp_path / "d", "--nodes", "ann")
    assert done.code == 2
    assert "cannot be written: No" in done.err
    assert not (tmp_path / "d").exists()
    assert fedmeta("deploy", "init", tmp_path / "d", "--nodes", "ann").code == 0


def test_status_and_stop_where_nothing_runs(fedmeta: Fedmeta, made: Path) -> None:
    assert fedmeta("deploy", "status", made).code == 1
    assert "nothing runs" in fedmeta("deploy", "stop", made).err


def test_status_on_the_machine_of_a_node(fedmeta: Fedmeta, made: Path, tmp_path: Path) -> None:
    """What listens there on the port that is the operator's on the server is another program."""
    there = tmp_path / "there"
    (there / "ca").mkdir(parents=True)
    for name in ("deployment.toml", "ca/ca.crt"):
        (there / name).write_bytes((made / name).read_bytes())
    with socket.create_server(("127.0.0.1", layout.read(made).control_port)):
        done = fedmeta("deploy", "status", there, "--json")
    found = json.loads(done.out)
    assert (done.code, found["server"], found["problem"]) == (1, False, "")
    assert sorted(path.name for path in there.iterdir()) == ["ca", "deployment.toml"]


def test_a_node_on_another_machine_brings_its_own_key(
    fedmeta: Fedmeta, made: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    public = Path(fedmeta("deploy", "key", there, "--name", "cem").out.strip())
    assert public.is_file()
    assert (there / "keys" / "cem").is_file()
    assert fedmeta("deploy", "add", made, "--name", "cem", "--key", public).code == 0
    assert layout.read(made).nodes == ("ann", "ben", "cem")
    assert not (made / "keys" / "cem").exists()  # the private one stays there
    before = (made / "keys" / "ben.pub").read_text()
    assert fedmeta("deploy", "rotate", made, "--name", "ben").code == 0
    assert (made / "keys" / "ben.pub").read_text() != before
    assert fedmeta("deploy", "remove", made, "--name", "cem").code == 0
    assert layout.read(made).nodes == ("ann", "ben")


def test_a_run_finds_its_folder_by_its_settings(tmp_path: Path) -> None:
    deployment = worlds.make(tmp_path)
    config = worlds.config_of("run.seed=5")
    one = runs.plan(deployment, config, FACTS, "one")
    sent = shipped(settings.read(one.folder / "config.toml"))
    assert runs.meant(deployment.folder, parse(sent)) == one.folder
    with pytest.raises(ConfigError, match="already"):
        runs.plan(deployment, config, FACTS, "one")
    with pytest.raises(ConfigError, match="waits for these settings"):
        runs.meant(deployment.folder, worlds.config_of("run.seed=6"))
    (one.folder / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="waits for these settings"):
        runs.meant(deployment.folder, parse(sent))
    with pytest.raises(DeployError, match="come to its end"):
        runs.again(deployment, "one")


def test_a_user_is_one_table(tmp_path: Path) -> None:
    deployment = worlds.make(tmp_path)
    demo.scatter(worlds.config_of(), deployment, tmp_path / "users")
    files = sorted((tmp_path / "users").glob("*.csv"))
    assert [path.stem for path in files] == list(worlds.NODES)
    for path in files:
        assert len({line.split(",")[0] for line in path.read_text().splitlines()[1:]}) == 1
    assert facts.read(deployment.folder / runs.FACTS).width == 64


def test_the_demonstration_ends_what_it_began_when_it_is_interrupted(tmp_path: Path) -> None:
    # Where the tests run in the background, Ctrl-C is ignored, and by what they start too.
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from experiments.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command, "deploy", "demo", "--nodes", "3", "--keep",
         str(tmp_path / "kept"), "--set", "backbone.name=hashing", "--set", "data.users=12"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = tmp_path / "kept" / "deployment"
    worlds.until(lambda: (folder / "run" / "superlink.json").exists(), 200)
    time.sleep(1.0)
    process.send_signal(2)
    assert process.wait(timeout=120) != 0
    assert not worlds.leftovers(layout.read(folder))
