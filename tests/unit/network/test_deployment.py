"""Channel and chaincode on processes that do not all answer yet."""

import datetime
from types import SimpleNamespace

import grpc
from fedfabric.fabric.identity import Identity, private_key_signer
from fedfabric.network.deployment import endorsers
from fedfabric.network.identities import Authorities

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


async def test_a_peer_that_does_not_answer_yet_knows_no_endorsers_so_that_it_is_asked_again():
    issued = Authorities.create("a", NOW).signing.issue("admin", NOW, kind="admin")

    class Nobody:
        async def channel(self, _place):
            return channel

        def administrator(self, _organisation):
            return Identity("AMSP", issued.certificate), private_key_signer(issued.key)

    layout = SimpleNamespace(state=SimpleNamespace(spec=SimpleNamespace(channel="consortium")))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        known = await endorsers(layout, Nobody(), SimpleNamespace(organisation=None), "kv")
    assert known == frozenset()
