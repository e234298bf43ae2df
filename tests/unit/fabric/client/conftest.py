"""A FAKE peer: it speaks the Gateway and Deliver services in this process, checks every signature, keeps a ledger in a
list, and misbehaves as a test tells it to. The real one is in tests/network."""

import asyncio
import datetime
import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass, field

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    events_pb2,
    events_pb2_grpc,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from fedfabric.fabric.client import Retries, ValidationCode, connect
from fedfabric.fabric.identity import Identity, WrongSignatureError, private_key_signer, verify
from google.rpc import status_pb2


@dataclass
class Failure:
    """What a call answers instead of its reply."""

    code: grpc.StatusCode
    message: str = "failed"
    details: list = field(default_factory=list)  # (address, msp_id, message)
    metadata: tuple = ()

    async def abort(self, context):
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for address, msp_id, message in self.details:
            status.details.add().Pack(gateway_pb2.ErrorDetail(address=address, msp_id=msp_id, message=message))
        metadata = self.metadata or (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(self.code, self.message, metadata)


class FakeGateway(gateway_pb2_grpc.GatewayServicer, events_pb2_grpc.DeliverServicer):
    """A fake peer with a ledger of its own. `script[method]` holds what the next calls of a method do: a Failure, or
    an awaitable function that runs first. `outcomes` holds the validation codes of the next transactions."""

    def __init__(self):
        self.script = defaultdict(deque)
        self.outcomes = deque()
        self.calls = []
        self.call_came = asyncio.Event()
        self.requests = defaultdict(list)
        self.under_way = 0
        self.most_under_way = 0
        self.stamps = []  # of deliver requests, nanoseconds
        self.blocks = []  # lists of (transaction id, code, event or None)
        self.untold = set()  # numbers of blocks whose transactions filtered blocks leave out
        self.remaining = defaultdict(list)  # seconds to each call's deadline
        self.committed = asyncio.Condition()
        self.tamper = lambda payload: payload
        self.hold_blocks = asyncio.Event()
        self.hold_blocks.set()
        self.end_streams = asyncio.Event()
        self.stream_end = None
        self.fail_after_submit = None
        self.port = 0
        self.server = None

    async def start(self, port=0):
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        gateway_pb2_grpc.add_GatewayServicer_to_server(self, self.server)
        events_pb2_grpc.add_DeliverServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def stop(self):
        await self.server.stop(None)

    async def restart(self):
        await self.stop()
        await self.start(self.port)

    async def asked(self, method, times=1):
        """Until a method was called so many times."""
        while self.calls.count(method) < times:
            self.call_came.clear()
            await self.call_came.wait()

    def _record(self, method):
        self.calls.append(method)
        self.call_came.set()

    # what the calls do

    async def Evaluate(self, request, context):  # noqa: N802
        return await self._serve("Evaluate", request, context, self._evaluate)

    async def Endorse(self, request, context):  # noqa: N802
        return await self._serve("Endorse", request, context, self._endorse)

    async def Submit(self, request, context):  # noqa: N802
        return await self._serve("Submit", request, context, self._submit)

    async def CommitStatus(self, request, context):  # noqa: N802
        return await self._serve("CommitStatus", request, context, self._commit_status)

    async def _serve(self, method, request, context, handle):
        self._record(method)
        self.requests[method].append(request)
        self.remaining[method].append(context.time_remaining())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.script[method]:
                step = self.script[method].popleft()
                if isinstance(step, Failure):
                    await step.abort(context)
                await step()
            try:
                return await handle(request, context)
            except WrongSignatureError as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        finally:
            self.under_way -= 1

    async def _evaluate(self, request, _):
        arguments = self._proposed(request)[2]
        return gateway_pb2.EvaluateResponse(
            result=proposal_response_pb2.Response(status=200, payload=b"|".join(arguments))
        )

    async def _endorse(self, request, _):
        header, payload, arguments = self._proposed(request)
        bare = proposal_pb2.ChaincodeProposalPayload(input=payload.input)
        digest = hashlib.sha256(header.channel_header + header.signature_header + bare.SerializeToString()).digest()
        action = proposal_pb2.ChaincodeAction(
            response=proposal_response_pb2.Response(status=200, payload=b"|".join(arguments))
        )
        response = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=digest, extension=action.SerializeToString()
        )
        chaincode_action = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=bare.SerializeToString(),
            action=transaction_pb2.ChaincodeEndorsedAction(proposal_response_payload=response.SerializeToString()),
        )
        transaction = transaction_pb2.Transaction()
        transaction.actions.add(header=header.signature_header, payload=chaincode_action.SerializeToString())
        envelope = common_pb2.Envelope(
            payload=self.tamper(
                common_pb2.Payload(header=header, data=transaction.SerializeToString())
            ).SerializeToString()
        )
        return gateway_pb2.EndorseResponse(prepared_transaction=envelope)

    async def _submit(self, request, context):
        payload = common_pb2.Payload.FromString(request.prepared_transaction.payload)
        creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
        _verify(creator, request.prepared_transaction.payload, request.prepared_transaction.signature)
        transaction = transaction_pb2.Transaction.FromString(payload.data)
        action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
        arguments = _arguments(proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload))
        code = self.outcomes.popleft() if self.outcomes else ValidationCode.VALID
        if self.find(request.transaction_id) is not None:
            code = ValidationCode.DUPLICATE_TXID
        event = None
        if arguments[0] == b"announce" and code is ValidationCode.VALID:
            event = chaincode_event_pb2.ChaincodeEvent(
                chaincode_id="kv", tx_id=request.transaction_id, event_name=arguments[1].decode(), payload=arguments[2]
            )
        await self.commit([(request.transaction_id, code, event)])
        if self.fail_after_submit:
            await self.fail_after_submit.abort(context)
        return gateway_pb2.SubmitResponse()

    async def commit(self, transactions):
        async with self.committed:
            self.blocks.append(transactions)
            self.committed.notify_all()

    async def announce(self, number):
        """A block with one valid transaction that announces."""
        event = chaincode_event_pb2.ChaincodeEvent(chaincode_id="kv", tx_id=f"tx{number}", event_name=f"event{number}")
        await self.commit([(f"tx{number}", ValidationCode.VALID, event)])

    def find(self, transaction_id):
        for number, block in enumerate(self.blocks):
            for known, code, _ in block:
                if known == transaction_id:
                    return number, code
        return None

    async def _commit_status(self, request, _):
        question = gateway_pb2.CommitStatusRequest.FromString(request.request)
        _verify(question.identity, request.request, request.signature)
        await self.hold_blocks.wait()
        async with self.committed:
            await self.committed.wait_for(lambda: self.find(question.transaction_id))
        number, code = self.find(question.transaction_id)
        return gateway_pb2.CommitStatusResponse(result=int(code), block_number=number)

    def _proposed(self, request):
        signed = request.proposed_transaction
        proposal = proposal_pb2.Proposal.FromString(signed.proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        creator = common_pb2.SignatureHeader.FromString(header.signature_header).creator
        _verify(creator, signed.proposal_bytes, signed.signature)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        return header, payload, _arguments(payload)

    # streams

    async def ChaincodeEvents(self, request, context):  # noqa: N802
        self._record("ChaincodeEvents")
        question = gateway_pb2.ChaincodeEventsRequest.FromString(request.request)
        self.requests["ChaincodeEvents"].append(question)
        await self._admit("ChaincodeEvents", question.identity, request.request, request.signature, context)
        passed = not question.after_transaction_id
        async for number, block in self._from(question.start_position, ab_pb2.SeekPosition()):
            events = []
            for transaction_id, code, event in block:
                if not passed:
                    passed = transaction_id == question.after_transaction_id
                elif code is ValidationCode.VALID and event is not None and event.chaincode_id == question.chaincode_id:
                    events.append(event)
            if events:
                yield gateway_pb2.ChaincodeEventsResponse(events=events, block_number=number)
        if self.stream_end is not None:
            await self.stream_end.abort(context)

    async def Deliver(self, requests, context):  # noqa: N802
        async for number, _ in self._deliver("Deliver", requests, context):
            if isinstance(number, int):
                yield events_pb2.DeliverResponse(block=_block(number))
            else:
                yield number

    async def DeliverFiltered(self, requests, context):  # noqa: N802
        async for number, _ in self._deliver("DeliverFiltered", requests, context):
            if isinstance(number, int):
                block = events_pb2.FilteredBlock(number=number)
                for transaction_id, code, _ in () if number in self.untold else self.blocks[number]:
                    block.filtered_transactions.add(txid=transaction_id, tx_validation_code=int(code))
                yield events_pb2.DeliverResponse(filtered_block=block)
            else:
                yield number

    async def DeliverWithPrivateData(self, requests, context):  # noqa: N802
        async for number, _ in self._deliver("DeliverWithPrivateData", requests, context):
            if isinstance(number, int):
                whole = events_pb2.BlockAndPrivateData(block=_block(number))
                yield events_pb2.DeliverResponse(block_and_private_data=whole)
            else:
                yield number

    async def _deliver(self, method, requests, context):
        self._record(method)
        envelope = await anext(aiter(requests))
        payload = common_pb2.Payload.FromString(envelope.payload)
        info = ab_pb2.SeekInfo.FromString(payload.data)
        self.requests[method].append(info)
        self.stamps.append(common_pb2.ChannelHeader.FromString(payload.header.channel_header).timestamp.ToNanoseconds())
        creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
        await self._admit(method, creator, envelope.payload, envelope.signature, context)
        async for number, block in self._from(info.start, info.stop):
            yield number, block
        if isinstance(self.stream_end, Failure):
            await self.stream_end.abort(context)
        elif self.stream_end is not None:
            yield events_pb2.DeliverResponse(status=self.stream_end), None
        elif info.stop.specified.number < 2**64 - 1:
            yield events_pb2.DeliverResponse(status=common_pb2.SUCCESS), None

    async def _admit(self, method, creator, message, signature, context):
        if self.script[method]:
            await self.script[method].popleft().abort(context)
        try:
            _verify(creator, message, signature)
        except WrongSignatureError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))

    async def _from(self, start, stop):
        number = start.specified.number if start.HasField("specified") else len(self.blocks)
        if start.HasField("newest"):
            number = len(self.blocks) - 1
        last = stop.specified.number if stop.HasField("specified") else 2**64 - 1
        if stop.HasField("newest"):
            last = number
        while number <= last:
            async with self.committed:
                while not self.end_streams.is_set() and number >= len(self.blocks):
                    await self.committed.wait()
            if self.end_streams.is_set():
                return
            yield number, self.blocks[number]
            number += 1

    async def end_all_streams(self, end=None):
        """Let every stream end: in silence, with a deliver status, or with a Failure."""
        self.stream_end = end
        async with self.committed:
            self.end_streams.set()
            self.committed.notify_all()


def _arguments(payload):
    return list(chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec.input.args)


def _block(number):
    return common_pb2.Block(header=common_pb2.BlockHeader(number=number))


def _verify(creator, message, signature):
    verify(Identity.parse(creator).certificate, message, signature)


@dataclass(frozen=True)
class Member:
    """An identity of the fake network, with its key."""

    identity: Identity
    sign: object


def make_member(msp_id="Org1MSP", common_name="alice"):
    """An identity with a self-signed certificate: the fake peer knows no CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Member(Identity(msp_id, certificate.public_bytes(serialization.Encoding.PEM)), private_key_signer(pem))


@pytest.fixture(scope="session")
def member():
    return make_member()


@pytest.fixture(scope="session")
def stranger():
    return make_member(common_name="mallory")


@pytest.fixture(scope="session")
def failure():
    return Failure


@pytest.fixture
async def fake():
    peer = FakeGateway()
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def channel(fake):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{fake.port}") as channel:
        yield channel


@pytest.fixture(scope="session")
def swift():
    """Retries without waiting."""
    return Retries(first_pause=0.0, longest_pause=0.0)


@pytest.fixture
def gateway(channel, member, swift):
    return connect(channel, member.identity, member.sign, retries=swift)


@pytest.fixture
def contract(gateway):
    return gateway.network("consortium").contract("kv")
