"""Every transaction of every block: who signed and endorsed it, what it read, and whether the contracts agree."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from fabric_protos.common import common_pb2
from fabric_protos.peer import policy_pb2
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2
from google.protobuf.message import DecodeError

from ..chaincode.dispatch import ROLE_ATTRIBUTE
from ..chaincode.records import printable
from ..fabric.blocks import Version
from ..fabric.identity import Identity, InvalidIdentityError, WrongSignatureError, verify
from ..fabric.membership import MembershipError
from ..fabric.policy_evaluation import UnknownPolicyError
from .links import describe_key, describe_transaction
from .replay import Replayer
from .report import Check, Findings
from .state import State, Writer

if TYPE_CHECKING:
    from ..fabric.blocks import Action, Block, NamespaceAccess, Transaction
    from ..fabric.policy_evaluation import ChannelPolicies

LIFECYCLE: Final = "_lifecycle"
_LIFECYCLE_POLICY: Final = "/Channel/Application/LifecycleEndorsement"
_IMPLICIT: Final = "_implicit_org_"
_LOWEST_REFUSAL: Final = 400


class TransactionAuditor:
    """Takes the transactions of blocks in their order; keeps the state of one chaincode and its endorsement policy."""

    def __init__(self, chaincode: str, state: State, findings: Findings) -> None:
        self._chaincode = chaincode
        self._state = state
        self._findings = findings
        self._replayer = Replayer(state)
        self._policy: policy_pb2.ApplicationPolicy | None = None

    def take(self, block: Block, transaction: Transaction, policies: ChannelPolicies, channel: str) -> Writer | None:
        """Check one transaction; return its writer if it is a valid one of our chaincode, whose writes now hold."""
        link = describe_transaction(block.number, transaction)
        if not self._check_form(transaction, channel, link):
            return None
        role = self._check_creator(block, transaction, policies, link)
        if not transaction.is_valid or transaction.action is None:
            return None
        action = transaction.action
        for access in action.accesses:
            self._check_endorsements(action, access, policies, link)
        lifecycle = action.access(LIFECYCLE)
        if lifecycle is not None and action.chaincode == LIFECYCLE:
            self._take_definition(lifecycle, link)
        ours = action.access(self._chaincode)
        if ours is None and action.chaincode != self._chaincode:
            return None
        if not self._state.first_use(transaction.transaction_id):
            self._findings.broken(Check.VERSIONS, link, "a transaction of this id was valid before")
        if ours is not None:
            self._check_versions(ours, link)
        self._check_contract(transaction, action, ours, link)
        return Writer(
            version=Version(block.number, transaction.number),
            transaction_id=transaction.transaction_id,
            msp=transaction.creator.msp_id if transaction.creator else "",
            role=role,
            function=printable(action.arguments[0].decode("utf-8", "replace")) if action.arguments else "",
            time_ms=transaction.timestamp_ms,
        )

    def _check_form(self, transaction: Transaction, channel: str, link: str) -> bool:
        """Return whether a transaction can be read and is for this channel; a valid one must."""
        if transaction.flaw:
            self._broken_if_valid(transaction, Check.CHAIN, link, f"marked valid, but {transaction.flaw}")
            return False
        if transaction.channel_name != channel:
            text = f"is for channel {printable(transaction.channel_name)}"
            self._broken_if_valid(transaction, Check.CREATORS, link, text)
            return False
        return True

    def apply(self, access: NamespaceAccess, writer: Writer) -> None:
        """Put a valid transaction's writes into the state."""
        for write in access.writes:
            if write.is_delete or not write.value:
                self._state.delete(write.key)
            else:
                self._state.put(write.key, write.value, writer)

    def _check_creator(self, block: Block, transaction: Transaction, policies: ChannelPolicies, link: str) -> str:
        """Check the creator's certificate and signature; return the certificate's role in the consortium."""
        if block.number == 0:
            return ""  # the genesis configuration is nobody's: its hash is what is trusted
        self._findings.made(Check.CREATORS)
        creator = transaction.creator
        if creator is None:
            self._broken_if_valid(transaction, Check.CREATORS, link, "nobody has signed it")
            return ""
        try:
            policies.member(creator.msp_id).role(creator)
            verify(creator.certificate, transaction.payload, transaction.signature)
            role = creator.attributes().get(ROLE_ATTRIBUTE, "")
        except MembershipError as error:
            self._broken_if_valid(transaction, Check.CREATORS, link, f"the creator's certificate: {error}")
            return ""
        except (InvalidIdentityError, WrongSignatureError) as error:
            self._broken_if_valid(transaction, Check.CREATORS, link, f"the creator's signature: {error}")
            return ""
        if transaction.kind == common_pb2.ENDORSER_TRANSACTION:
            expected = hashlib.sha256(transaction.nonce + transaction.creator_bytes).hexdigest()
            if transaction.transaction_id != expected:
                self._broken_if_valid(
                    transaction, Check.CREATORS, link, "its id is not the hash of its nonce and creator"
                )
        return role

    def _broken_if_valid(self, transaction: Transaction, check: Check, link: str, text: str) -> None:
        # Anybody who may write can have rubbish ordered; peers mark it, and it does nothing.
        if transaction.is_valid:
            self._findings.broken(check, link, text)

    def _check_endorsements(
        self, action: Action, access: NamespaceAccess, policies: ChannelPolicies, link: str
    ) -> None:
        if access.namespace not in (self._chaincode, LIFECYCLE):
            return
        if not (access.writes or access.policy_writes or access.collections or access.namespace == action.chaincode):
            return
        self._findings.made(Check.ENDORSEMENTS)
        if action.proposal_hash != action.expected_proposal_hash:
            self._findings.broken(
                Check.ENDORSEMENTS, link, "the endorsed result answers another proposal than the one in the transaction"
            )
        signers: list[Identity] = []
        faults = []
        for endorsement in action.endorsements:
            try:
                verify(
                    endorsement.endorser.certificate, action.result + endorsement.endorser_bytes, endorsement.signature
                )
            except (InvalidIdentityError, WrongSignatureError) as error:
                faults.append(f"{printable(endorsement.endorser.msp_id)}: {error}")
            else:
                signers.append(endorsement.endorser)
        try:
            missing = self._missing(access, policies, signers)
        except UnknownPolicyError as error:
            missing = str(error)
        if missing:
            because = f" ({'; '.join(faults[:4])})" if faults else ""
            names = ", ".join(sorted({printable(signer.msp_id) for signer in signers})) or "nobody"
            self._findings.broken(
                Check.ENDORSEMENTS, link, f"endorsed by {names}, which does not satisfy {missing}{because}"
            )
        if access.policy_writes:
            self._findings.broken(
                Check.ENDORSEMENTS,
                link,
                f"gives the {describe_key(access.policy_writes[0])} a policy of its own, which no contract does",
            )

    def _missing(self, access: NamespaceAccess, policies: ChannelPolicies, signers: list[Identity]) -> str:
        """Return the name of a policy that the endorsers do not satisfy, "" if they satisfy all."""
        if access.writes or not access.collections:
            missing = self._missing_for_public(access.namespace, policies, signers)
            if missing:
                return missing
        for collection in access.collections:
            if collection.writes and collection.collection.startswith(_IMPLICIT):
                path = f"/Channel/Application/{collection.collection.removeprefix(_IMPLICIT)}/Endorsement"
                if not policies.satisfied(path, signers):
                    return path
        return ""

    def _missing_for_public(self, namespace: str, policies: ChannelPolicies, signers: list[Identity]) -> str:
        if namespace == LIFECYCLE:
            return "" if policies.satisfied(_LIFECYCLE_POLICY, signers) else _LIFECYCLE_POLICY
        if self._policy is None:
            return f"any policy: {self._chaincode} has no committed definition"
        if self._policy.WhichOneof("Type") == "signature_policy":
            rule = self._policy.signature_policy
            return "" if policies.rule_satisfied(rule, signers) else "the signature rule of the chaincode's definition"
        path = str(self._policy.channel_config_policy_reference)
        return "" if policies.satisfied(path, signers) else path

    def _take_definition(self, access: NamespaceAccess, link: str) -> None:
        """Keep the chaincode's endorsement policy when a definition is committed."""
        key = f"namespaces/fields/{self._chaincode}/ValidationInfo"
        for write in access.writes:
            if write.key != key:
                continue
            try:
                value = db_pb2.StateData.FromString(write.value).Bytes
                info = chaincode_definition_pb2.ChaincodeValidationInfo.FromString(value)
                policy = policy_pb2.ApplicationPolicy.FromString(info.validation_parameter)
            except DecodeError:
                self._findings.broken(Check.ENDORSEMENTS, link, "the chaincode's committed definition can't be read")
                continue
            if info.validation_plugin != "vscc":
                self._findings.broken(
                    Check.ENDORSEMENTS,
                    link,
                    f"the definition asks for the validation {printable(info.validation_plugin)}",
                )
            self._policy = policy

    def _check_versions(self, access: NamespaceAccess, link: str) -> None:
        self._findings.made(Check.VERSIONS)
        if access.range_queries and access.writes:
            self._findings.broken(Check.VERSIONS, link, "it read a range, which no contract does when it writes")
        for read in access.reads:
            row = self._state.get(read.key)
            present = row.writer.version if row else None
            if read.version != present:
                self._findings.broken(
                    Check.VERSIONS,
                    link,
                    f"it read {describe_key(read.key)} as of {_version(read.version)}, the ledger had "
                    f"{_version(present)}",
                )

    def _is_idle(self, action: Action, access: NamespaceAccess | None, link: str) -> bool:
        """Whether there is nothing to run again of a transaction that writes no row; what is wrong with it is noted."""
        private = {one.collection for one in access.collections if one.writes} if access is not None else set()
        if private:
            # Its own organisation's endorsement is enough for that, so it is one member's misconduct. The remark names
            # no transaction, so that it is kept once: else the member could fill the record with it.
            for name in sorted(private):
                self._findings.remark(
                    f"collection {printable(name)[:100]}",
                    "private data were written into it, and no contract does that",
                )
            return True
        if not self._replayer.is_look_up(action):
            return False
        # Anybody may submit a look-up. It changes nothing, and the ranges that it reads can't be run again.
        if action.event is not None:
            self._findings.broken(Check.CONTRACTS, link, "a look-up with an event, which no contract gives")
        return True

    def _check_contract(
        self, transaction: Transaction, action: Action, access: NamespaceAccess | None, link: str
    ) -> None:
        self._findings.made(Check.CONTRACTS)
        if action.chaincode != self._chaincode:
            if access is not None and access.writes:
                self._findings.broken(
                    Check.CONTRACTS, link, f"it wrote our rows through the chaincode {printable(action.chaincode)}"
                )
            return
        if (access is None or not (access.writes or access.policy_writes)) and self._is_idle(action, access, link):
            return
        rerun = self._replayer.run(transaction, action)
        if rerun.response.status >= _LOWEST_REFUSAL:
            self._findings.broken(
                Check.CONTRACTS,
                link,
                f"the contract refuses it ({rerun.response.status}: {printable(rerun.response.message)})",
            )
            return
        found = {write.key: b"" if write.is_delete else write.value for write in access.writes} if access else {}
        for key in sorted(found.keys() | rerun.writes.keys()):
            if found.get(key) != rerun.writes.get(key):
                self._findings.broken(Check.CONTRACTS, link, _difference(key, found.get(key), rerun.writes.get(key)))
        answered = (action.status, action.message, action.payload)
        if answered != (rerun.response.status, rerun.response.message, rerun.response.payload):
            self._findings.broken(Check.CONTRACTS, link, "its answer to the client is not the contract's")
        event = (action.event.name, action.event.payload) if action.event else None
        if event != rerun.event:
            self._findings.broken(Check.CONTRACTS, link, "its event is not the contract's")
        reads = frozenset(read.key for read in access.reads) if access else frozenset()
        if not reads >= rerun.reads:
            unread = describe_key(min(rerun.reads - reads))
            self._findings.broken(Check.CONTRACTS, link, f"it did not read {unread}, which the contract reads")


def _difference(key: str, found: bytes | None, expected: bytes | None) -> str:
    name = describe_key(key)
    if expected is None:
        return f"it writes the {name}, which the contract does not"
    if found is None:
        return f"it does not write the {name}, which the contract does"
    if not found:
        return f"it deletes the {name}, which the contract writes"
    if not expected:
        return f"it writes the {name}, which the contract deletes"
    return f"the {name} is not what the contract gives"


def _version(version: Version | None) -> str:
    return "nothing" if version is None else f"block {version.block}, transaction {version.transaction}"
