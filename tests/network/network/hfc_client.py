"""Run by Python of an environment that holds hfc 1.0.0, never by pytest's: `hfc_client.py PROFILE USER CHAINCODE KEY`.

By the profile alone it submits `put` and waits for the event, evaluates `get` and reads the newest block; prints one
line of JSON.
"""

import asyncio
import json
import sys

from hfc.fabric import Client


async def main(profile, user, chaincode, key):
    client = Client(net_profile=profile)
    organisation = client.get_net_info("client", "organization")
    (channel,) = client.get_net_info("channels")
    requestor = client.get_user(organisation, user)
    client.new_channel(channel)
    peers = [client.get_peer(name) for name in client.get_net_info("peers")]
    own = [client.get_peer(client.get_net_info("organizations", organisation, "peers")[0])]
    common = {"requestor": requestor, "channel_name": channel, "cc_name": chaincode}
    submitted = await client.chaincode_invoke(
        peers=peers, fcn="put", args=[key, "from hfc"], wait_for_event=True, wait_for_event_timeout=30, **common
    )
    value = await client.chaincode_query(peers=own, fcn="get", args=[key], **common)
    height = (await client.query_info(requestor, channel, own)).height
    block = await client.query_block(requestor, channel, own, block_number=str(height - 1), decode=True)
    await client.close_grpc_channels()
    return {
        "submitted": submitted,
        "value": value,
        "height": height,
        "block": int(block["header"]["number"]),
        "transactions": len(block["data"]["data"]),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
