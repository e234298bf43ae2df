from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PreparedProposal(_message.Message):
    __slots__ = ("transaction_id", "proposal", "proposed_transaction")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    proposal: bytes
    proposed_transaction: bytes
    def __init__(self, transaction_id: _Optional[str] = ..., proposal: _Optional[bytes] = ..., proposed_transaction: _Optional[bytes] = ...) -> None: ...

class EndorseRequest(_message.Message):
    __slots__ = ("proposed_transaction", "signature")
    PROPOSED_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    proposed_transaction: bytes
    signature: bytes
    def __init__(self, proposed_transaction: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class EndorseResponse(_message.Message):
    __slots__ = ("transaction_id", "payload", "prepared_transaction", "result")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PREPARED_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    payload: bytes
    prepared_transaction: bytes
    result: bytes
    def __init__(self, transaction_id: _Optional[str] = ..., payload: _Optional[bytes] = ..., prepared_transaction: _Optional[bytes] = ..., result: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("prepared_transaction", "signature")
    PREPARED_TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    prepared_transaction: bytes
    signature: bytes
    def __init__(self, prepared_transaction: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("transaction_id", "block_number", "result")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    block_number: int
    result: bytes
    def __init__(self, transaction_id: _Optional[str] = ..., block_number: _Optional[int] = ..., result: _Optional[bytes] = ...) -> None: ...
