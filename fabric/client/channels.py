"""Opening a gRPC channel to a peer, with options that fit Fabric's limits."""

import grpc

from .messages import MAXIMUM_BYTES

__all__ = ["open_channel"]

# A peer refuses pings more often than once a minute (peer.keepalive.minInterval).
_KEEPALIVE_MS = 120_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_FIRST_PAUSE_MS = 100
_LONGEST_PAUSE_MS = 500
# Errors bring each peer's message in a header; gRPC's default of 8 KiB loses the whole error to a long one.
_METADATA_BYTES = 256 * 1024


def open_channel(
    endpoint: str,
    roots: bytes | None,
    *,
    key: bytes | None = None,
    certificate: bytes | None = None,
    server_name: str | None = None,
) -> grpc.aio.Channel:
    """A channel to `host:port`, to be closed by the caller, over TLS with these root certificates (PEM).

    `key` and `certificate` (PEM) are the client's, for peers that ask for one. `server_name` is the name expected in
    the peer's certificate where it is not the endpoint's host. With `roots=None` the channel has no TLS.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MAXIMUM_BYTES),
        ("grpc.max_send_message_length", MAXIMUM_BYTES),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # A peer that comes back is found at once; gRPC alone waits longer the longer it was away, up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", _FIRST_PAUSE_MS),
        ("grpc.min_reconnect_backoff_ms", _FIRST_PAUSE_MS),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_PAUSE_MS),
        ("grpc.enable_retries", 0),  # what may be tried again is decided in `retries`, not per call
    ]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    if roots is None:
        return grpc.aio.insecure_channel(endpoint, options=options)
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    return grpc.aio.secure_channel(endpoint, credentials, options=options)
