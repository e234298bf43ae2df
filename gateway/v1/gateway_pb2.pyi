from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("version", "msp_id", "channel", "chaincode", "block_number", "genesis_hash", "caller_msp_id", "caller_role", "caller_account", "trains", "peer", "peer_lost_ms", "block_time_ms", "certificates_end_ms", "caller_certificate_ends_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MSP_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CHAINCODE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    GENESIS_HASH_FIELD_NUMBER: _ClassVar[int]
    CALLER_MSP_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_ROLE_FIELD_NUMBER: _ClassVar[int]
    CALLER_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    TRAINS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PEER_LOST_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_END_MS_FIELD_NUMBER: _ClassVar[int]
    CALLER_CERTIFICATE_ENDS_MS_FIELD_NUMBER: _ClassVar[int]
    version: str
    msp_id: str
    channel: str
    chaincode: str
    block_number: int
    genesis_hash: str
    caller_msp_id: str
    caller_role: str
    caller_account: str
    trains: bool
    peer: str
    peer_lost_ms: int
    block_time_ms: int
    certificates_end_ms: int
    caller_certificate_ends_ms: int
    def __init__(self, version: _Optional[str] = ..., msp_id: _Optional[str] = ..., channel: _Optional[str] = ..., chaincode: _Optional[str] = ..., block_number: _Optional[int] = ..., genesis_hash: _Optional[str] = ..., caller_msp_id: _Optional[str] = ..., caller_role: _Optional[str] = ..., caller_account: _Optional[str] = ..., trains: bool = ..., peer: _Optional[str] = ..., peer_lost_ms: _Optional[int] = ..., block_time_ms: _Optional[int] = ..., certificates_end_ms: _Optional[int] = ..., caller_certificate_ends_ms: _Optional[int] = ...) -> None: ...
