"""A node that does not keep to the rules: Flower's Fleet API by hand."""

import datetime
from collections.abc import Callable
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.supercore.interceptors import RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message


class Signing(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Signs as a node does, but at any time, or leaves something out."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, late: float = 0.0, signed: bool = True
    ) -> None:
        """``late``: seconds by which the clock is behind."""
        self._key, self._late, self._signed = key, late, signed

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=self._late)
        text = now.isoformat()
        metadata = [
            *(details.metadata or []),
            (PUBLIC_KEY_HEADER, public_key_to_bytes(self._key.public_key())),
            (TIMESTAMP_HEADER, text),
        ]
        if self._signed:
            metadata.append((SIGNATURE_HEADER, sign_message(self._key, text.encode("ascii"))))
        return continuation(details._replace(metadata=metadata), request)


def fleet(
    address: str,
    root: bytes | None,
    key: ec.EllipticCurvePrivateKey,
    late: float = 0.0,
    signed: bool = True,
) -> FleetStub:
    """The Fleet API; ``root`` None speaks without TLS."""
    plain = (
        grpc.insecure_channel(address)
        if root is None
        else grpc.secure_channel(address, grpc.ssl_channel_credentials(root))
    )
    version = RuntimeVersionClientInterceptor(component_name="SuperNode")
    return FleetStub(grpc.intercept_channel(plain, version, Signing(key, late, signed)))
