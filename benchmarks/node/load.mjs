// Load by the official Node client: the same work, in the same shape, as load.py's.
//
//   node load.mjs SETTINGS.json
//
// SETTINGS: {endpoint, roots, mspId, certificate, key, channel, chaincode, inFlight, warmUpSeconds, seconds, valueBytes}
// (roots, certificate and key are paths of PEM files). Prints one line of JSON:
// {committed, failed, firstFailure, seconds, p50Ms, p95Ms, cpu}.
import * as grpc from "@grpc/grpc-js";
import { connect, hash, signers } from "@hyperledger/fabric-gateway";
import crypto from "node:crypto";
import fs from "node:fs";

const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const client = new grpc.Client(settings.endpoint, grpc.credentials.createSsl(fs.readFileSync(settings.roots)));
const gateway = connect({
  client,
  identity: { mspId: settings.mspId, credentials: fs.readFileSync(settings.certificate) },
  signer: signers.newPrivateKeySigner(crypto.createPrivateKey(fs.readFileSync(settings.key))),
  hash: hash.sha256,
});
const contract = gateway.getNetwork(settings.channel).getContract(settings.chaincode);
const value = crypto.randomBytes(settings.valueBytes / 2).toString("hex");
const prefix = crypto.randomBytes(8).toString("hex");

const begin = performance.now() + settings.warmUpSeconds * 1000;
const end = begin + settings.seconds * 1000;
const latencies = [];
let number = 0;
let failed = 0;
let firstFailure = null;
let cpuAtBegin = null;
let cpuAtEnd = null;

setTimeout(() => { cpuAtBegin = process.cpuUsage(); }, settings.warmUpSeconds * 1000);
setTimeout(() => { cpuAtEnd = process.cpuUsage(cpuAtBegin); }, (settings.warmUpSeconds + settings.seconds) * 1000);

async function worker() {
  while (performance.now() < end) {
    const started = performance.now();
    try {
      await contract.submitTransaction("put", `${prefix}${number++}`, value);
      const ended = performance.now();
      if (begin <= ended && ended < end) latencies.push(ended - started);
    } catch (error) {
      failed += 1;
      firstFailure ??= String(error);
    }
  }
}

await Promise.all(Array.from({ length: settings.inFlight }, worker));
latencies.sort((a, b) => a - b);
const at = (share) => latencies.length === 0 ? null : latencies[Math.floor(share * (latencies.length - 1))];
console.log(JSON.stringify({
  committed: latencies.length,
  failed,
  firstFailure,
  seconds: settings.seconds,
  p50Ms: at(0.5),
  p95Ms: at(0.95),
  cpu: cpuAtEnd === null ? null : (cpuAtEnd.user + cpuAtEnd.system) / 1e6 / settings.seconds,
}));
gateway.close();
client.close();
