from fedfabric.gateway.v1 import records_pb2 as _records_pb2
from fedfabric.gateway.v1 import transactions_pb2 as _transactions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowAccessRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class AccessReport(_message.Message):
    __slots__ = ("request", "grant", "revocation", "uses")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    request: _records_pb2.AccessRequest
    grant: _records_pb2.Grant
    revocation: _records_pb2.Revocation
    uses: _containers.RepeatedCompositeFieldContainer[_records_pb2.Use]
    def __init__(self, request: _Optional[_Union[_records_pb2.AccessRequest, _Mapping]] = ..., grant: _Optional[_Union[_records_pb2.Grant, _Mapping]] = ..., revocation: _Optional[_Union[_records_pb2.Revocation, _Mapping]] = ..., uses: _Optional[_Iterable[_Union[_records_pb2.Use, _Mapping]]] = ...) -> None: ...

class ListAccessRequest(_message.Message):
    __slots__ = ("dataset", "state", "limit", "after")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    state: str
    limit: int
    after: str
    def __init__(self, dataset: _Optional[str] = ..., state: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListAccessResponse(_message.Message):
    __slots__ = ("requests", "next")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[_records_pb2.AccessRequest]
    next: str
    def __init__(self, requests: _Optional[_Iterable[_Union[_records_pb2.AccessRequest, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...
