from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Blob(_message.Message):
    __slots__ = ("address", "digest", "size")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    address: str
    digest: str
    size: int
    def __init__(self, address: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("msp", "gateway", "hpke_key", "roles")
    MSP_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    HPKE_KEY_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    msp: str
    gateway: str
    hpke_key: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, msp: _Optional[str] = ..., gateway: _Optional[str] = ..., hpke_key: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class ConsortiumChange(_message.Message):
    __slots__ = ("sequence", "members", "window_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    window_ms: int
    def __init__(self, sequence: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., window_ms: _Optional[int] = ...) -> None: ...

class Consortium(_message.Message):
    __slots__ = ("sequence", "members", "window_ms", "approvers")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    APPROVERS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    window_ms: int
    approvers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., window_ms: _Optional[int] = ..., approvers: _Optional[_Iterable[str]] = ...) -> None: ...

class ConsortiumApproval(_message.Message):
    __slots__ = ("msp", "digest", "change")
    MSP_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    msp: str
    digest: str
    change: ConsortiumChange
    def __init__(self, msp: _Optional[str] = ..., digest: _Optional[str] = ..., change: _Optional[_Union[ConsortiumChange, _Mapping]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class DatasetTerms(_message.Message):
    __slots__ = ("title", "description", "blob", "columns", "samples", "licence", "purposes", "retention_days", "jurisdiction", "price")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    RETENTION_DAYS_FIELD_NUMBER: _ClassVar[int]
    JURISDICTION_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    title: str
    description: str
    blob: Blob
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    samples: int
    licence: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    retention_days: int
    jurisdiction: str
    price: str
    def __init__(self, title: _Optional[str] = ..., description: _Optional[str] = ..., blob: _Optional[_Union[Blob, _Mapping]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., samples: _Optional[int] = ..., licence: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., retention_days: _Optional[int] = ..., jurisdiction: _Optional[str] = ..., price: _Optional[str] = ...) -> None: ...

class RegisterDataset(_message.Message):
    __slots__ = ("name", "terms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    terms: DatasetTerms
    def __init__(self, name: _Optional[str] = ..., terms: _Optional[_Union[DatasetTerms, _Mapping]] = ...) -> None: ...

class UpdateDataset(_message.Message):
    __slots__ = ("id", "version", "terms")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: int
    terms: DatasetTerms
    def __init__(self, id: _Optional[str] = ..., version: _Optional[int] = ..., terms: _Optional[_Union[DatasetTerms, _Mapping]] = ...) -> None: ...

class RetireDataset(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("id", "owner", "version", "state", "terms")
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    id: str
    owner: str
    version: int
    state: str
    terms: DatasetTerms
    def __init__(self, id: _Optional[str] = ..., owner: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., terms: _Optional[_Union[DatasetTerms, _Mapping]] = ...) -> None: ...

class RequestAccess(_message.Message):
    __slots__ = ("id", "dataset", "version", "purpose", "payer", "inputs", "note")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PAYER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    id: str
    dataset: str
    version: int
    purpose: str
    payer: str
    inputs: _containers.RepeatedCompositeFieldContainer[TokenInput]
    note: str
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[int] = ..., purpose: _Optional[str] = ..., payer: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TokenInput, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class GrantAccess(_message.Message):
    __slots__ = ("id", "expires_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    expires_ms: int
    def __init__(self, id: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class RevokeAccess(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class WithdrawAccess(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class AccessRequest(_message.Message):
    __slots__ = ("id", "requester", "dataset", "owner", "version", "digest", "purpose", "price", "payer", "escrow", "note", "state", "expires_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PAYER_FIELD_NUMBER: _ClassVar[int]
    ESCROW_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    requester: str
    dataset: str
    owner: str
    version: int
    digest: str
    purpose: str
    price: str
    payer: str
    escrow: TokenRef
    note: str
    state: str
    expires_ms: int
    def __init__(self, id: _Optional[str] = ..., requester: _Optional[str] = ..., dataset: _Optional[str] = ..., owner: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., purpose: _Optional[str] = ..., price: _Optional[str] = ..., payer: _Optional[str] = ..., escrow: _Optional[_Union[TokenRef, _Mapping]] = ..., note: _Optional[str] = ..., state: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("request", "owner", "requester", "dataset", "version", "digest", "purpose", "expires_ms")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    request: str
    owner: str
    requester: str
    dataset: str
    version: int
    digest: str
    purpose: str
    expires_ms: int
    def __init__(self, request: _Optional[str] = ..., owner: _Optional[str] = ..., requester: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., purpose: _Optional[str] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("request", "owner", "reason")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request: str
    owner: str
    reason: str
    def __init__(self, request: _Optional[str] = ..., owner: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Use(_message.Message):
    __slots__ = ("request", "owner", "operation", "detail")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    request: str
    owner: str
    operation: str
    detail: str
    def __init__(self, request: _Optional[str] = ..., owner: _Optional[str] = ..., operation: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class TokenRef(_message.Message):
    __slots__ = ("owner", "tx", "n")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    owner: str
    tx: str
    n: int
    def __init__(self, owner: _Optional[str] = ..., tx: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class TokenInput(_message.Message):
    __slots__ = ("tx", "n")
    TX_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    tx: str
    n: int
    def __init__(self, tx: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("owner", "tx", "n", "amount")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TX_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    tx: str
    n: int
    amount: str
    def __init__(self, owner: _Optional[str] = ..., tx: _Optional[str] = ..., n: _Optional[int] = ..., amount: _Optional[str] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("owner", "amount")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    amount: str
    def __init__(self, owner: _Optional[str] = ..., amount: _Optional[str] = ...) -> None: ...

class MintRequest(_message.Message):
    __slots__ = ("id", "owner", "amount")
    ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    id: str
    owner: str
    amount: str
    def __init__(self, id: _Optional[str] = ..., owner: _Optional[str] = ..., amount: _Optional[str] = ...) -> None: ...

class MintApproval(_message.Message):
    __slots__ = ("msp", "mint")
    MSP_FIELD_NUMBER: _ClassVar[int]
    MINT_FIELD_NUMBER: _ClassVar[int]
    msp: str
    mint: MintRequest
    def __init__(self, msp: _Optional[str] = ..., mint: _Optional[_Union[MintRequest, _Mapping]] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("owner", "inputs", "outputs")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    owner: str
    inputs: _containers.RepeatedCompositeFieldContainer[TokenInput]
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, owner: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TokenInput, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class Balance(_message.Message):
    __slots__ = ("owner", "total", "tokens")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    owner: str
    total: str
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, owner: _Optional[str] = ..., total: _Optional[str] = ..., tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class ServerOptimizer(_message.Message):
    __slots__ = ("name", "parameters")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameters: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DatasetUse(_message.Message):
    __slots__ = ("dataset", "version", "grant")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: int
    grant: str
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[int] = ..., grant: _Optional[str] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("bundle", "model", "algorithm", "optimizer", "clip", "privacy", "rounds", "approval_ms", "update_ms", "attest_ms")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEST_MS_FIELD_NUMBER: _ClassVar[int]
    bundle: Blob
    model: Blob
    algorithm: str
    optimizer: ServerOptimizer
    clip: str
    privacy: str
    rounds: int
    approval_ms: int
    update_ms: int
    attest_ms: int
    def __init__(self, bundle: _Optional[_Union[Blob, _Mapping]] = ..., model: _Optional[_Union[Blob, _Mapping]] = ..., algorithm: _Optional[str] = ..., optimizer: _Optional[_Union[ServerOptimizer, _Mapping]] = ..., clip: _Optional[str] = ..., privacy: _Optional[str] = ..., rounds: _Optional[int] = ..., approval_ms: _Optional[int] = ..., update_ms: _Optional[int] = ..., attest_ms: _Optional[int] = ...) -> None: ...

class SubmitJob(_message.Message):
    __slots__ = ("id", "title", "plan", "datasets", "budget", "payer", "inputs")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PAYER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    plan: Plan
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetUse]
    budget: str
    payer: str
    inputs: _containers.RepeatedCompositeFieldContainer[TokenInput]
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., datasets: _Optional[_Iterable[_Union[DatasetUse, _Mapping]]] = ..., budget: _Optional[str] = ..., payer: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TokenInput, _Mapping]]] = ...) -> None: ...

class DecideJob(_message.Message):
    __slots__ = ("job", "digest", "privacy", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    digest: str
    privacy: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., digest: _Optional[str] = ..., privacy: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AddOwner(_message.Message):
    __slots__ = ("job", "dataset")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    job: str
    dataset: DatasetUse
    def __init__(self, job: _Optional[str] = ..., dataset: _Optional[_Union[DatasetUse, _Mapping]] = ...) -> None: ...

class JobRef(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class Owner(_message.Message):
    __slots__ = ("msp", "dataset", "version", "digest", "samples", "grant", "late")
    MSP_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    msp: str
    dataset: str
    version: int
    digest: str
    samples: int
    grant: str
    late: bool
    def __init__(self, msp: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., samples: _Optional[int] = ..., grant: _Optional[str] = ..., late: bool = ...) -> None: ...

class JobTerms(_message.Message):
    __slots__ = ("id", "submitter", "title", "plan", "owners", "budget", "payer")
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PAYER_FIELD_NUMBER: _ClassVar[int]
    id: str
    submitter: str
    title: str
    plan: Plan
    owners: _containers.RepeatedCompositeFieldContainer[Owner]
    budget: str
    payer: str
    def __init__(self, id: _Optional[str] = ..., submitter: _Optional[str] = ..., title: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., owners: _Optional[_Iterable[_Union[Owner, _Mapping]]] = ..., budget: _Optional[str] = ..., payer: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "digest", "terms", "owners", "state", "round", "rounds_final", "submitted_ms", "approve_until_ms", "window_ms", "escrow", "escrowed", "paid", "model", "optimizer_state", "stopping", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FINAL_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_MS_FIELD_NUMBER: _ClassVar[int]
    APPROVE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    ESCROW_FIELD_NUMBER: _ClassVar[int]
    ESCROWED_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_STATE_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    digest: str
    terms: JobTerms
    owners: _containers.RepeatedCompositeFieldContainer[Owner]
    state: str
    round: int
    rounds_final: int
    submitted_ms: int
    approve_until_ms: int
    window_ms: int
    escrow: TokenRef
    escrowed: str
    paid: str
    model: Blob
    optimizer_state: Blob
    stopping: bool
    reason: str
    def __init__(self, id: _Optional[str] = ..., digest: _Optional[str] = ..., terms: _Optional[_Union[JobTerms, _Mapping]] = ..., owners: _Optional[_Iterable[_Union[Owner, _Mapping]]] = ..., state: _Optional[str] = ..., round: _Optional[int] = ..., rounds_final: _Optional[int] = ..., submitted_ms: _Optional[int] = ..., approve_until_ms: _Optional[int] = ..., window_ms: _Optional[int] = ..., escrow: _Optional[_Union[TokenRef, _Mapping]] = ..., escrowed: _Optional[str] = ..., paid: _Optional[str] = ..., model: _Optional[_Union[Blob, _Mapping]] = ..., optimizer_state: _Optional[_Union[Blob, _Mapping]] = ..., stopping: bool = ..., reason: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("job", "msp", "verdict", "digest", "dataset", "version", "privacy", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    MSP_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    msp: str
    verdict: str
    digest: str
    dataset: str
    version: int
    privacy: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., msp: _Optional[str] = ..., verdict: _Optional[str] = ..., digest: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[int] = ..., privacy: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CohortMember(_message.Message):
    __slots__ = ("msp", "dataset", "version", "grant", "samples")
    MSP_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    msp: str
    dataset: str
    version: int
    grant: str
    samples: int
    def __init__(self, msp: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[int] = ..., grant: _Optional[str] = ..., samples: _Optional[int] = ...) -> None: ...

class AttestationSummary(_message.Message):
    __slots__ = ("msp", "outcome", "accept")
    MSP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    msp: str
    outcome: str
    accept: bool
    def __init__(self, msp: _Optional[str] = ..., outcome: _Optional[str] = ..., accept: bool = ...) -> None: ...

class Payment(_message.Message):
    __slots__ = ("msp", "parts", "amount")
    MSP_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    msp: str
    parts: int
    amount: str
    def __init__(self, msp: _Optional[str] = ..., parts: _Optional[int] = ..., amount: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("digest", "model", "state", "summed")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUMMED_FIELD_NUMBER: _ClassVar[int]
    digest: str
    model: Blob
    state: Blob
    summed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digest: _Optional[str] = ..., model: _Optional[_Union[Blob, _Mapping]] = ..., state: _Optional[_Union[Blob, _Mapping]] = ..., summed: _Optional[_Iterable[str]] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("job", "number", "attempt", "state", "cohort", "total_samples", "quorum", "model", "optimizer_state", "window_ms", "opened_ms", "update_until_ms", "attest_until_ms", "counted", "outcome", "attestations", "payments", "reason", "withheld")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_STATE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    OPENED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEST_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    job: str
    number: int
    attempt: int
    state: str
    cohort: _containers.RepeatedCompositeFieldContainer[CohortMember]
    total_samples: int
    quorum: int
    model: Blob
    optimizer_state: Blob
    window_ms: int
    opened_ms: int
    update_until_ms: int
    attest_until_ms: int
    counted: _containers.RepeatedScalarFieldContainer[str]
    outcome: Outcome
    attestations: _containers.RepeatedCompositeFieldContainer[AttestationSummary]
    payments: _containers.RepeatedCompositeFieldContainer[Payment]
    reason: str
    withheld: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., number: _Optional[int] = ..., attempt: _Optional[int] = ..., state: _Optional[str] = ..., cohort: _Optional[_Iterable[_Union[CohortMember, _Mapping]]] = ..., total_samples: _Optional[int] = ..., quorum: _Optional[int] = ..., model: _Optional[_Union[Blob, _Mapping]] = ..., optimizer_state: _Optional[_Union[Blob, _Mapping]] = ..., window_ms: _Optional[int] = ..., opened_ms: _Optional[int] = ..., update_until_ms: _Optional[int] = ..., attest_until_ms: _Optional[int] = ..., counted: _Optional[_Iterable[str]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., attestations: _Optional[_Iterable[_Union[AttestationSummary, _Mapping]]] = ..., payments: _Optional[_Iterable[_Union[Payment, _Mapping]]] = ..., reason: _Optional[str] = ..., withheld: _Optional[_Iterable[str]] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("job", "round", "attempt", "msp", "blob", "samples", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MSP_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    job: str
    round: int
    attempt: int
    msp: str
    blob: Blob
    samples: int
    metrics: _containers.ScalarMap[str, int]
    def __init__(self, job: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., msp: _Optional[str] = ..., blob: _Optional[_Union[Blob, _Mapping]] = ..., samples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Attestation(_message.Message):
    __slots__ = ("job", "round", "attempt", "msp", "outcome", "accept", "samples", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MSP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    job: str
    round: int
    attempt: int
    msp: str
    outcome: Outcome
    accept: bool
    samples: int
    metrics: _containers.ScalarMap[str, int]
    def __init__(self, job: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., msp: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., accept: bool = ..., samples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, int]] = ...) -> None: ...
