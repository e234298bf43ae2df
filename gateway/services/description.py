"""The service Gateway: what this gateway is, and whom it takes the caller for."""

import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography import x509

from ..admission import caller
from ..configuration import ConfigurationError
from ..parts import Parts
from ..v1 import gateway_pb2, gateway_pb2_grpc

NAMES = ("fedfabric.gateway.v1.Gateway",)

_MILLISECOND = datetime.timedelta(milliseconds=1)


class Gateway(gateway_pb2_grpc.GatewayServicer):
    """Describe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        configuration = parts.configuration
        own = {"certificate": configuration.certificate, "tls_certificate": configuration.tls_certificate}
        self._certificates_end_ms = min(_end_ms(_certificate(path, key)) for key, path in own.items())

    async def Describe(self, _: gateway_pb2.DescribeRequest, __: Any) -> gateway_pb2.Description:  # noqa: N802
        """Describe the gateway and the caller."""
        who = caller()
        configuration = self._parts.configuration
        return gateway_pb2.Description(
            version=version("fedfabric"),
            msp_id=configuration.msp_id,
            channel=configuration.channel,
            chaincode=configuration.chaincode,
            block_number=self._parts.model.position - 1,
            genesis_hash=self._parts.model.genesis_hash,
            caller_msp_id=who.msp_id,
            caller_role=who.role.value if who.role is not None else "",
            caller_account=who.account,
            trains=configuration.trainer.enabled,
            peer=configuration.peer.endpoint,
            peer_lost_ms=self._parts.follower.peer_lost_ms,
            block_time_ms=self._parts.model.time_ms,
            certificates_end_ms=self._certificates_end_ms,
            caller_certificate_ends_ms=_end_ms(who.identity.x509),
        )


def _end_ms(certificate: x509.Certificate) -> int:
    """When a certificate runs out, in ms since 1970."""
    return (certificate.not_valid_after_utc - datetime.datetime.fromtimestamp(0, datetime.UTC)) // _MILLISECOND


def _certificate(path: Path, key: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{key}: {path} holds no certificate (PEM): {error}") from error


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    gateway_pb2_grpc.add_GatewayServicer_to_server(Gateway(parts), server)  # type: ignore[no-untyped-call]
