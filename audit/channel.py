"""The chain of blocks: from the genesis block's hash, over every header, to orderers' signatures and configurations."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import configtx_pb2, configuration_pb2
from google.protobuf.message import DecodeError

from ..fabric.configuration import ConfigurationError
from ..fabric.configuration_authority import authorised_result
from ..fabric.identity import Identity, InvalidIdentityError, WrongSignatureError, verify
from ..fabric.membership import MembershipError
from ..fabric.policy_evaluation import ChannelPolicies, UnknownPolicyError
from .report import Check, Findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..fabric.blocks import Block, OrdererSignature, Transaction

_BLOCK_VALIDATION: Final = "/Channel/Orderer/BlockValidation"


class ChannelAuditor:
    """Takes blocks in their order and keeps the configuration that is in force."""

    def __init__(self, genesis_hash: str, findings: Findings) -> None:
        self._genesis_hash = genesis_hash
        self._findings = findings
        self._previous_hash = b""
        self._consenters: dict[int, Identity] = {}
        self._policies: ChannelPolicies | None = None
        self._config: configtx_pb2.Config | None = None
        self._last_config = 0
        self.height = 0
        self.name = ""
        self.authorities: Mapping[str, tuple[str, ...]] = {}

    @property
    def policies(self) -> ChannelPolicies | None:
        """Members and policies before the block that was taken last; None where no configuration could be read."""
        return self._policies

    @property
    def last_block_hash(self) -> str:
        """The hash of the block that was taken last."""
        return self._previous_hash.hex()

    def check_header(self, block: Block) -> None:
        """Check a block's place in the chain and its signatures, under the configuration before it."""
        link = f"block {block.number}"
        if block.number == 0:
            self._findings.made(Check.GENESIS)
            if block.header_hash.hex() != self._genesis_hash:
                self._findings.broken(
                    Check.GENESIS, link, f"its hash is {block.header_hash.hex()}, given was {self._genesis_hash}"
                )
        self._findings.made(Check.CHAIN)
        if block.computed_data_hash != block.data_hash:
            self._findings.broken(
                Check.CHAIN,
                link,
                f"its transactions have the hash {block.computed_data_hash.hex()}, the header says "
                f"{block.data_hash.hex()}",
            )
        if block.number and block.previous_hash != self._previous_hash:
            self._findings.broken(
                Check.CHAIN,
                link,
                f"it follows a block with the hash {block.previous_hash.hex()}, but block {block.number - 1} has "
                f"{self._previous_hash.hex()}",
            )
        if block.number:
            self._check_orderers(block, link)
        self._previous_hash = block.header_hash
        self.height = block.number + 1

    def take_configuration(self, block: Block) -> None:
        """Put a configuration block's configuration into force, after the block was checked."""
        config = block.config
        if config is None:
            return
        link = f"block {block.number}"
        transaction = block.transactions[0]
        if block.number and not transaction.is_valid:  # the genesis block comes from no orderer, and may have no flags
            self._findings.broken(Check.CONFIGURATION, link, f"a configuration marked {transaction.validation_name}")
            return
        if block.number == 0:
            self.name = transaction.channel_name
        elif transaction.channel_name != self.name:
            self._findings.broken(Check.CONFIGURATION, link, f"it configures channel {transaction.channel_name!r}")
        self._findings.made(Check.CONFIGURATION)
        if block.number:
            self._check_update(config, transaction, link)
        try:
            policies = ChannelPolicies(config)
            self._consenters = _consenters(config)
        except (MembershipError, DecodeError) as error:
            self._findings.broken(Check.CONFIGURATION, link, f"the configuration can't be used: {error}")
            return
        self._policies = policies
        self._config = config
        self._last_config = block.number
        if block.number == 0:
            self.authorities = {
                msp_id: tuple(hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest() for root in service.roots)
                for msp_id, service in sorted(policies.members.items())
            }

    def _check_update(self, config: configtx_pb2.Config, transaction: Transaction, link: str) -> None:
        """Check that a configuration is the one before it with an update that its signers may make."""
        if self._policies is None or self._config is None or transaction.last_update is None:
            self._findings.broken(Check.CONFIGURATION, link, "it names no update that made it")
            return
        try:
            expected = authorised_result(self.name, self._config, self._policies, transaction.last_update)
        except ConfigurationError as error:
            self._findings.broken(Check.CONFIGURATION, link, str(error))
            return
        if config != expected:
            self._findings.broken(Check.CONFIGURATION, link, "it is not what its update makes of the one before")

    def _check_orderers(self, block: Block, link: str) -> None:
        if self._policies is None:
            self._findings.not_done(Check.ORDERERS)
            return
        self._findings.made(Check.ORDERERS)
        signers = []
        faults = []
        for signature in block.orderer_signatures:
            try:
                signer = self._signer(signature)
                verify(signer.certificate, block.signed_by_orderer(signature), signature.signature)
            except (InvalidIdentityError, WrongSignatureError) as error:
                faults.append(str(error))
            else:
                signers.append(signer)
        try:
            satisfied = self._policies.satisfied(_BLOCK_VALIDATION, signers)
        except UnknownPolicyError as error:
            satisfied = False
            faults.append(str(error))
        if not satisfied:
            because = f" ({'; '.join(faults[:4])})" if faults else ""
            self._findings.broken(
                Check.ORDERERS,
                link,
                f"{len(signers)} of {len(block.orderer_signatures)} orderer signatures hold, which does not satisfy "
                f"the channel's policy{because}",
            )
        expected = block.number if block.config is not None else self._last_config
        if block.last_config != expected:
            self._findings.broken(
                Check.ORDERERS,
                link,
                f"orderers signed that the last configuration is in block {block.last_config}, it is in {expected}",
            )

    def _signer(self, signature: OrdererSignature) -> Identity:
        if signature.consenter is None:
            return Identity.parse(signature.signer)
        if signature.consenter not in self._consenters:
            raise InvalidIdentityError(f"consenter {signature.consenter} is not in the configuration")
        return self._consenters[signature.consenter]


def _consenters(config: configtx_pb2.Config) -> dict[int, Identity]:
    """Return the consenters of a BFT channel by their numbers; none for Raft, whose signatures carry certificates."""
    values = config.channel_group.groups["Orderer"].values
    if "Orderers" not in values:
        return {}
    mapping = configuration_pb2.Orderers.FromString(values["Orderers"].value).consenter_mapping
    return {one.id: Identity(one.msp_id, one.identity) for one in mapping}
