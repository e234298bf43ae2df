"""Blocks of real channels, decoded; hostile ones, refused or kept with their flaw."""

import contextlib
import hashlib
import os
import random
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fedfabric.fabric import blocks
from fedfabric.fabric.blocks import BlockError, Limits, decode_block, read_blocks
from fedfabric.fabric.configuration import genesis_block
from fedfabric.fabric.identity import verify
from hypothesis import given
from hypothesis import strategies as st

CHANNELS = Path(__file__).parents[2] / "data" / "channels"
ORDERINGS = ["bft", "raft"]


def raw(ordering: str, number: int) -> bytes:
    return (CHANNELS / ordering / blocks.block_file_name(number)).read_bytes()


def message(ordering: str, number: int) -> common_pb2.Block:
    return common_pb2.Block.FromString(raw(ordering, number))


@pytest.mark.parametrize("ordering", ORDERINGS)
class TestARealChannel:
    def test_is_a_chain_of_hashes(self, ordering):
        previous = None
        for number, block in enumerate(read_blocks(CHANNELS / ordering)):
            assert block.number == number
            assert block.computed_data_hash == block.data_hash
            assert previous is None or block.previous_hash == previous
            previous = block.header_hash

    def test_is_signed_by_creators_and_endorsers(self, ordering):
        made = 0
        for block in read_blocks(CHANNELS / ordering):
            for transaction in block.transactions:
                assert not transaction.flaw
                if transaction.signature:
                    verify(transaction.creator.certificate, transaction.payload, transaction.signature)
                for endorsement in transaction.action.endorsements if transaction.action else ():
                    signed = transaction.action.result + endorsement.endorser_bytes
                    verify(endorsement.endorser.certificate, signed, endorsement.signature)
                    assert transaction.action.proposal_hash == transaction.action.expected_proposal_hash
                    made += 1
        assert made == 5

    def test_says_what_transactions_read_and_wrote(self, ordering):
        approvals, commit = decode_block(raw(ordering, 1)), decode_block(raw(ordering, 2))
        access = approvals.transactions[0].action.access("_lifecycle")
        assert not access.writes
        assert access.collections[0].collection.startswith("_implicit_org_")
        assert len(access.collections[0].writes) > 1
        assert commit.transactions[0].action.arguments[0] == b"CommitChaincodeDefinition"
        assert "namespaces/fields/kv/Sequence" in {
            write.key for write in commit.transactions[0].action.access("_lifecycle").writes
        }
        later = decode_block(raw(ordering, 4)).transactions[0].action.access("_lifecycle")
        assert {read.version for read in later.reads} == {blocks.Version(2, 0)}

    def test_has_configurations_with_the_updates_that_made_them(self, ordering):
        genesis, update = decode_block(raw(ordering, 0)), decode_block(raw(ordering, 3))
        assert genesis.config is not None
        assert genesis.transactions[0].last_update is None
        assert update.config.sequence == genesis.config.sequence + 1
        assert update.transactions[0].last_update is not None
        assert decode_block(raw(ordering, 4)).last_config == 3

    def test_marks_transactions_as_the_peer_did(self, ordering):
        block = decode_block(raw(ordering, 2))
        assert block.transactions[0].is_valid
        changed = message(ordering, 2)
        changed.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = bytes([11])
        assert decode_block(changed).transactions[0].validation_name == "MVCC_READ_CONFLICT"
        changed.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b""
        assert decode_block(changed).transactions[0].validation_code == blocks.NOT_VALIDATED


def test_header_bytes_are_der():
    assert blocks.header_bytes(0, b"", b"").hex() == "300702010004000400"
    assert blocks.header_bytes(128, b"", b"").hex().startswith("3008" + "02020080")
    long = blocks.header_bytes(2**63, b"p" * 32, b"d" * 200)
    assert long[:3].hex() == "3081" + f"{len(long) - 3:02x}"


def test_bft_signatures_name_consenters_and_raft_signatures_name_certificates():
    (first, *_) = decode_block(raw("bft", 2)).orderer_signatures
    assert first.consenter in {1, 2, 3, 4}
    assert first.signer == b""
    (only,) = decode_block(raw("raft", 2)).orderer_signatures
    assert only.consenter is None
    assert b"OrdererMSP" in only.signer


HOSTILE = {
    "no header": (lambda block: block.ClearField("header"), "no data hash"),
    "a short data hash": (lambda block: setattr(block.header, "data_hash", b"x"), "no data hash of 32"),
    "a short previous hash": (lambda block: setattr(block.header, "previous_hash", b"x"), "previous hash has 1"),
    "no transactions": (lambda block: block.data.ClearField("data"), "0 transactions"),
    "too few flags": (lambda block: block.metadata.metadata.__setitem__(2, b"\0\0\0"), "3 validation flags"),
    "unreadable signatures": (
        lambda block: block.metadata.metadata.__setitem__(0, b"\xff"),
        "signatures: not readable",
    ),
    "unreadable commit hash": (lambda block: block.metadata.metadata.__setitem__(4, b"\xff"), "commit hash"),
}


@pytest.mark.parametrize("flaw", HOSTILE)
def test_a_block_with(flaw):
    change, text = HOSTILE[flaw]
    block = message("bft", 2)
    change(block)
    with pytest.raises(BlockError, match=text) as caught:
        decode_block(block)
    assert "block" in str(caught.value)


def test_limits_are_held():
    data = raw("bft", 1)
    for given_as in (data, common_pb2.Block.FromString(data)):
        with pytest.raises(BlockError, match="at most 100 are read"):
            decode_block(given_as, Limits(block_bytes=100))
    with pytest.raises(BlockError, match="2 transactions"):
        decode_block(data, Limits(transactions=1))
    with pytest.raises(BlockError, match="orderer signatures, at most 1"):
        decode_block(data, Limits(orderer_signatures=1))
    assert "more than 2 reads and writes" in decode_block(data, Limits(entries=2)).transactions[0].flaw
    assert "at most 0 are read" in decode_block(data, Limits(endorsements=0)).transactions[0].flaw


def with_arguments(envelope: bytes, count: int) -> bytes:
    """The same transaction, called with so many arguments."""
    changed = common_pb2.Envelope.FromString(envelope)
    payload = common_pb2.Payload.FromString(changed.payload)
    transaction = transaction_pb2.Transaction.FromString(payload.data)
    content = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
    invoked = proposal_pb2.ChaincodeProposalPayload.FromString(content.chaincode_proposal_payload)
    call = chaincode_pb2.ChaincodeInvocationSpec.FromString(invoked.input)
    call.chaincode_spec.input.args[:] = [b"f"] * count
    invoked.input = call.SerializeToString()
    content.chaincode_proposal_payload = invoked.SerializeToString()
    transaction.actions[0].payload = content.SerializeToString()
    payload.data = transaction.SerializeToString()
    changed.payload = payload.SerializeToString()
    return changed.SerializeToString()


class TestTheLimitOfAWholeBlock:
    """A block of real transactions with 300, 20 and 300 arguments, and each with less than 100 other parts."""

    @pytest.fixture
    def block(self) -> common_pb2.Block:
        block = message("bft", 1)
        real = block.data.data[0]
        block.data.data[:] = [with_arguments(real, count) for count in (300, 20, 300)]
        block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b"\0\0\0"
        return block

    def flawed(self, block: common_pb2.Block, parts: int) -> list[int]:
        transactions = decode_block(block, Limits(parts=parts)).transactions
        assert [one.number for one in transactions] == [0, 1, 2]
        flawed = [one for one in transactions if one.flaw]
        assert all(f"more than {parts} parts in one block" in one.flaw for one in flawed)
        assert all(one.action is None for one in flawed)
        return [one.number for one in flawed]

    def test_counts_all_transactions_together(self, block):
        assert self.flawed(block, 1000) == []
        assert self.flawed(block, 600) == [2]

    def test_is_not_used_up_by_what_is_refused(self, block):
        assert self.flawed(block, 200) == [0, 2]

    def test_is_not_used_up_by_what_the_peer_marked_invalid(self, block):
        block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b"\x0b\x0b\0"
        assert self.flawed(block, 600) == [0]

    @pytest.mark.parametrize(
        "part",
        ["reads", "writes", "range_queries_info", "metadata_writes", "collection_hashed_rwset", "hashed_writes"],
    )
    def test_counts_every_kind_of_part(self, part):
        hashed = kv_rwset_pb2.HashedRWSet(hashed_writes=[{}] * 500).SerializeToString()
        reads = {} if "hashed" in part else {part: [{}] * 500}
        collections = {"collection_hashed_rwset": [{}] * 500, "hashed_writes": [{"hashed_rwset": hashed}]}.get(part)
        namespace = rwset_pb2.NsReadWriteSet(
            namespace="n",
            rwset=kv_rwset_pb2.KVRWSet(**reads).SerializeToString(),
            collection_hashed_rwset=collections,
        )
        assert self.flawed_results([namespace])

    def test_counts_namespaces_and_endorsements(self):
        assert self.flawed_results([rwset_pb2.NsReadWriteSet(namespace=f"n{number}") for number in range(500)])
        assert not self.flawed_results([rwset_pb2.NsReadWriteSet(namespace="n")])
        real = message("bft", 1).data.data[0]
        action = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(real).payload)
        content = transaction_pb2.ChaincodeActionPayload.FromString(
            transaction_pb2.Transaction.FromString(action.data).actions[0].payload
        )
        content.action.endorsements.extend(list(content.action.endorsements) * 500)
        assert self.flawed_content(content)

    def flawed_results(self, namespaces) -> bool:
        content = transaction_pb2.ChaincodeActionPayload()
        content.action.proposal_response_payload = proposal_response_pb2.ProposalResponsePayload(
            extension=proposal_pb2.ChaincodeAction(
                results=rwset_pb2.TxReadWriteSet(ns_rwset=namespaces).SerializeToString()
            ).SerializeToString()
        ).SerializeToString()
        return self.flawed_content(content)

    def flawed_content(self, content: transaction_pb2.ChaincodeActionPayload) -> bool:
        header = common_pb2.ChannelHeader(type=common_pb2.ENDORSER_TRANSACTION).SerializeToString()
        transaction = transaction_pb2.Transaction(actions=[{"payload": content.SerializeToString()}])
        payload = common_pb2.Payload(header={"channel_header": header}, data=transaction.SerializeToString())
        envelope = common_pb2.Envelope(payload=payload.SerializeToString(), signature=b"s")
        block = message("bft", 1)
        block.data.data[:] = [envelope.SerializeToString()]
        block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b"\0"
        (decoded,) = decode_block(block, Limits(parts=499)).transactions
        assert not decoded.flaw or "parts in one block" in decoded.flaw
        return bool(decoded.flaw)


def test_a_configuration_that_lies_too_deep_in_itself_is_not_read():
    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            size, length = size >> 7, length + bytes([size & 127 | 128])
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    def decoded(levels: int) -> blocks.Transaction:
        group = b""
        for _ in range(levels):  # each level is a group within an entry of the map `groups`
            group = field(2, field(1, b"g") + field(2, group))
        payload = common_pb2.Payload(data=field(1, field(2, group)))
        payload.header.channel_header = common_pb2.ChannelHeader(type=common_pb2.CONFIG).SerializeToString()
        return changed_envelope(
            lambda _: common_pb2.Envelope(payload=payload.SerializeToString(), signature=b"s").SerializeToString()
        )

    assert "g" in decoded(40).config.channel_group.groups
    assert decoded(60).flaw == "configuration: not readable"
    assert decoded(2000).flaw == "configuration: not readable"


def changed_envelope(change) -> blocks.Transaction:
    block = message("bft", 2)
    envelope = common_pb2.Envelope.FromString(block.data.data[0])
    block.data.data[0] = change(envelope)
    return decode_block(block).transactions[0]


def test_a_transaction_that_cannot_be_read_is_kept_with_its_flaw():
    unreadable = changed_envelope(lambda _: common_pb2.Envelope(payload=b"\xff", signature=b"s").SerializeToString())
    assert unreadable.flaw == "payload: not readable"
    assert unreadable.validation_code == 0


def test_a_transaction_that_names_a_namespace_twice_is_flawed():
    def twice(envelope: common_pb2.Envelope) -> bytes:
        payload = common_pb2.Payload.FromString(envelope.payload)
        transaction = transaction_pb2.Transaction.FromString(payload.data)
        content = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
        response = proposal_response_pb2.ProposalResponsePayload.FromString(content.action.proposal_response_payload)
        action = proposal_pb2.ChaincodeAction.FromString(response.extension)
        results = rwset_pb2.TxReadWriteSet.FromString(action.results)
        results.ns_rwset.add().CopyFrom(results.ns_rwset[0])
        action.results = results.SerializeToString()
        response.extension = action.SerializeToString()
        content.action.proposal_response_payload = response.SerializeToString()
        transaction.actions[0].payload = content.SerializeToString()
        payload.data = transaction.SerializeToString()
        return common_pb2.Envelope(
            payload=payload.SerializeToString(), signature=envelope.signature
        ).SerializeToString()

    assert "it is there twice" in changed_envelope(twice).flaw


@pytest.mark.parametrize(
    ("envelope", "text"),
    [
        (b"\xff", "envelope: not readable"),
        (b"", "no payload"),
        (common_pb2.Envelope(payload=b"p").SerializeToString(), "no signature"),
        (common_pb2.Envelope(signature=b"s").SerializeToString(), "no payload"),
        (b"\x12\x01s\x0a\x01p", "one form"),
        (b"\x0a\x01p\x12\x01s" * 2, "one form"),
    ],
)
def test_an_envelope_that_no_orderer_takes_breaks_its_block(envelope, text):
    with pytest.raises(BlockError, match=f"block 2, transaction 0: .*{text}"):
        changed_envelope(lambda _: envelope)


def test_a_transaction_cannot_be_cut_into_two_of_the_same_bytes():
    block = message("bft", 2)
    envelope = common_pb2.Envelope.FromString(block.data.data[0])
    halves = [
        common_pb2.Envelope(payload=envelope.payload).SerializeToString(),
        common_pb2.Envelope(signature=envelope.signature).SerializeToString(),
    ]
    assert b"".join(halves) == block.data.data[0]
    block.data.data[:] = halves
    block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = bytes(2)
    with pytest.raises(BlockError, match="no signature"):
        decode_block(block)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_block_or_an_error(data):
    with contextlib.suppress(BlockError):
        decode_block(data)


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("number", range(5))
def test_a_real_block_with_any_byte_changed_is_a_block_or_an_error(ordering, number):
    data = raw(ordering, number)
    source = random.Random(number)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(source.choice([1, 1, 2, 8])):
            changed[source.randrange(len(changed))] = source.randrange(256)
        if source.random() < 0.3:
            del changed[source.randrange(len(changed)) :]
        try:
            block = decode_block(bytes(changed))
        except BlockError:
            continue
        assert len(block.header_hash) == 32


class TestAFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(5):
            (tmp_path / blocks.block_file_name(number)).write_bytes(raw("bft", number))
        (tmp_path / "README.txt").write_text("not a block")
        return tmp_path

    def test_is_read_in_the_order_of_numbers(self, folder):
        assert [block.number for block in read_blocks(folder)] == [0, 1, 2, 3, 4]

    def test_with_a_gap_names_the_missing_file(self, folder):
        (folder / blocks.block_file_name(2)).unlink()
        with pytest.raises(BlockError, match=r"00000002\.block is missing"):
            list(read_blocks(folder))

    def test_with_a_misnamed_block_names_both(self, folder):
        (folder / blocks.block_file_name(4)).write_bytes(raw("bft", 3))
        with pytest.raises(BlockError, match=r"00000004\.block holds block 3"):
            list(read_blocks(folder))

    def test_without_blocks_is_refused(self, tmp_path):
        with pytest.raises(BlockError, match="no files"):
            list(read_blocks(tmp_path))

    def test_with_a_pipe_in_place_of_a_block_does_not_wait_for_it(self, folder):
        path = folder / blocks.block_file_name(4)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BlockError, match="not a plain file"):
            list(read_blocks(folder))

    def test_is_read_one_block_at_a_time(self, folder):
        (folder / blocks.block_file_name(3)).write_bytes(b"")
        reading = read_blocks(folder)
        assert next(reading).number == 0
        with pytest.raises(BlockError, match=r"00000003\.block"):
            list(reading)


def test_a_genesis_block_of_ours_is_decoded(bft_channel):
    block = decode_block(genesis_block(bft_channel).SerializeToString())
    assert isinstance(block.config, configtx_pb2.Config)
    assert block.computed_data_hash == block.data_hash
    assert hashlib.sha256(block.header_bytes).digest() == block.header_hash
