"""Who may talk to whom: a CA of one's own, the server's certificate, and the keys of the nodes.

Nothing here is ever sent: of what is made, the nodes need the CA's certificate and their own key,
the server needs its own key and the public keys of the nodes.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from experiments.deploy.errors import DeployError
from experiments.deploy.files import write_private, write_public

CA_DAYS, SERVER_DAYS = 3650, 365
EARLY = timedelta(minutes=5)
"""Certificates are good from a little before they are made: clocks differ."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The server's own processes reach it by these."""


class Certificate(NamedTuple):
    """What a certificate file says."""

    path: Path
    names: list[str]
    begins: datetime
    ends: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key on P-384, the curve that Flower's nodes use."""
    return ec.generate_private_key(ec.SECP384R1())


def make_ca(folder: Path, days: int = CA_DAYS) -> None:
    """``ca.key`` and ``ca.crt``: whoever has the key can pass for the server."""
    key, name = new_key(), _name("fedmeta deployment CA")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    draft = _draft(name, name, key.public_key(), days)
    draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    draft = draft.add_extension(usage, critical=True)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    draft = draft.add_extension(own, critical=False)
    write_private(folder / "ca.key", _pem(key))
    write_public(folder / "ca.crt", _text(draft.sign(key, hashes.SHA384())))


def make_server(ca: Path, folder: Path, hosts: Sequence[str], days: int = SERVER_DAYS) -> None:
    """``server.key`` and ``server.crt`` for the names and addresses of a server.

    Args:
        ca: folder of the CA.
        folder: of the server.
        hosts: by which nodes reach it; this machine's own names are added.
        days: for which it is good; less than none makes one that is past, for tests.

    Raises:
        DeployError: the CA's files are not there or are none.
    """
    signer, root = load_key(ca / "ca.key"), load_certificate(ca / "ca.crt")
    key = new_key()
    names = [_alternative(host) for host in dict.fromkeys((*LOOPBACK, *hosts))]
    draft = _draft(_name("fedmeta SuperLink"), root.subject, key.public_key(), days)
    draft = draft.add_extension(x509.SubjectAlternativeName(names), critical=False)
    draft = draft.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    draft = draft.add_extension(server, critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    draft = draft.add_extension(issuer, critical=False)
    write_private(folder / "server.key", _pem(key))
    write_public(folder / "server.crt", _text(draft.sign(signer, hashes.SHA384())))


def make_node(folder: Path, name: str) -> None:
    """``NAME`` and ``NAME.pub``, in OpenSSH's form, which Flower reads."""
    key = new_key()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    write_private(folder / name, private)
    write_public(folder / f"{name}.pub", public + b"\n")


def read(path: Path) -> Certificate:
    """What a certificate file says.

    Raises:
        DeployError: it is not there, or is none.
    """
    found = load_certificate(path)
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(name.value) for name in extension.value]
    except x509.ExtensionNotFound:
        names = []
    return Certificate(path, names, found.not_valid_before_utc, found.not_valid_after_utc)


def check_server(ca: Path, certificate: Path, key: Path, now: datetime | None = None) -> None:
    """Refuse what no node could connect to, before anything is started.

    Raises:
        DeployError: a certificate that is past, not yet good, of another CA or key.
    """
    root, own = load_certificate(ca), load_certificate(certificate)
    for path in (ca, certificate):
        check_dates(path, now)
    try:
        own.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        raise DeployError(
            f"{str(certificate)!r} was not issued by {str(ca)!r}; nodes would refuse it: issue a"
            " new one with `fedmeta deploy rotate DIR --server`"
        ) from None
    if load_key(key).public_key() != own.public_key():
        raise DeployError(
            f"{str(key)!r} is not the key of {str(certificate)!r}; bring back the two files that"
            " belong together, or issue new ones with `fedmeta deploy rotate DIR --server`"
        )


def check_dates(path: Path, now: datetime | None = None) -> None:
    """Refuse a certificate that is not good now.

    Raises:
        DeployError: it is past or not yet good; the clock may be wrong.
    """
    found, now = read(path), now or datetime.now(UTC)
    clock = f"the clock of this machine says {now:%Y-%m-%d %H:%M} UTC"
    if now > found.ends:
        raise DeployError(
            f"certificate {str(path)!r} expired on {found.ends:%Y-%m-%d %H:%M} UTC ({clock}): issue"
            " a new one with `fedmeta deploy rotate DIR --server`, or set the clock right"
        )
    if now < found.begins:
        raise DeployError(
            f"certificate {str(path)!r} is good only from {found.begins:%Y-%m-%d %H:%M} UTC on, and"
            f" {clock}: set the clock right"
        )


def load_certificate(path: Path) -> x509.Certificate:
    """A certificate from a PEM file.

    Raises:
        DeployError: it is not there, or is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise DeployError(f"no certificate {str(path)!r}: {error.strerror}") from None
    except ValueError:
        raise DeployError(
            f"{str(path)!r} holds no certificate in PEM form: bring the file once more from where"
            " it was made, or issue a new one with `fedmeta deploy rotate DIR --server`"
        ) from None


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A private key from a PEM or OpenSSH file.

    Raises:
        DeployError: it is not there, is none, or is not on an elliptic curve.
    """
    try:
        content = path.read_bytes()
        ssh = b"OPENSSH PRIVATE KEY" in content
        load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
        key = load(content, None)
    except OSError as error:
        raise DeployError(f"no key {str(path)!r}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise DeployError(f"{str(path)!r} holds no private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeployError(f"{str(path)!r} is not an elliptic-curve key; expected P-384")
    return key


def check_public(path: Path) -> None:
    """Refuse what Flower would not register as a node.

    Raises:
        DeployError: no file, or no public key on an elliptic curve.
    """
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except OSError as error:
        raise DeployError(f"no public key {str(path)!r}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise DeployError(f"{str(path)!r} holds no public key in OpenSSH form") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise DeployError(f"{str(path)!r} is not an elliptic-curve key; expected P-384")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begins = min(now - EARLY, now + timedelta(days=days) - EARLY)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + timedelta(days=days))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
