from fedfabric.gateway.v1 import records_pb2 as _records_pb2
from fedfabric.gateway.v1 import transactions_pb2 as _transactions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowDatasetRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("query", "retired", "limit", "after")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    query: str
    retired: bool
    limit: int
    after: str
    def __init__(self, query: _Optional[str] = ..., retired: bool = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[_records_pb2.Dataset]
    next: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[_records_pb2.Dataset, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("opening", "piece", "end")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    opening: UploadOpening
    piece: bytes
    end: UploadEnd
    def __init__(self, opening: _Optional[_Union[UploadOpening, _Mapping]] = ..., piece: _Optional[bytes] = ..., end: _Optional[_Union[UploadEnd, _Mapping]] = ...) -> None: ...

class UploadOpening(_message.Message):
    __slots__ = ("upload_id", "size", "kind")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    size: int
    kind: str
    def __init__(self, upload_id: _Optional[str] = ..., size: _Optional[int] = ..., kind: _Optional[str] = ...) -> None: ...

class UploadEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("position", "stored")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    position: UploadPosition
    stored: _records_pb2.Blob
    def __init__(self, position: _Optional[_Union[UploadPosition, _Mapping]] = ..., stored: _Optional[_Union[_records_pb2.Blob, _Mapping]] = ...) -> None: ...

class UploadPosition(_message.Message):
    __slots__ = ("upload_id", "position")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    position: int
    def __init__(self, upload_id: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...
