from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExportRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("block", "blob", "piece", "long_block")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    LONG_BLOCK_FIELD_NUMBER: _ClassVar[int]
    block: bytes
    blob: ExportedBlob
    piece: bytes
    long_block: ExportedBlock
    def __init__(self, block: _Optional[bytes] = ..., blob: _Optional[_Union[ExportedBlob, _Mapping]] = ..., piece: _Optional[bytes] = ..., long_block: _Optional[_Union[ExportedBlock, _Mapping]] = ...) -> None: ...

class ExportedBlob(_message.Message):
    __slots__ = ("address", "size")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    address: str
    size: int
    def __init__(self, address: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ExportedBlock(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...
