"""What can go wrong between a contract, its chaincode server and the peer.

ShimError
├── PeerError        the peer answered a request with ERROR: nothing was read or written
├── ProtocolError    the peer broke the protocol: the stream ends
├── UsageError       the contract or its host broke the shim's rules
└── SettingsError    the server can't start as configured

ChaincodeError stands apart: a contract raises it to refuse a transaction, and it becomes the response.
"""

from typing import Final

__all__ = ["ChaincodeError", "PeerError", "ProtocolError", "SettingsError", "ShimError", "UsageError"]

LOWEST_ERROR: Final = 400
"""Fabric endorses every response whose status is lower than this."""

HIGHEST_ERROR: Final = 599


class ShimError(Exception):
    """The root of the shim's own errors."""


class PeerError(ShimError):
    """The peer answered ERROR to what a transaction asked of it; the text is the peer's."""


class ProtocolError(ShimError):
    """The other side sent what Fabric's chaincode protocol does not allow here."""


class UsageError(ShimError):
    """The caller used the shim against its rules: an empty key, a request after the transaction's end."""


class SettingsError(ShimError):
    """The chaincode server's settings are missing, contradict each other, or can't be used on this machine."""


class ChaincodeError(Exception):
    """A contract's refusal: the transaction is not endorsed, and its client gets status, message and payload.

    Args:
        message: what the client reads.
        status: 400 to 599, as in HTTP.
        payload: bytes for the client. Peers drop them on the way to a gateway; a calling chaincode gets them.
    """

    def __init__(self, message: str, *, status: int = LOWEST_ERROR, payload: bytes = b"") -> None:
        if not LOWEST_ERROR <= status <= HIGHEST_ERROR:
            raise ValueError(f"status {status} is no refusal: {LOWEST_ERROR} to {HIGHEST_ERROR} are")
        super().__init__(message)
        self.message = message
        self.status = status
        self.payload = payload
