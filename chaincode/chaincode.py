"""Our chaincode: every contract, under one dispatcher."""

from ..fabric.shim import ChaincodeError, ContractChaincode
from .access import AccessContract
from .consortium import ConsortiumContract
from .datasets import DatasetsContract
from .dispatch import Clock, refuse, system_clock
from .records import printable, refusals
from .settings import Settings
from .tokens import TokensContract
from .training import TrainingContract

CONTRACTS = (ConsortiumContract, DatasetsContract, AccessContract, TokensContract, TrainingContract)


class LedgerChaincode(ContractChaincode):
    """The contracts as one chaincode; the server's clock is read for the time window and nothing else."""

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        super().__init__(*(contract(settings, clock) for contract in CONTRACTS))

    def unknown_transaction(self, name: str) -> ChaincodeError:
        """A call that no contract knows, as a refusal of ours."""
        return refuse(refusals.UnknownTransaction("", f"there is no transaction {printable(name)}"))
