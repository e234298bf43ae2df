from fedfabric.gateway.v1 import datasets_pb2 as _datasets_pb2
from fedfabric.gateway.v1 import records_pb2 as _records_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InitialiseModelRequest(_message.Message):
    __slots__ = ("plan", "seed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    plan: str
    seed: int
    def __init__(self, plan: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("address", "first_segment")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    address: str
    first_segment: int
    def __init__(self, address: _Optional[str] = ..., first_segment: _Optional[int] = ...) -> None: ...

class FetchModelRequest(_message.Message):
    __slots__ = ("job", "round", "first_segment")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    job: str
    round: int
    first_segment: int
    def __init__(self, job: _Optional[str] = ..., round: _Optional[int] = ..., first_segment: _Optional[int] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("heading", "segment")
    HEADING_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    heading: BlobHeading
    segment: bytes
    def __init__(self, heading: _Optional[_Union[BlobHeading, _Mapping]] = ..., segment: _Optional[bytes] = ...) -> None: ...

class BlobHeading(_message.Message):
    __slots__ = ("address", "size", "leaves")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    address: str
    size: int
    leaves: bytes
    def __init__(self, address: _Optional[str] = ..., size: _Optional[int] = ..., leaves: _Optional[bytes] = ...) -> None: ...
