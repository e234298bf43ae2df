"""An asyncio client of the Gateway service of Hyperledger Fabric's peers, with the official clients' object model.

    async with open_channel("localhost:7051", roots) as channel:
        gateway = connect(channel, Identity("Org1MSP", certificate), private_key_signer(key))
        contract = gateway.network("mychannel").contract("basic")
        await contract.submit("CreateAsset", "asset1", "blue")

A proposal, once endorsed, is a transaction; a transaction, once submitted, is a commit; a commit has a status.
"""

from ..identity import Identity, Signer, private_key_signer
from .block_events import BlockAndPrivateDataEventsRequest, BlockEventsRequest, FilteredBlockEventsRequest
from .chaincode_events import ChaincodeEvent, ChaincodeEventsRequest
from .channels import open_channel
from .checkpoints import (
    Checkpoint,
    Checkpointer,
    CheckpointError,
    FileCheckpointer,
    InMemoryCheckpointer,
    Position,
)
from .commit import Commit, Status
from .contract import BeforeSubmit, Contract
from .deadlines import Deadlines
from .errors import (
    ClientError,
    CommitError,
    CommitStatusError,
    EndorseError,
    ForeignTransactionError,
    GatewayError,
    MalformedError,
    PeerDetail,
    Refusal,
    SubmitError,
    UnsignedError,
)
from .events import Events
from .gateway import Gateway, connect
from .network import Network
from .proposal import Proposal
from .retries import NO_RETRIES, Retries
from .transaction import Transaction
from .validation_codes import ValidationCode

__all__ = [
    "NO_RETRIES",
    "BeforeSubmit",
    "BlockAndPrivateDataEventsRequest",
    "BlockEventsRequest",
    "ChaincodeEvent",
    "ChaincodeEventsRequest",
    "Checkpoint",
    "CheckpointError",
    "Checkpointer",
    "ClientError",
    "Commit",
    "CommitError",
    "CommitStatusError",
    "Contract",
    "Deadlines",
    "EndorseError",
    "Events",
    "FileCheckpointer",
    "FilteredBlockEventsRequest",
    "ForeignTransactionError",
    "Gateway",
    "GatewayError",
    "Identity",
    "InMemoryCheckpointer",
    "MalformedError",
    "Network",
    "PeerDetail",
    "Position",
    "Proposal",
    "Refusal",
    "Retries",
    "Signer",
    "Status",
    "SubmitError",
    "Transaction",
    "UnsignedError",
    "ValidationCode",
    "connect",
    "open_channel",
    "private_key_signer",
]
