// The official Node client by what `network export` writes:
//
//   node profile.mjs PROFILE.json WALLET USER CHAINCODE KEY
//
// Submits `emit` and `put`, waits for the event, evaluates `get`, and reads the block; prints one line of JSON.
import * as grpc from "@grpc/grpc-js";
import { connect, hash, signers } from "@hyperledger/fabric-gateway";
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const [, , profileFile, walletFolder, user, chaincode, key] = process.argv;
const profile = JSON.parse(fs.readFileSync(profileFile, "utf8"));
const entry = JSON.parse(fs.readFileSync(path.join(walletFolder, `${user}.id`), "utf8"));
const organization = profile.organizations[profile.client.organization];
const peer = profile.peers[organization.peers[0]];
const channel = Object.keys(profile.channels)[0];
if (entry.type !== "X.509" || entry.mspId !== organization.mspid) throw new Error("the wallet is another organization's");

const client = new grpc.Client(
  peer.url.replace(/^grpcs:\/\//, ""),
  grpc.credentials.createSsl(Buffer.from(peer.tlsCACerts.pem)),
  { "grpc.ssl_target_name_override": peer.grpcOptions["ssl-target-name-override"] },
);
const gateway = connect({
  client,
  identity: { mspId: entry.mspId, credentials: Buffer.from(entry.credentials.certificate) },
  signer: signers.newPrivateKeySigner(crypto.createPrivateKey(entry.credentials.privateKey)),
  hash: hash.sha256,
});
try {
  const network = gateway.getNetwork(channel);
  const contract = network.getContract(chaincode);
  const put = await contract.submitAsync("put", { arguments: [key, "from Node"] });
  const { blockNumber, successful } = await put.getStatus();
  const events = await network.getChaincodeEvents(chaincode, { startBlock: blockNumber });
  await contract.submitTransaction("emit", "first", key);
  let event;
  for await (event of events) if (event.eventName === key) break;
  events.close();
  const value = Buffer.from(await contract.evaluateTransaction("get", key)).toString();
  const blocks = await network.getBlockEvents({ startBlock: blockNumber });
  let block;
  for await (block of blocks) break;
  blocks.close();
  console.log(JSON.stringify({
    successful,
    value,
    event: event.eventName,
    payload: Buffer.from(event.payload).toString(),
    blockNumber: Number(blockNumber),
    block: block.getHeader().getNumber(),
    transactions: block.getData().getDataList().length,
  }));
} finally {
  gateway.close();
  client.close();
}
