"""The server's side of mutual TLS, whose client authorities follow the channel's configuration."""

from collections.abc import Callable

import grpc

__all__ = ["following_credentials"]


def following_credentials(key: bytes, certificate: bytes, client_roots: Callable[[], bytes]) -> grpc.ServerCredentials:
    """Credentials of a server whose clients need a certificate of the authorities of the time at which they connect.

    Args:
        key, certificate: the server's own, PEM.
        client_roots: tells the authorities, PEM; asked at each connection, in one of gRPC's threads.
    """

    def configured(roots: bytes) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots)

    current = client_roots()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # gRPC frees what an answer replaces, although another connection's thread may just be taking it up: with a new
        # answer each time, a few hundred connections at once crash the process (grpcio 1.71.2, 1.85.3).
        nonlocal current
        roots = client_roots()
        if roots == current:
            return None
        current = roots
        return configured(roots)

    return grpc.dynamic_ssl_server_credentials(
        configured(current),
        changed,  # type: ignore[arg-type]  # None, for no change, is missing in the types only
        require_client_authentication=True,
    )
