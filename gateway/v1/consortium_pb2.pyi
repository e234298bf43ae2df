from fedfabric.gateway.v1 import records_pb2 as _records_pb2
from fedfabric.gateway.v1 import transactions_pb2 as _transactions_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ShowConsortiumRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
