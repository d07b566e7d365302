"""The CA, certificates and keys, judged by OpenSSL and by Python's own TLS."""

import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from experiments.deploy import certificates, processes, reach
from experiments.deploy.errors import DeployError
from experiments.deploy.layout import Deployment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.make_ca(tmp_path / "ca")
    certificates.make_server(tmp_path / "ca", tmp_path / "server", ["fl.example.org", "10.0.0.7"])
    certificates.make_node(tmp_path / "keys", "alice")
    return tmp_path


def test_openssl_and_ssh_take_them(folder: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    certificate = folder / "server" / "server.crt"
    for host in ("-verify_hostname", "fl.example.org"), ("-verify_ip", "10.0.0.7"):
        done = subprocess.run(
            ["openssl", "verify", "-purpose", "sslserver", "-x509_strict", *host, "-CAfile",
             str(folder / "ca" / "ca.crt"), str(certificate)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    other = subprocess.run(
        ["openssl", "verify", "-verify_hostname", "example.com", "-CAfile",
         str(folder / "ca" / "ca.crt"), str(certificate)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert other.returncode != 0
    key = certificates.load_key(folder / "keys" / "alice")
    assert isinstance(key.curve, ec.SECP384R1)
    certificates.check_public(folder / "keys" / "alice.pub")


def test_secrets_are_their_owners_alone(folder: Path) -> None:
    for path in ("ca/ca.key", "server/server.key", "keys/alice"):
        assert stat.S_IMODE((folder / path).stat().st_mode) == 0o600, path


def test_a_good_set_is_good(folder: Path) -> None:
    server = folder / "server"
    certificates.check_server(
        folder / "ca" / "ca.crt", server / "server.crt", server / "server.key"
    )
    read = certificates.read(server / "server.crt")
    assert {"localhost", "127.0.0.1", "fl.example.org", "10.0.0.7"} <= set(read.names)


def _checked(folder: Path, now: datetime | None = None) -> None:
    server = folder / "server"
    ca = folder / "ca" / "ca.crt"
    certificates.check_server(ca, server / "server.crt", server / "server.key", now)


@pytest.mark.parametrize(("days", "word"), [(400, "expired"), (-1, "good only from")])
def test_a_clock_that_is_off_is_told(folder: Path, days: int, word: str) -> None:
    with pytest.raises(DeployError, match=word):
        _checked(folder, datetime.now(UTC) + timedelta(days=days))


def test_files_of_different_deployments_do_not_pass(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    certificates.make_ca(other / "ca")
    certificates.make_server(other / "ca", other / "server", [])
    shutil.copy(other / "server" / "server.crt", folder / "server" / "server.crt")
    with pytest.raises(DeployError, match="was not issued by"):
        _checked(folder)
    certificates.make_server(folder / "ca", folder / "server", [])
    shutil.copy(other / "server" / "server.key", folder / "server" / "server.key")
    with pytest.raises(DeployError, match="is not the key of"):
        _checked(folder)


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "no certificate in PEM"), (None, "no certificate")]
)
def test_a_damaged_certificate_is_told(folder: Path, content: bytes | None, word: str) -> None:
    path = folder / "server" / "server.crt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DeployError, match=word):
        _checked(folder)


def test_keys_that_are_none_are_told(folder: Path) -> None:
    key = folder / "keys" / "alice"
    key.write_bytes(b"nothing")
    with pytest.raises(DeployError, match="no private key"):
        certificates.load_key(key)
    public = folder / "keys" / "alice.pub"
    public.write_bytes(b"ssh-rsa nothing")
    with pytest.raises(DeployError, match="no public key"):
        certificates.check_public(public)


@contextmanager
def _serving(folder: Path | None, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that shakes hands with TLS (or, with None, says something else), and its port."""
    listener = socket.create_server((host, 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if folder is not None:
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.set_alpn_protocols(["h2"])

    def serve() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if folder is None:
                        connection.sendall(b"220 hello\r\n" * 20)
                        connection.recv(1000)
                        continue
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def _reached(folder: Path, port: int, host: str = "127.0.0.1") -> list[str]:
    told: list[str] = []
    reach.check(Deployment(folder, (host,), fleet_port=port), told.append)
    return told


def test_the_right_server_is_reached(folder: Path) -> None:
    with _serving(folder / "server") as port:
        assert _reached(folder, port) == []


def test_another_ca_another_name_and_a_past_certificate_are_told(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    certificates.make_ca(other / "ca")
    certificates.make_server(other / "ca", other / "server", [])
    with _serving(other / "server") as port, pytest.raises(DeployError, match="vouches for"):
        _reached(folder, port)
    certificates.make_server(folder / "ca", folder / "past", [], days=-1)
    with _serving(folder / "past") as port, pytest.raises(DeployError, match="not good now"):
        _reached(folder, port)
    with (
        _serving(folder / "server", "127.0.0.2") as port,
        pytest.raises(DeployError, match="for other names"),
    ):
        _reached(folder, port, "127.0.0.2")


def test_what_is_no_server_is_told(folder: Path) -> None:
    with _serving(None) as port, pytest.raises(DeployError, match="does not speak TLS"):
        _reached(folder, port)
    assert "waits for it" in _reached(folder, processes.free_port())[0]
    with pytest.raises(DeployError, match="is not known here"):
        _reached(folder, 1, "no-such-host.invalid")
