"""What an administrator asks of its organisation's peer: join channels, install, approve and commit chaincode.

Every call of Fabric's `peer channel` and `peer lifecycle chaincode` that a running network needs, over the peer's own
services and without its programs. Each step may be repeated: what is already so counts as done.
Source: Fabric's `core/chaincode/lifecycle/scc.go`, `core/scc/cscc`, `core/scc/qscc`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from fabric_protos.common import common_pb2, ledger_pb2, policies_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.peer import collection_pb2, peer_pb2_grpc, policy_pb2, query_pb2, transaction_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2
from google.protobuf.message import DecodeError, Message

from .blocks import validation_name
from .client.errors import SubmitError
from .proposals import EndorserProposal, assemble, propose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fabric_protos.peer import proposal_response_pb2

    from .identity import Identity, Signer
    from .packages import ChaincodePackage

_M = TypeVar("_M", bound=Message)
_OK: Final = 200
_LIFECYCLE: Final = "_lifecycle"
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
_LONGEST_TEXT: Final = 4000

CHANNEL_ENDORSEMENT: Final = "/Channel/Application/Endorsement"
"""The channel's own policy: a majority of the organisations, whoever they are by then."""


class LifecycleError(Exception):
    """A peer refused a step, or answered it in an unknown form.

    Attributes:
        step: the function that was called.
        text: the peer's own message, of which 4,000 characters are kept.
    """

    def __init__(self, step: str, text: str) -> None:
        text = text[:_LONGEST_TEXT]
        super().__init__(f"{step}: {text}")
        self.step = step
        self.text = text


class UnknownOutcomeError(LifecycleError):
    """A transaction was not seen committed in time; it may have been, or yet be. Doing the step again is safe."""


@dataclass(frozen=True)
class Definition:
    """A chaincode definition, as organisations approve it; all of them must approve the same.

    `endorsement` is the name of a policy of the channel or a signature rule.
    """

    name: str
    version: str
    sequence: int
    endorsement: str | policies_pb2.SignaturePolicyEnvelope = CHANNEL_ENDORSEMENT
    collections: collection_pb2.CollectionConfigPackage | None = None
    init_required: bool = False

    def fields(self) -> dict[str, object]:
        """Return what the arguments of approve, commit and readiness have in common."""
        policy = policy_pb2.ApplicationPolicy()
        if isinstance(self.endorsement, str):
            policy.channel_config_policy_reference = self.endorsement
        else:
            policy.signature_policy.CopyFrom(self.endorsement)
        return {
            "name": self.name,
            "version": self.version,
            "sequence": self.sequence,
            "endorsement_plugin": "escc",
            "validation_plugin": "vscc",
            "validation_parameter": policy.SerializeToString(),
            "collections": self.collections,
            "init_required": self.init_required,
        }


@dataclass(frozen=True)
class CommittedDefinition:
    """A definition that the channel holds, and which organisations (MSP ids) approved it."""

    name: str
    version: str
    sequence: int
    validation_parameter: bytes
    approvals: Mapping[str, bool]

    def is_of(self, definition: Definition) -> bool:
        """Whether this is what `definition` asks for."""
        wanted = definition.fields()
        return (self.name, self.version, self.sequence, self.validation_parameter) == (
            definition.name,
            definition.version,
            definition.sequence,
            wanted["validation_parameter"],
        )


class PeerAdministration:
    """One administrator at one peer, over a gRPC channel that stays the caller's.

    Every method raises LifecycleError where the peer refuses and grpc.aio.AioRpcError where it can't be reached;
    `approve` and `commit` raise UnknownOutcomeError where their transaction was not seen committed in time.
    `deadline_s` bounds each call, and the whole of each transaction.
    """

    def __init__(
        self, channel: grpc.aio.Channel, identity: Identity, signer: Signer, *, deadline_s: float = 30
    ) -> None:
        self._identity = identity
        self._signer = signer
        self._deadline_s = deadline_s
        self._endorser = peer_pb2_grpc.EndorserStub(channel)
        self._gateway = gateway_pb2_grpc.GatewayStub(channel)

    async def join(self, block: bytes) -> None:
        """Join the peer to the channel of a genesis block."""
        try:
            await self._query("cscc", "JoinChain", block)
        except LifecycleError as error:
            if "already exists" not in error.text:
                raise

    async def channels(self) -> tuple[str, ...]:
        """Return the channels that the peer has joined, sorted."""
        answer = _parsed(query_pb2.ChannelQueryResponse, await self._query("cscc", "GetChannels"), "GetChannels")
        return tuple(sorted(one.channel_id for one in answer.channels))

    async def configuration_block(self, channel_name: str) -> common_pb2.Block:
        """Return the channel's latest configuration block, as this peer has it."""
        answer = await self._query("cscc", "GetConfigBlock", channel_name.encode())
        return _parsed(common_pb2.Block, answer, "GetConfigBlock")

    async def height(self, channel_name: str) -> int:
        """Return how many blocks of the channel the peer has.

        The peer of a newcomer refuses ("access denied") until it has the block that admits its organisation.
        """
        answer = await self._query("qscc", "GetChainInfo", channel_name.encode())
        return int(_parsed(ledger_pb2.BlockchainInfo, answer, "GetChainInfo").height)

    async def block(self, channel_name: str, number: int) -> common_pb2.Block:
        """Return one block, with this peer's validation flags."""
        answer = await self._query("qscc", "GetBlockByNumber", channel_name.encode(), str(number).encode())
        return _parsed(common_pb2.Block, answer, "GetBlockByNumber")

    async def install(self, package: ChaincodePackage) -> str:
        """Install a package and return its id, which the peer must compute to the same."""
        arguments = lifecycle_pb2.InstallChaincodeArgs(chaincode_install_package=package.data)
        try:
            answer = await self._lifecycle("InstallChaincode", arguments)
        except LifecycleError as error:
            if "already successfully installed" not in error.text:
                raise
            return package.package_id
        installed = _parsed(lifecycle_pb2.InstallChaincodeResult, answer, "InstallChaincode").package_id
        if installed != package.package_id:
            raise LifecycleError("InstallChaincode", f"the peer calls {package.package_id} {installed}")
        return package.package_id

    async def installed(self) -> tuple[str, ...]:
        """Return the ids of the packages that are installed, sorted."""
        answer = await self._lifecycle("QueryInstalledChaincodes", lifecycle_pb2.QueryInstalledChaincodesArgs())
        listed = _parsed(lifecycle_pb2.QueryInstalledChaincodesResult, answer, "QueryInstalledChaincodes")
        return tuple(sorted(one.package_id for one in listed.installed_chaincodes))

    async def approve(self, channel_name: str, definition: Definition, package_id: str) -> None:
        """Approve a definition for this organisation, run from this package; returns when it is committed."""
        arguments = lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs(**definition.fields())
        arguments.source.local_package.package_id = package_id
        step = "ApproveChaincodeDefinitionForMyOrg"
        proposal = self._proposal(_LIFECYCLE, (step.encode(), arguments.SerializeToString()), channel_name)
        try:
            response = await self.endorse(proposal, step)
        except LifecycleError as error:
            if "with unchanged content" not in error.text:
                raise
            return
        await self._submit(proposal, [response], step)

    async def readiness(self, channel_name: str, definition: Definition) -> Mapping[str, bool]:
        """Return which organisations (MSP ids) have approved exactly this definition."""
        arguments = lifecycle_pb2.CheckCommitReadinessArgs(**definition.fields())
        answer = await self._lifecycle("CheckCommitReadiness", arguments, channel_name)
        result = _parsed(lifecycle_pb2.CheckCommitReadinessResult, answer, "CheckCommitReadiness")
        return MappingProxyType(dict(result.approvals))

    async def commit(
        self, channel_name: str, definition: Definition, others: Sequence[PeerAdministration] = ()
    ) -> None:
        """Commit a definition, endorsed by this peer and by those of `others`; returns when it is committed.

        The peers must be enough for the channel's policy LifecycleEndorsement.
        """
        step = "CommitChaincodeDefinition"
        present = await self.committed(channel_name, definition.name)
        if present is not None and present.is_of(definition):
            return
        arguments = lifecycle_pb2.CommitChaincodeDefinitionArgs(**definition.fields())
        proposal = self._proposal(_LIFECYCLE, (step.encode(), arguments.SerializeToString()), channel_name)
        answers = await asyncio.gather(
            *(peer.endorse(proposal, step) for peer in (self, *others)), return_exceptions=True
        )
        responses = []
        for answer in answers:  # all are awaited before the first failure is raised
            if isinstance(answer, BaseException):
                raise answer
            responses.append(answer)
        await self._submit(proposal, responses, step)

    async def committed(self, channel_name: str, name: str) -> CommittedDefinition | None:
        """Return the definition that the channel holds under a name, None where there is none."""
        arguments = lifecycle_pb2.QueryChaincodeDefinitionArgs(name=name)
        try:
            answer = await self._lifecycle("QueryChaincodeDefinition", arguments, channel_name)
        except LifecycleError as error:
            if "is not defined" not in error.text:
                raise
            return None
        found = _parsed(lifecycle_pb2.QueryChaincodeDefinitionResult, answer, "QueryChaincodeDefinition")
        return CommittedDefinition(
            name, found.version, found.sequence, found.validation_parameter, MappingProxyType(dict(found.approvals))
        )

    async def endorse(self, proposal: EndorserProposal, step: str) -> proposal_response_pb2.ProposalResponse:
        """Have this peer endorse a proposal, whoever signed it; `step` names it in the error."""
        response = await self._endorser.ProcessProposal(proposal.signed, timeout=self._deadline_s)
        if response.response.status != _OK:
            raise LifecycleError(step, response.response.message or f"status {response.response.status}")
        return response

    def _proposal(self, chaincode: str, arguments: Sequence[bytes], channel_name: str = "") -> EndorserProposal:
        return propose(self._identity, self._signer, chaincode, arguments, channel_name=channel_name)

    async def _lifecycle(self, function: str, arguments: Message, channel_name: str = "") -> bytes:
        call = (function.encode(), arguments.SerializeToString())
        response = await self.endorse(self._proposal(_LIFECYCLE, call, channel_name), function)
        return bytes(response.response.payload)

    async def _query(self, chaincode: str, function: str, *arguments: bytes) -> bytes:
        response = await self.endorse(self._proposal(chaincode, (function.encode(), *arguments)), function)
        return bytes(response.response.payload)

    async def _submit(
        self,
        proposal: EndorserProposal,
        responses: Sequence[proposal_response_pb2.ProposalResponse],
        step: str,
    ) -> None:
        envelope = assemble(proposal, responses, self._signer)
        request = gateway_pb2.SubmitRequest(
            transaction_id=proposal.transaction_id,
            channel_id=proposal.channel_name,
            prepared_transaction=envelope,
        )
        asked = gateway_pb2.CommitStatusRequest(
            transaction_id=proposal.transaction_id,
            channel_id=proposal.channel_name,
            identity=self._identity.serialized(),
        ).SerializeToString()
        try:
            async with asyncio.timeout(
                self._deadline_s
            ):  # which cancels the calls in it, so they need none of their own
                await self._send(request)
                status = await self._gateway.CommitStatus(
                    gateway_pb2.SignedCommitStatusRequest(request=asked, signature=self._signer(asked))
                )
        except TimeoutError as error:
            raise UnknownOutcomeError(
                step,
                f"transaction {proposal.transaction_id} was not seen committed in {self._deadline_s:g} s, and may yet "
                "be: do the step again, and see the orderers' logs if that does not help",
            ) from error
        if status.result != transaction_pb2.VALID:
            raise LifecycleError(step, f"transaction {proposal.transaction_id} is {validation_name(status.result)}")

    async def _send(self, request: gateway_pb2.SubmitRequest) -> None:
        """Hand a transaction to the orderers, anew while they have no leader yet (the same envelope, so it is safe).

        Orderers that say that they have it already have taken it.
        """
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await self._gateway.Submit(request)
            except grpc.aio.AioRpcError as error:
                refused = SubmitError.from_rpc(request.transaction_id, error)
                if isinstance(refused, SubmitError) and refused.already_ordered:
                    return
                if error.code() is not grpc.StatusCode.UNAVAILABLE and "SERVICE_UNAVAILABLE" not in str(
                    error.details()
                ):
                    raise
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _parsed(kind: type[_M], data: bytes, step: str) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise LifecycleError(step, f"the answer is not a {kind.DESCRIPTOR.full_name}") from error
