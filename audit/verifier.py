"""The audit of one job: from the genesis block's hash, the blocks and the blobs of any one organisation to a verdict.

    report = verify_job(Path("export"), Path("export/blobs"), genesis_hash, "heart")

Reads a folder and nothing else: no network, no clock, no gateway. One pass over the blocks, one block in memory at a
time; then the job's blobs, segment by segment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..fabric.blocks import DEFAULT_LIMITS, BlockError, Limits, read_blocks
from .aggregates import AggregateAuditor
from .blobs import BlobFolder
from .channel import ChannelAuditor
from .figures import round_figures
from .links import describe_transaction
from .replay import founders_of
from .report import Check, Findings, Report
from .state import State
from .tokens import TokenAuditor
from .training import JobAuditor
from .transactions import TransactionAuditor

if TYPE_CHECKING:
    from pathlib import Path

    from ..fabric.blocks import Block

CHAINCODE: Final = "fedfabric"
_HASH: Final = re.compile(r"[0-9a-f]{64}")

ASSUMPTIONS: Final = (
    (
        "validation flags: which transactions are valid is what the peer says that gave the blocks, unsigned; "
        "a flag that calls an outdated or unendorsed transaction valid is found, one that hides a valid one may not be"
    ),
    "the genesis block's hash, and the fingerprints of the certificate authorities, which are shown for comparison",
    "the founding list, which the endorsing majority's servers agreed to and which is shown for comparison",
    "ledger time: proposals' timestamps are within w of the endorsers' clocks, as a majority of them judged",
    "the end: what was cut off behind the last block is not missed; its number and hash, and the job's state, are said",
    "local training: nobody can repeat it from the ledger; updates are bound to who signed them and to their range",
)


class AuditInputError(ValueError):
    """What the auditor was given can't be audited at all: no folder, no such hash, no job id."""


@dataclass(frozen=True)
class AuditSettings:
    """What an audit needs to know beside the ledger. `chaincode` is the name under which the contracts run."""

    chaincode: str = CHAINCODE
    limits: Limits = DEFAULT_LIMITS


def genesis_hash(folder: Path, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return the hash of the first block of a folder, which is worth as much as the folder.

    Raises:
        BlockError: block 0 is not there or can't be read.
    """
    return next(read_blocks(_blocks_folder(folder), limits)).header_hash.hex()


def verify_job(
    folder: Path,
    blobs: Path | None,
    genesis_hash: str,
    job: str,
    settings: AuditSettings | None = None,
) -> Report:
    """Verify a job.

    Args:
        folder: a folder of `NNNNNNNN.block` files, or one that holds them under `blocks`.
        blobs: the folder of blobs, named by their addresses; None for `blobs` beside or under `folder`.
        genesis_hash: SHA-256 of block 0's header, 64 hexadecimal digits, from a source that the auditor trusts.
        job: the job's id.
        settings: the chaincode's name and the limits of reading.

    Raises:
        AuditInputError: the arguments can't be audited. What is wrong with the ledger is in the report, not raised.
    """
    settings = settings or AuditSettings()
    genesis_hash = genesis_hash.strip().lower()
    if not _HASH.fullmatch(genesis_hash):
        raise AuditInputError("the genesis block's hash is 64 hexadecimal digits")
    blocks = _blocks_folder(folder)
    if blobs is None:
        blobs = blocks.parent / "blobs"
    findings = Findings()
    with State() as state:
        walk = _Walk(genesis_hash, job, state, findings, settings)
        walk.run(blocks)
        aggregates = AggregateAuditor(BlobFolder(blobs), walk.job.links, findings)
        aggregates.run()
        links = walk.job.links
        return Report(
            job=job,
            channel=walk.channel.name,
            genesis_hash=genesis_hash,
            height=walk.channel.height,
            last_block_hash=walk.channel.last_block_hash,
            job_state=links.job.state.value if links.job else "",
            budget=links.job.terms.budget if links.job else "0",
            paid=links.job.paid if links.job else "0",
            model=links.job.model.digest if links.job else None,
            checks=findings.results(),
            findings=findings.findings,
            findings_left_out=findings.findings_left_out,
            remarks=findings.remarks,
            remarks_left_out=findings.remarks_left_out,
            rounds=round_figures(links, aggregates.recomputed),
            founders=walk.founders,
            certificate_authorities=walk.channel.authorities,
            assumptions=ASSUMPTIONS,
        )


class _Walk:
    """One pass over the blocks."""

    def __init__(self, genesis_hash: str, job: str, state: State, findings: Findings, settings: AuditSettings) -> None:
        self.channel = ChannelAuditor(genesis_hash, findings)
        self.job = JobAuditor(job, state, findings)
        self.founders: tuple[str, ...] = ()
        self._transactions = TransactionAuditor(settings.chaincode, state, findings)
        self._tokens = TokenAuditor(state, findings)
        self._state = state
        self._findings = findings
        self._settings = settings

    def run(self, folder: Path) -> None:
        """Take every block; a block that can't be read ends the walk, and the report says so."""
        try:
            for block in read_blocks(folder, self._settings.limits):
                self._take(block)
        except (BlockError, OSError) as error:
            number = error.block if isinstance(error, BlockError) else None
            self._findings.broken(Check.CHAIN, f"block {self.channel.height if number is None else number}", str(error))
            self._findings.not_done(*Check)
        self._tokens.finish()
        self.job.finish()

    def _take(self, block: Block) -> None:
        self.channel.check_header(block)
        if block.number == 0:
            self.channel.take_configuration(block)
        policies = self.channel.policies
        if policies is None:
            self._findings.broken(Check.CONFIGURATION, "block 0", "it holds no configuration that can be used")
            raise BlockError("nothing can be checked without a configuration", block.number)
        for transaction in block.transactions:
            writer = self._transactions.take(block, transaction, policies, self.channel.name)
            access = transaction.action.access(self._settings.chaincode) if transaction.action else None
            if writer is None or access is None:
                continue
            self._tokens.take(access, describe_transaction(block.number, transaction))
            self.job.take(access, writer)
            self._transactions.apply(access, writer)
            if not self.founders:
                self.founders = founders_of(self._state)
        if block.number:
            self.channel.take_configuration(block)


def _blocks_folder(folder: Path) -> Path:
    for candidate in (folder / "blocks", folder):
        if candidate.is_dir() and any(candidate.glob("*.block")):
            return candidate
    raise AuditInputError(f"{folder} holds no block files (NNNNNNNN.block, or such a folder called blocks)")
