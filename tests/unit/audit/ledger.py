"""A consortium's ledger in memory, as real blocks: real certificates and signatures, real contracts, real models.

What a network of peers and orderers would have written, without one: the contracts run on a memory peer, what they
read and wrote becomes a signed transaction, and orderers sign its block. So every tampering can be made with, or
without, the keys that an attacker would hold.
"""

import copy
import dataclasses
import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    policy_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2
from fedfabric.aggregation import (
    MemoryTensors,
    RingEncoding,
    Rounding,
    TensorFile,
    TensorFileError,
    aggregate,
    encode_update,
    manifest_of,
    server_optimizer,
    tagged_hash,
    to_arrays,
    write_tensors,
)
from fedfabric.aggregation import Update as EncodedUpdate
from fedfabric.audit.blobs import address_of
from fedfabric.chaincode.chaincode import LedgerChaincode
from fedfabric.chaincode.records import canonical_json
from fedfabric.chaincode.settings import Settings
from fedfabric.fabric.blocks import block_file_name, header_bytes
from fedfabric.fabric.configuration import (
    Bft,
    Channel,
    Consenter,
    Endpoint,
    Membership,
    Organisation,
    genesis_block,
    read_config,
)
from fedfabric.fabric.configuration_update import compute_update, sign_update, update_envelope, with_application
from fedfabric.fabric.identity import Identity, Signer, private_key_signer
from fedfabric.fabric.proposals import EndorserProposal, assemble, propose
from fedfabric.fabric.shim import Invocation, MemoryPeer
from fedfabric.fabric.shim.memory_peer import Simulation
from fedfabric.network.identities import Authorities

MEMBERS = ("ClevelandMSP", "HungaryMSP", "SwitzerlandMSP")
ORDERING = "OrderingMSP"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
START = 1_767_225_600_000
JOB = "heart"
CLIP = "1.5"


@dataclass(frozen=True)
class Person:
    """An identity and how it signs."""

    identity: Identity
    sign: Signer


class House:
    """An organisation: its authorities and whoever it has enrolled."""

    def __init__(self, msp_id: str) -> None:
        self.msp_id = msp_id
        self.authorities = Authorities.create(msp_id, NOW)
        self._people: dict[tuple[str, str], Person] = {}

    def person(self, kind: str, role: str = "") -> Person:
        """Somebody of a kind (client, peer, orderer, admin) and a role in the consortium."""
        if (kind, role) not in self._people:
            attributes = {"fedfabric.role": role} if role else {}
            issued = self.authorities.signing.issue(f"{kind}{role}", NOW, kind=kind, attributes=attributes)
            identity = Identity(self.msp_id, issued.certificate)
            self._people[kind, role] = Person(identity, private_key_signer(issued.key))
        return self._people[kind, role]

    @property
    def membership(self) -> Membership:
        return Membership(self.msp_id, (self.authorities.signing.certificate,), (self.authorities.tls.certificate,))


class Blobs:
    """Blobs by their addresses."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, data: bytes, digest: str, folder: Path) -> dict[str, Any]:
        """Keep bytes under their address; the reference that records hold."""
        path = folder / "incoming"
        path.write_bytes(data)
        address = address_of(path)
        path.unlink()
        self.blobs[address] = data
        return {"address": address, "digest": digest, "size": len(data)}

    def put_tensors(self, tensors: Any, folder: Path) -> dict[str, Any]:
        """Keep tensors as a safetensors file."""
        path = folder / "tensors"
        write_tensors(path, tensors)
        data = path.read_bytes()
        path.unlink()
        return self.put(data, manifest_of(tensors).digest, folder)

    def write_blobs(self, folder: Path) -> None:
        """Write each blob into a file named by its address."""
        folder.mkdir(parents=True, exist_ok=True)
        for address, data in self.blobs.items():
            (folder / address).write_bytes(data)


@dataclass
class Ledger(Blobs):
    """The chain so far, and the state that it leaves."""

    houses: dict[str, House]
    blocks: list[common_pb2.Block] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    now: int = START
    last_config: int = 0

    def __post_init__(self) -> None:
        self.peer = MemoryPeer(
            {"fedfabric": LedgerChaincode(Settings(tuple(sorted(MEMBERS)), 5000), lambda: self.now)},
            channel_id="consortium",
        )
        self.versions: dict[str, tuple[int, int]] = {}
        self.endorsers: tuple[str, ...] = MEMBERS
        self.alterations: dict[str, Any] = {}
        """By function: what a majority's modified chaincode makes of its writes."""
        self.channel = self._channel()
        self.blocks.append(genesis_block(self.channel, created_ns=START * 1_000_000))
        self._define_chaincode()

    # -- the network's side

    def _channel(self) -> Channel:
        consenters = []
        endpoints = {}
        for number, msp_id in enumerate((*MEMBERS, ORDERING), start=1):
            orderer = self.houses[msp_id].person("orderer")
            endpoints[msp_id] = Endpoint("127.0.0.1", 7000 + number)
            certificate = orderer.identity.certificate
            consenters.append(Consenter(number, endpoints[msp_id], msp_id, certificate, certificate, certificate))
        return Channel(
            "consortium",
            applications=tuple(Organisation(self.houses[msp].membership) for msp in MEMBERS),
            orderers=tuple(
                Organisation(self.houses[msp].membership, orderer_endpoints=(endpoints[msp],))
                for msp in (*MEMBERS, ORDERING)
            ),
            consensus=Bft(tuple(consenters)),
        )

    def _define_chaincode(self) -> None:
        policy = policy_pb2.ApplicationPolicy(channel_config_policy_reference="/Channel/Application/Endorsement")
        info = chaincode_definition_pb2.ChaincodeValidationInfo(
            validation_plugin="vscc", validation_parameter=policy.SerializeToString()
        )
        value = db_pb2.StateData(Bytes=info.SerializeToString()).SerializeToString()
        writes = {"namespaces/fields/fedfabric/ValidationInfo": value}
        creator = self.houses[MEMBERS[0]].person("admin")
        envelope = self.envelope(creator, "_lifecycle", (b"CommitChaincodeDefinition", b""), {}, writes)
        self.cut([envelope])

    def cut(self, envelopes: list[bytes], flags: bytes | None = None) -> common_pb2.Block:
        """Put envelopes into a block that a quorum of orderers signs."""
        block = common_pb2.Block()
        block.header.number = len(self.blocks)
        block.data.data.extend(envelopes)
        block.metadata.metadata.extend([b""] * 5)
        block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = flags or bytes(len(envelopes))
        self.blocks.append(block)
        self.seal(block.header.number)
        return block

    def seal(self, number: int, signers: tuple[int, ...] = (1, 2, 3)) -> None:
        """Compute a block's hashes anew and let orderers sign it."""
        block = self.blocks[number]
        before = self.blocks[number - 1].header
        block.header.previous_hash = hashlib.sha256(
            header_bytes(before.number, before.previous_hash, before.data_hash)
        ).digest()
        block.header.data_hash = hashlib.sha256(b"".join(block.data.data)).digest()
        header = header_bytes(number, block.header.previous_hash, block.header.data_hash)
        index = self.last_config if number >= self.last_config else 0
        last = common_pb2.OrdererBlockMetadata(last_config=common_pb2.LastConfig(index=index))
        metadata = common_pb2.Metadata(value=last.SerializeToString())
        for consenter in signers:
            house = self.houses[(*MEMBERS, ORDERING)[consenter - 1]]
            identifier = common_pb2.IdentifierHeader(identifier=consenter).SerializeToString()
            signature = house.person("orderer").sign(metadata.value + identifier + header)
            metadata.signatures.add(identifier_header=identifier, signature=signature)
        block.metadata.metadata[common_pb2.SIGNATURES] = metadata.SerializeToString()

    def reseal(self, number: int, signers: tuple[int, ...] = (1, 2, 3)) -> None:
        """Compute hashes and signatures of a block and of all after it anew: what a quorum of orderers could do."""
        for later in range(max(number, 1), len(self.blocks)):
            self.seal(later, signers)

    def envelope(
        self,
        creator: Person,
        chaincode: str,
        arguments: tuple[bytes, ...],
        reads: dict[str, tuple[int, int] | None],
        writes: dict[str, bytes],
        *,
        payload: bytes = b"",
        event: tuple[str, bytes] | None = None,
        nonce: bytes | None = None,
        endorsers: tuple[str, ...] | None = None,
        namespace: str = "",
        channel_name: str = "consortium",
        change: Any = None,
        private: dict[str, bytes] | None = None,
        call_name: str = "",
    ) -> bytes:
        """A signed and endorsed transaction.

        `change` may do anything to its read/write set, `private` is what it wrote by collections, and its call names
        the chaincode `call_name` where one is given.
        """
        proposal = propose(
            creator.identity,
            creator.sign,
            chaincode,
            arguments,
            channel_name=channel_name,
            created_ns=self.now * 1_000_000,
            nonce=nonce,
        )
        if call_name:
            proposal = renamed(proposal, call_name, creator.sign)
        access = kv_rwset_pb2.KVRWSet()
        for key in sorted(reads):
            read = access.reads.add(key=key)
            version = reads[key]
            if version is not None:
                read.version.block_num, read.version.tx_num = version
        for key in sorted(writes):
            access.writes.add(key=key, value=writes[key], is_delete=not writes[key])
        if change is not None:
            change(access)
        results = rwset_pb2.TxReadWriteSet()
        own = results.ns_rwset.add(namespace=namespace or chaincode, rwset=access.SerializeToString())
        for collection, hashed in (private or {}).items():
            own.collection_hashed_rwset.add(collection_name=collection, hashed_rwset=hashed)
        done = proposal_pb2.ChaincodeAction(
            results=results.SerializeToString(),
            response=proposal_response_pb2.Response(status=200, payload=payload),
            chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode),
        )
        if event is not None:
            done.events = chaincode_event_pb2.ChaincodeEvent(
                chaincode_id=chaincode, tx_id=proposal.transaction_id, event_name=event[0], payload=event[1]
            ).SerializeToString()
        content = proposal_pb2.Proposal.FromString(proposal.signed.proposal_bytes)
        header = common_pb2.Header.FromString(content.header)
        result = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=hashlib.sha256(header.channel_header + header.signature_header + content.payload).digest(),
            extension=done.SerializeToString(),
        ).SerializeToString()
        responses = []
        for msp_id in endorsers or self.endorsers:
            peer = self.houses[msp_id].person("peer")
            serialized = peer.identity.serialized()
            responses.append(
                proposal_response_pb2.ProposalResponse(
                    payload=result,
                    endorsement=proposal_response_pb2.Endorsement(
                        endorser=serialized, signature=peer.sign(result + serialized)
                    ),
                )
            )
        return assemble(proposal, responses, creator.sign).SerializeToString()

    # -- the contracts' side

    async def submit(
        self,
        msp: str,
        role: str,
        function: str,
        request: Any,
        *,
        alter: Any = None,
        endorsers: Any = None,
        **extras: Any,
    ) -> Any:
        """Run a contract, and commit it in a block of its own; `alter` may change what is written."""
        creator = self.houses[msp].person("client", role)
        self.now += 10
        nonce = hashlib.sha256(f"{len(self.blocks)} {function}".encode()).digest()[:24]
        transaction_id = hashlib.sha256(nonce + creator.identity.serialized()).hexdigest()
        arguments = (function.encode(), canonical_json(request))
        invocation = Invocation(
            channel_id="consortium",
            tx_id=transaction_id,
            args=arguments,
            creator_bytes=creator.identity.serialized(),
            timestamp_ms=self.now,
        )
        simulation = Simulation(invocation)
        simulation.response, simulation.event = await self.peer.run("fedfabric", invocation, simulation, ())
        assert simulation.response.status == 200, simulation.response.message
        writes = {key: value for (_, _, key), value in simulation.writes.items()}
        alter = alter or self.alterations.get(function)
        if alter is not None:
            alter(writes)
            simulation.writes = {("fedfabric", "", key): value for key, value in writes.items()}
        reads = {key: self.versions.get(key) for _, _, key in simulation.reads}
        assert self.peer.commit(simulation) == "VALID"
        made = {"payload": simulation.response.payload, "event": simulation.event, "endorsers": endorsers, **extras}
        envelope = self.envelope(creator, "fedfabric", arguments, reads, writes, nonce=nonce, **made)
        block = self.cut([envelope])
        for key, value in writes.items():
            if value:
                self.versions[key] = (block.header.number, 0)
            else:
                self.versions.pop(key, None)
        return json.loads(simulation.response.payload)

    def add_member(
        self, msp_id: str, admitted_by: tuple[str, ...] = MEMBERS[:2], alter: Any = None, *, update: bool = True
    ) -> None:
        """Admit an organisation to the channel by a configuration block; orderers may `alter` the configuration."""
        with_update = update
        _, config = read_config(self.blocks[self.last_config])
        updated = with_application(config, Organisation(self.houses[msp_id].membership))
        update = compute_update("consortium", config, updated)
        admins = [self.houses[msp].person("admin") for msp in admitted_by]
        signatures = [sign_update(update, admin.identity, admin.sign) for admin in admins]
        last_update = update_envelope(update, signatures, admins[0].identity, admins[0].sign)
        updated.channel_group.groups["Application"].version += 1
        updated.sequence = config.sequence + 1
        orderer = self.houses[ORDERING].person("orderer")
        content = configtx_pb2.ConfigEnvelope(config=alter(updated) if alter else updated)
        if with_update:
            content.last_update.CopyFrom(last_update)
        header = common_pb2.ChannelHeader(type=common_pb2.CONFIG, channel_id="consortium")
        signature_header = common_pb2.SignatureHeader(creator=orderer.identity.serialized(), nonce=bytes(24))
        payload = common_pb2.Payload(
            header=common_pb2.Header(
                channel_header=header.SerializeToString(), signature_header=signature_header.SerializeToString()
            ),
            data=content.SerializeToString(deterministic=True),
        ).SerializeToString()
        envelope = common_pb2.Envelope(payload=payload, signature=orderer.sign(payload))
        self.last_config = len(self.blocks)
        self.cut([envelope.SerializeToString()])

    def write(self, folder: Path) -> Path:
        """Write the folder that an auditor is given."""
        (folder / "blocks").mkdir(parents=True, exist_ok=True)
        for number, block in enumerate(self.blocks):
            (folder / "blocks" / block_file_name(number)).write_bytes(block.SerializeToString())
        self.write_blobs(folder / "blobs")
        return folder

    def copy(self) -> "Ledger":
        """A ledger whose blocks and blobs may be changed without touching this one's."""
        copied = copy.copy(self)
        copied.blocks = copy.deepcopy(self.blocks)
        copied.blobs = dict(self.blobs)
        return copied

    def find(self, function: str, about: str = "", msp: str = "") -> int:
        """The number of the first block whose transaction calls `function` with `about` in its argument."""
        for block in self.blocks[2:]:
            envelope = common_pb2.Envelope.FromString(block.data.data[0])
            payload = common_pb2.Payload.FromString(envelope.payload)
            if common_pb2.ChannelHeader.FromString(payload.header.channel_header).type != 3:
                continue
            creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
            action = action_of(block.data.data[0])[3]
            proposal = proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
            call = chaincode_pb2.ChaincodeInvocationSpec.FromString(proposal.input).chaincode_spec.input
            if call.args[0] == function.encode() and about.encode() in call.args[1] and msp.encode() in creator:
                return int(block.header.number)
        raise LookupError(function)

    @property
    def genesis_hash(self) -> str:
        header = self.blocks[0].header
        return hashlib.sha256(header_bytes(0, header.previous_hash, header.data_hash)).hexdigest()


@dataclass(frozen=True)
class RunSettings:
    """What a run of the job does otherwise than the honest one."""

    rounds: int = 2
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adam", "parameters": {"learning_rate": "0.1"}})
    liar: str = ""
    """A member that attests another outcome in round 1."""
    late: str = ""
    """An organisation that joins the channel and the job after round 1."""
    budget: int = 1000
    payer: str = ""
    """Whose tokens pay: the submitter's organisation's, or one person's of it."""


class Run:
    """A job from the founding to its end."""

    def __init__(self, folder: Path, settings: RunSettings | None = None, ledger: Any = None) -> None:
        self.folder = folder
        self.settings = settings or RunSettings()
        names = (*MEMBERS, ORDERING, *((self.settings.late,) if self.settings.late else ()))
        self.ledger = ledger or Ledger({name: House(name) for name in names})
        self.model: Any = MemoryTensors(
            {"weight": np.linspace(-1, 1, 300, dtype=np.float32).reshape(20, 15), "steps": np.arange(3)}
        )
        self.state: Any = None
        self.updates: list[Any] = []
        """Every update's request."""
        self.outcomes: list[Any] = []
        """Every round's outcome, as attested."""
        self.spoiled_update: tuple[str, Any] = ("", None)
        """A member, and what it makes of its update's bytes in round 1."""
        self.claims: dict[str, Any] = {}
        """What members say of their updates' bytes instead of the truth."""
        self.plan_digest = ""
        """What the submitter says of its plan's bytes instead of their digest."""
        self.false_digest = ""
        """What every member attests instead of the true digest."""
        self.samples = {msp: 100 + 10 * number for number, msp in enumerate((*MEMBERS, self.settings.late or "-"))}

    async def run(self) -> "Run":
        await self.found()
        await self.offer(MEMBERS)
        await self.start()
        members = MEMBERS
        for number in range(1, self.settings.rounds + 1):
            await self.round(number, members)
            if number == 1 and self.settings.late and self.settings.rounds > 1:
                members = tuple(sorted((*MEMBERS, self.settings.late)))
        return self

    async def found(self) -> None:
        change = {"sequence": 1, "members": [{"msp": msp} for msp in sorted(MEMBERS)], "window_ms": 5000}
        for msp in MEMBERS:
            await self.ledger.submit(msp, "operator", "consortium:approve", change)
        await self.ledger.submit(MEMBERS[0], "operator", "consortium:apply", change)

    async def offer(self, owners: tuple[str, ...]) -> None:
        """Register data sets and grant them to the first member."""
        for msp in owners:
            terms = {
                "title": "Heart disease",
                "blob": {"address": "ab" * 32, "digest": "cd" * 32, "size": 1000},
                "samples": self.samples[msp],
                "licence": "CC-BY-4.0",
                "purposes": ["training"],
                "jurisdiction": "CH",
            }
            await self.ledger.submit(msp, "steward", "datasets:register", {"name": "heart", "terms": terms})
            if msp != MEMBERS[0]:
                asked = {
                    "id": self.grant(msp),
                    "dataset": f"{msp}/heart",
                    "version": 1,
                    "purpose": "training",
                }
                await self.ledger.submit(MEMBERS[0], "scientist", "access:request", asked)
                await self.ledger.submit(msp, "steward", "access:grant", {"id": self.grant(msp)})

    @staticmethod
    def grant(msp: str) -> str:
        return f"g-{msp.lower()}"

    def use(self, msp: str) -> dict[str, Any]:
        grant = {} if msp == MEMBERS[0] else {"grant": self.grant(msp)}
        return {"dataset": f"{msp}/heart", "version": 1, **grant}

    async def start(self) -> None:
        """Submit the job, have it approved by all, open its first round."""
        await self.submit_job()
        for msp in MEMBERS:
            await self.approve(msp)
        await self.begin()

    async def submit_job(self, owners: tuple[str, ...] = MEMBERS) -> None:
        ledger, budget = self.ledger, self.settings.budget
        payer = self.settings.payer or MEMBERS[0]
        mint = {"id": "m1", "owner": payer, "amount": str(budget + 77)}
        for msp in MEMBERS:
            await ledger.submit(msp, "operator", "tokens:approve", mint)
        minted = await ledger.submit(MEMBERS[0], "operator", "tokens:mint", mint)
        bundle = b"a plan of a few bytes"
        self.plan = {
            "bundle": ledger.put(bundle, self.plan_digest or tagged_hash("plan", bundle), self.folder),
            "model": ledger.put_tensors(self.model, self.folder),
            "optimizer": self.settings.optimizer,
            "clip": CLIP,
            "rounds": self.settings.rounds,
            "approval_ms": 60_000,
            "update_ms": 60_000,
            "attest_ms": 60_000,
        }
        request = {
            "id": JOB,
            "plan": self.plan,
            "datasets": [self.use(msp) for msp in owners],
            "budget": str(budget),
            "payer": payer,
            "inputs": [{"tx": minted["token"]["tx"], "n": minted["token"]["n"]}] if budget else [],
        }
        self.change = {"tx": "", "n": 1}
        self.job = await ledger.submit(MEMBERS[0], "scientist", "training:submit", request)
        self.change["tx"] = self.job["escrow"]["tx"] if budget else ""

    async def begin(self) -> None:
        await self.ledger.submit(MEMBERS[1], "gateway", "training:start", {"job": JOB})

    async def approve(self, msp: str, alter: Any = None) -> None:
        request = {"job": JOB, "digest": self.job["digest"], "privacy": "clear"}
        if alter is not None:
            request["reason"] = "forged"
        await self.ledger.submit(msp, "steward", "training:approve", request, alter=alter)

    async def join(self) -> None:
        """The late organisation comes into channel, consortium and job."""
        late = self.settings.late
        self.ledger.add_member(late)
        members = sorted((*MEMBERS, late))
        change = {"sequence": 2, "members": [{"msp": msp} for msp in members], "window_ms": 5000}
        for msp in MEMBERS:
            await self.ledger.submit(msp, "operator", "consortium:approve", change)
        await self.ledger.submit(MEMBERS[0], "operator", "consortium:apply", change)
        await self.offer((late,))
        await self.ledger.submit(MEMBERS[0], "scientist", "training:add", {"job": JOB, "dataset": self.use(late)})
        await self.approve(late)

    def spoil(self, data: bytes) -> tuple[dict[str, Any], Any]:
        """Commit other bytes than an honest update; their tensors, None where they are none."""
        data = self.spoiled_update[1](data) or b"."
        path = self.folder / "spoiled"
        path.write_bytes(data)
        try:
            with TensorFile(path) as file:
                tensors = MemoryTensors(to_arrays(file))
        except TensorFileError:
            return self.ledger.put(data, "ab" * 32, self.folder), None
        return self.ledger.put(data, manifest_of(tensors).digest, self.folder), tensors

    async def grow(self, blocks: int) -> "Ledger":
        """Add blocks with approvals of mints to a ledger."""
        for number in range(blocks):
            request = {"id": f"more{number}", "owner": MEMBERS[0], "amount": "1"}
            await self.ledger.submit(MEMBERS[number % 3], "operator", "tokens:approve", request)
        return self.ledger

    async def round(self, number: int, members: tuple[str, ...]) -> None:
        """A round in which all deliver and attest."""
        updates = await self.deliver(number, members)
        if number == 1 and self.settings.late:
            await self.join()
        await self.close(number, members)
        outcome = self.aggregate(members, updates)
        attesters = await self.attest(number, members, outcome)
        await self.finalise(number, outcome, attesters)

    async def deliver(self, number: int, members: tuple[str, ...], absent: tuple[str, ...] = ()) -> list[EncodedUpdate]:
        """Every member but the absent ones trains and commits its update; what can be summed of them."""
        encoding = self.encoding(members)
        updates = []
        for msp in members:
            if msp in absent:
                continue
            generator = np.random.default_rng(number * 100 + self.samples[msp])
            delta = MemoryTensors({"delta/weight": generator.normal(0, 0.1, (20, 15)).astype(np.float32)})
            rounding = Rounding(msp.encode().ljust(32, b"."), JOB, number)
            encoded = encode_update(delta, self.model.specs, self.samples[msp], encoding, rounding)
            tensors: Any = encoded.tensors
            blob = self.ledger.put_tensors(tensors, self.folder)
            if number == 1 and msp == self.spoiled_update[0]:
                blob, tensors = self.spoil(self.ledger.blobs.pop(blob["address"]))
            request = {
                "job": JOB,
                "round": number,
                "attempt": 1,
                "blob": blob | self.claims,
                "samples": self.samples[msp],
                "metrics": {"loss": 700_000 - 1000 * number},
            }
            await self.ledger.submit(msp, "gateway", "training:update", request)
            self.updates.append(request)
            if tensors is not None:
                updates.append(EncodedUpdate(msp, tensors, self.samples[msp]))
        return updates

    async def close(self, number: int, members: tuple[str, ...]) -> None:
        await self.ledger.submit(members[1], "gateway", "training:close", {"job": JOB, "round": number})

    def encoding(self, members: tuple[str, ...]) -> RingEncoding:
        return RingEncoding(float(CLIP), sum(self.samples[msp] for msp in members), len(members))

    def aggregate(self, members: tuple[str, ...], updates: list[EncodedUpdate]) -> dict[str, Any]:
        """Take the server step; the outcome that every honest member attests."""
        optimizer = self.settings.optimizer
        result = aggregate(
            self.model,
            updates,
            self.encoding(members),
            server_optimizer({"name": optimizer["name"], **optimizer["parameters"]}),
            self.state,
        )
        self.model, self.state = result.model, result.state
        outcome = {
            "digest": self.false_digest or result.digest,
            "model": self.ledger.put_tensors(result.model, self.folder),
            "state": self.ledger.put_tensors(result.state, self.folder) if result.state.specs else None,
            "summed": sorted(result.counted),
        }
        self.outcomes.append(outcome)
        return outcome

    async def attest(
        self,
        number: int,
        members: tuple[str, ...],
        outcome: dict[str, Any],
        *,
        silent: tuple[str, ...] = (),
        refusing: tuple[str, ...] = (),
        attempt: int = 1,
    ) -> list[str]:
        """Every member but the silent ones attests, the liar another outcome; who attests the true one."""
        attesters = []
        for msp in members:
            if msp in silent:
                continue
            lies = number == 1 and msp == self.settings.liar
            request = {
                "job": JOB,
                "round": number,
                "attempt": attempt,
                "outcome": outcome | {"digest": "ee" * 32} if lies else outcome,
                "accept": msp not in refusing,
                "samples": 20,
                "metrics": {"auc": 800_000 + number},
            }
            await self.ledger.submit(msp, "gateway", "training:attest", request)
            attesters += [] if lies else [msp]
        return attesters

    async def miss(self, number: int, members: tuple[str, ...], missed: tuple[str, ...], attempt: int = 1) -> None:
        """Every one of the members says that it can't get these members' updates."""
        for msp in members:
            request = {"job": JOB, "round": number, "attempt": attempt, "members": list(missed)}
            await self.ledger.submit(msp, "gateway", "training:report_missing", request)

    async def recount(self, number: int) -> None:
        await self.ledger.submit(MEMBERS[1], "gateway", "training:recount", {"job": JOB, "round": number})

    async def finalise(self, number: int, outcome: dict[str, Any], attesters: list[str]) -> None:
        request = {
            "job": JOB,
            "round": number,
            "outcome": outcome["digest"],
            "attestations": sorted(attesters),
        }
        await self.ledger.submit(MEMBERS[0], "gateway", "training:finalise", request)


def renamed(proposal: EndorserProposal, name: str, sign: Signer) -> EndorserProposal:
    """The proposal, signed, with another chaincode named in its call than in its header."""
    content = proposal_pb2.Proposal.FromString(proposal.signed.proposal_bytes)
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(content.payload)
    invocation = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input)
    invocation.chaincode_spec.chaincode_id.name = name
    payload.input = invocation.SerializeToString()
    content.payload = payload.SerializeToString()
    signed = content.SerializeToString()
    return dataclasses.replace(
        proposal, signed=proposal_pb2.SignedProposal(proposal_bytes=signed, signature=sign(signed))
    )


def action_of(envelope: bytes) -> tuple[Any, ...]:
    """The nested messages of a transaction: envelope, payload, transaction, action, result, chaincode action, rwset."""
    outer = common_pb2.Envelope.FromString(envelope)
    payload = common_pb2.Payload.FromString(outer.payload)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
    result = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
    done = proposal_pb2.ChaincodeAction.FromString(result.extension)
    return outer, payload, transaction, action, result, done, rwset_pb2.TxReadWriteSet.FromString(done.results)


def rewrite(envelope: bytes, change: Any) -> bytes:
    """Change the writes of a transaction's first namespace, with nobody's key: `change(key, value)` gives the value."""
    outer, payload, transaction, action, result, done, sets = action_of(envelope)
    access = kv_rwset_pb2.KVRWSet.FromString(sets.ns_rwset[0].rwset)
    for write in access.writes:
        write.value = change(write.key, write.value)
    sets.ns_rwset[0].rwset = access.SerializeToString()
    done.results = sets.SerializeToString()
    result.extension = done.SerializeToString()
    action.action.proposal_response_payload = result.SerializeToString()
    transaction.actions[0].payload = action.SerializeToString()
    payload.data = transaction.SerializeToString()
    outer.payload = payload.SerializeToString()
    return outer.SerializeToString()
