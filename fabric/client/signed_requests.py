"""What the requests have in common that the Gateway service takes as a message and its signature side by side."""

import hashlib
from typing import Generic, TypeAlias, TypeVar

from fabric_protos.gateway import gateway_pb2

__all__ = ["SignedRequest"]

_Bytes: TypeAlias = bytes  # the class has a property of that name
_Signed = TypeVar("_Signed", gateway_pb2.SignedCommitStatusRequest, gateway_pb2.SignedChaincodeEventsRequest)


class SignedRequest(Generic[_Signed]):
    """A request that may be signed elsewhere: its bytes, what is to be signed of it, and the digest of that."""

    def __init__(self, signed: _Signed) -> None:
        self._signed = signed

    @property
    def bytes(self) -> _Bytes:
        """The whole signed request as protobuf, with its signature if it has one."""
        return bytes(self._signed.SerializeToString())

    @property
    def message(self) -> _Bytes:
        """What is to be signed."""
        return bytes(self._signed.request)

    @property
    def digest(self) -> _Bytes:
        """SHA-256 of what is to be signed."""
        return hashlib.sha256(self.message).digest()
