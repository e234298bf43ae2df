from fedfabric.gateway.v1 import records_pb2 as _records_pb2
from fedfabric.gateway.v1 import transactions_pb2 as _transactions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowJobRequest(_message.Message):
    __slots__ = ("id", "first_round")
    ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROUND_FIELD_NUMBER: _ClassVar[int]
    id: str
    first_round: int
    def __init__(self, id: _Optional[str] = ..., first_round: _Optional[int] = ...) -> None: ...

class JobReport(_message.Message):
    __slots__ = ("job", "decisions", "rounds", "block_number")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    job: _records_pb2.Job
    decisions: _containers.RepeatedCompositeFieldContainer[_records_pb2.Decision]
    rounds: _containers.RepeatedCompositeFieldContainer[RoundReport]
    block_number: int
    def __init__(self, job: _Optional[_Union[_records_pb2.Job, _Mapping]] = ..., decisions: _Optional[_Iterable[_Union[_records_pb2.Decision, _Mapping]]] = ..., rounds: _Optional[_Iterable[_Union[RoundReport, _Mapping]]] = ..., block_number: _Optional[int] = ...) -> None: ...

class RoundReport(_message.Message):
    __slots__ = ("round", "updates", "attestations", "metrics", "timing", "opened_ms", "closed_ms", "ended_ms", "own_failure")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    OPENED_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    OWN_FAILURE_FIELD_NUMBER: _ClassVar[int]
    round: _records_pb2.Round
    updates: _containers.RepeatedCompositeFieldContainer[_records_pb2.Update]
    attestations: _containers.RepeatedCompositeFieldContainer[_records_pb2.Attestation]
    metrics: _containers.ScalarMap[str, int]
    timing: RoundTiming
    opened_ms: int
    closed_ms: int
    ended_ms: int
    own_failure: str
    def __init__(self, round: _Optional[_Union[_records_pb2.Round, _Mapping]] = ..., updates: _Optional[_Iterable[_Union[_records_pb2.Update, _Mapping]]] = ..., attestations: _Optional[_Iterable[_Union[_records_pb2.Attestation, _Mapping]]] = ..., metrics: _Optional[_Mapping[str, int]] = ..., timing: _Optional[_Union[RoundTiming, _Mapping]] = ..., opened_ms: _Optional[int] = ..., closed_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., own_failure: _Optional[str] = ...) -> None: ...

class RoundTiming(_message.Message):
    __slots__ = ("training_us", "ledger_us", "transfer_us", "aggregation_us", "evaluation_us")
    TRAINING_US_FIELD_NUMBER: _ClassVar[int]
    LEDGER_US_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_US_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_US_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_US_FIELD_NUMBER: _ClassVar[int]
    training_us: int
    ledger_us: int
    transfer_us: int
    aggregation_us: int
    evaluation_us: int
    def __init__(self, training_us: _Optional[int] = ..., ledger_us: _Optional[int] = ..., transfer_us: _Optional[int] = ..., aggregation_us: _Optional[int] = ..., evaluation_us: _Optional[int] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("state", "limit", "after")
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    state: str
    limit: int
    after: str
    def __init__(self, state: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[_records_pb2.Job]
    next: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[_records_pb2.Job, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class JobReview(_message.Message):
    __slots__ = ("report", "digest")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    report: JobReport
    digest: str
    def __init__(self, report: _Optional[_Union[JobReport, _Mapping]] = ..., digest: _Optional[str] = ...) -> None: ...
