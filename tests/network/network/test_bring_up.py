"""A network, once up, takes transactions from every organisation."""

from fedfabric.fabric.client import connect, open_channel


async def test_every_organisation_submits_and_reads(bft_network):
    for name, organisation in bft_network.organisations.items():
        if not organisation.peers:
            continue
        user = await bft_network.enrol(name, "reader", role="scientist")
        roots = organisation.peer_tls_ca.read_bytes()
        async with open_channel(organisation.peer_endpoint, roots) as channel:
            gateway = connect(channel, user.identity(), user.signer())
            contract = gateway.network(bft_network.channel_name).contract("kv")
            await contract.submit("put", f"bring-up/{name}", name)
            assert await contract.evaluate("get", f"bring-up/{name}") == name.encode()


async def test_one_raft_orderer_is_enough(raft_network):
    organisation = raft_network.organisations["beta"]
    user = await raft_network.enrol("beta", "reader")
    async with open_channel(organisation.peer_endpoint, organisation.peer_tls_ca.read_bytes()) as channel:
        contract = connect(channel, user.identity(), user.signer()).network(raft_network.channel_name).contract("kv")
        await contract.submit("put", "bring-up/raft", "1")
        assert await contract.evaluate("get", "bring-up/raft") == b"1"
