#!/usr/bin/env bash
# The plain way to the same network: Fabric's own programs, in parallel, polling every 20 ms.
# Three organisations with a peer and a chaincode server each, four BFT orderers, a chaincode, a first transaction.
# Environment: BIN, BUILDER and CONFIG (as fedfabric.network.programs lays them out), PYTHON, CHAINCODE (a file), HERE (an
# empty folder), PORTS (first of 40 free ports). Prints `up` when the transaction is committed; a line on its standard
# input takes everything down.
set -euo pipefail
cd "$HERE"
export FABRIC_LOGGING_SPEC=warning:grpc=error
ORGS=(1 2 3)
ORDERERS=(0 1 2 3)
CHANNEL=consortium
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait' EXIT

peer_port() { echo $((PORTS + $1)); }
peer_chaincode_port() { echo $((PORTS + 4 + $1)); }
server_port() { echo $((PORTS + 8 + $1)); }
peer_operations_port() { echo $((PORTS + 12 + $1)); }
orderer_port() { echo $((PORTS + 16 + $1)); }
admin_port() { echo $((PORTS + 20 + $1)); }
orderer_operations_port() { echo $((PORTS + 24 + $1)); }
peer_folder() { echo "$HERE/crypto/peerOrganizations/org$1.test/peers/peer0.org$1.test"; }
orderer_folder() { echo "$HERE/crypto/ordererOrganizations/orderer.test/orderers/o$1.orderer.test"; }
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
until_listening() { until listening "$1"; do sleep 0.02; done; }
insist() { until "$@" >>"$HERE/commands.log" 2>&1; do sleep 0.02; done; }
parallel_wait() { for job in "$@"; do wait "$job"; done; }

# certificates and genesis block
{
  echo 'OrdererOrgs: [{Name: Orderer, Domain: orderer.test, EnableNodeOUs: true, Specs: ['
  for i in "${ORDERERS[@]}"; do echo "{Hostname: o$i, SANS: [127.0.0.1]},"; done
  echo ']}]'
  echo 'PeerOrgs: ['
  for o in "${ORGS[@]}"; do
    echo "{Name: Org$o, Domain: org$o.test, EnableNodeOUs: true, Template: {Count: 1, SANS: [127.0.0.1]}, Users: {Count: 1}},"
  done
  echo ']'
} >crypto.yaml
"$BIN/cryptogen" generate --config crypto.yaml --output crypto

policy() { echo "$1: {Type: Signature, Rule: \"$2\"}"; }
meta() { echo "$1: {Type: ImplicitMeta, Rule: \"$2\"}"; }
standard() { meta Readers 'ANY Readers'; meta Writers 'ANY Writers'; meta Admins 'MAJORITY Admins'; }
indented() { sed "s/^/$(printf '%*s' "$1" '')/"; }
{
  echo 'Profiles:'
  echo '  Whole:'
  echo '    Capabilities: {V3_0: true}'
  echo '    Policies:'
  standard | indented 6
  echo '    Orderer:'
  echo '      OrdererType: BFT'
  echo '      BatchTimeout: 50ms'
  echo '      BatchSize: {MaxMessageCount: 500, AbsoluteMaxBytes: 10 MB, PreferredMaxBytes: 2 MB}'
  echo '      Capabilities: {V2_0: true}'
  echo '      SmartBFT: {RequestBatchMaxCount: 500, RequestBatchMaxInterval: 50ms, RequestForwardTimeout: 500ms,'
  echo '        RequestComplainTimeout: 1s, RequestAutoRemoveTimeout: 3m, ViewChangeResendInterval: 500ms,'
  echo '        ViewChangeTimeout: 2s, LeaderHeartbeatTimeout: 2s, CollectTimeout: 1s, RequestBatchMaxBytes: 10485760,'
  echo '        IncomingMessageBufferSize: 200, RequestPoolSize: 100000, LeaderHeartbeatCount: 10}'
  echo '      ConsenterMapping:'
  for i in "${ORDERERS[@]}"; do
    f=$(orderer_folder "$i")
    echo "      - {ID: $((i + 1)), Host: 127.0.0.1, Port: $(orderer_port "$i"), MSPID: OrdererMSP,"
    echo "         Identity: $f/msp/signcerts/o$i.orderer.test-cert.pem,"
    echo "         ClientTLSCert: $f/tls/server.crt, ServerTLSCert: $f/tls/server.crt}"
  done
  echo '      Policies:'
  { standard; meta BlockValidation 'ANY Writers'; } | indented 8
  echo '      Organizations:'
  echo "      - Name: OrdererMSP"
  echo "        ID: OrdererMSP"
  echo "        MSPDir: $HERE/crypto/ordererOrganizations/orderer.test/msp"
  echo "        OrdererEndpoints: [$(for i in "${ORDERERS[@]}"; do echo -n "127.0.0.1:$(orderer_port "$i"),"; done)]"
  echo '        Policies:'
  {
    policy Readers "OR('OrdererMSP.member')"; policy Writers "OR('OrdererMSP.member')"
    policy Admins "OR('OrdererMSP.admin')"
  } | indented 10
  echo '    Application:'
  echo '      Capabilities: {V2_5: true}'
  echo '      Policies:'
  { standard; meta LifecycleEndorsement 'MAJORITY Endorsement'; meta Endorsement 'MAJORITY Endorsement'; } | indented 8
  echo '      Organizations:'
  for o in "${ORGS[@]}"; do
    m=Org${o}MSP
    echo "      - Name: $m"
    echo "        ID: $m"
    echo "        MSPDir: $HERE/crypto/peerOrganizations/org$o.test/msp"
    echo "        AnchorPeers: [{Host: 127.0.0.1, Port: $(peer_port "$o")}]"
    echo '        Policies:'
    {
      policy Readers "OR('$m.admin','$m.peer','$m.client')"; policy Writers "OR('$m.admin','$m.client')"
      policy Admins "OR('$m.admin')"; policy Endorsement "OR('$m.peer')"
    } | indented 10
  done
} >configtx.yaml
"$BIN/configtxgen" -profile Whole -channelID "$CHANNEL" -outputBlock genesis.block -configPath "$HERE" 2>>commands.log

# the package, the same for every organisation; its id is needed by the chaincode servers
mkdir package && cd package
cat >connection.json <<'JSON'
{"address": "{{.address}}", "dial_timeout": "10s", "tls_required": true, "client_auth_required": true,
 "root_cert": "{{.root_cert}}", "client_cert": "{{.client_cert}}", "client_key": "{{.client_key}}"}
JSON
echo '{"type": "ccaas", "label": "kv"}' >metadata.json
tar czf code.tar.gz connection.json && tar czf ../kv.tgz metadata.json code.tar.gz
cd ..
package_id=kv:$(sha256sum kv.tgz | cut -d' ' -f1)

# all processes at once
for i in "${ORDERERS[@]}"; do
  f=$(orderer_folder "$i")
  mkdir "orderer$i" && cp "$CONFIG/orderer.yaml" "orderer$i/"
  env FABRIC_CFG_PATH="$HERE/orderer$i" ORDERER_GENERAL_LISTENADDRESS=127.0.0.1 \
    ORDERER_GENERAL_LISTENPORT="$(orderer_port "$i")" ORDERER_GENERAL_LOCALMSPID=OrdererMSP \
    ORDERER_GENERAL_LOCALMSPDIR="$f/msp" ORDERER_GENERAL_BOOTSTRAPMETHOD=none ORDERER_GENERAL_TLS_ENABLED=true \
    ORDERER_GENERAL_TLS_PRIVATEKEY="$f/tls/server.key" ORDERER_GENERAL_TLS_CERTIFICATE="$f/tls/server.crt" \
    ORDERER_GENERAL_TLS_ROOTCAS="[$f/tls/ca.crt]" ORDERER_GENERAL_CLUSTER_CLIENTCERTIFICATE="$f/tls/server.crt" \
    ORDERER_GENERAL_CLUSTER_CLIENTPRIVATEKEY="$f/tls/server.key" ORDERER_GENERAL_CLUSTER_ROOTCAS="[$f/tls/ca.crt]" \
    ORDERER_CHANNELPARTICIPATION_ENABLED=true ORDERER_ADMIN_LISTENADDRESS="127.0.0.1:$(admin_port "$i")" \
    ORDERER_ADMIN_TLS_ENABLED=true ORDERER_ADMIN_TLS_PRIVATEKEY="$f/tls/server.key" \
    ORDERER_ADMIN_TLS_CERTIFICATE="$f/tls/server.crt" ORDERER_ADMIN_TLS_CLIENTAUTHREQUIRED=true \
    ORDERER_ADMIN_TLS_CLIENTROOTCAS="[$f/tls/ca.crt]" \
    ORDERER_OPERATIONS_LISTENADDRESS="127.0.0.1:$(orderer_operations_port "$i")" \
    ORDERER_FILELEDGER_LOCATION="$HERE/orderer$i/ledger" ORDERER_CONSENSUS_WALDIR="$HERE/orderer$i/wal" \
    ORDERER_CONSENSUS_SNAPDIR="$HERE/orderer$i/snap" "$BIN/orderer" >"orderer$i.log" 2>&1 &
  pids+=($!)
done
for o in "${ORGS[@]}"; do
  f=$(peer_folder "$o") a=127.0.0.1:$(peer_port "$o") c=127.0.0.1:$(peer_chaincode_port "$o")
  mkdir "peer$o"
  sed -e "s#/opt/hyperledger/ccaas_builder#$BUILDER#" -e "s#unix:///var/run/docker.sock#''#" "$CONFIG/core.yaml" \
    >"peer$o/core.yaml"
  "$PYTHON" -IS -c 'import json, sys
name = sys.argv[1]
read = lambda file: open(f"{name}/tls/{file}").read()
print(json.dumps({"address": sys.argv[2], "root_cert": read("ca.crt"), "client_cert": read("server.crt"),
                  "client_key": read("server.key")}))' "$f" "127.0.0.1:$(server_port "$o")" >"peer$o/ccaas.json"
  env FABRIC_CFG_PATH="$HERE/peer$o" CORE_PEER_ID="peer$o" CORE_PEER_ADDRESS="$a" CORE_PEER_LISTENADDRESS="$a" \
    CORE_PEER_CHAINCODELISTENADDRESS="$c" CORE_PEER_CHAINCODEADDRESS="$c" CORE_PEER_GOSSIP_BOOTSTRAP="$a" \
    CORE_PEER_GOSSIP_EXTERNALENDPOINT="$a" CORE_PEER_LOCALMSPID="Org${o}MSP" CORE_PEER_MSPCONFIGPATH="$f/msp" \
    CORE_PEER_FILESYSTEMPATH="$HERE/peer$o/data" CORE_LEDGER_SNAPSHOTS_ROOTDIR="$HERE/peer$o/data/snapshots" \
    CORE_OPERATIONS_LISTENADDRESS="127.0.0.1:$(peer_operations_port "$o")" CORE_PEER_TLS_ENABLED=true \
    CORE_PEER_TLS_CERT_FILE="$f/tls/server.crt" CORE_PEER_TLS_KEY_FILE="$f/tls/server.key" \
    CORE_PEER_TLS_ROOTCERT_FILE="$f/tls/ca.crt" CORE_PEER_GOSSIP_RECONNECTINTERVAL=300ms \
    CORE_PEER_GOSSIP_ALIVETIMEINTERVAL=1s CORE_PEER_GOSSIP_PUBLISHSTATEINFOINTERVAL=1s \
    CORE_PEER_GOSSIP_REQUESTSTATEINFOINTERVAL=1s CORE_VM_ENDPOINT= \
    CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG="{\"file\": \"$HERE/peer$o/ccaas.json\"}" \
    "$BIN/peer" node start >"peer$o.log" 2>&1 &
  pids+=($!)
  env CHAINCODE_ID="$package_id" CHAINCODE_SERVER_ADDRESS="127.0.0.1:$(server_port "$o")" \
    CHAINCODE_TLS_KEY="$f/tls/server.key" CHAINCODE_TLS_CERT="$f/tls/server.crt" \
    CHAINCODE_CLIENT_CA_CERT="$f/tls/ca.crt" "$PYTHON" "$CHAINCODE" >"chaincode$o.log" 2>&1 &
  pids+=($!)
done

# join, install, approve: each step in parallel
as() {
  local o=$1
  shift
  env FABRIC_CFG_PATH="$HERE/peer$o" CORE_PEER_LOCALMSPID="Org${o}MSP" CORE_PEER_ADDRESS="127.0.0.1:$(peer_port "$o")" \
    CORE_PEER_MSPCONFIGPATH="$HERE/crypto/peerOrganizations/org$o.test/users/Admin@org$o.test/msp" \
    CORE_PEER_TLS_ENABLED=true CORE_PEER_TLS_ROOTCERT_FILE="$(peer_folder "$o")/tls/ca.crt" "$BIN/peer" "$@"
}
ordered=(-o "127.0.0.1:$(orderer_port 0)" --tls --cafile "$(orderer_folder 0)/tls/ca.crt" -C "$CHANNEL")
everybody=()
for o in "${ORGS[@]}"; do
  everybody+=(--peerAddresses "127.0.0.1:$(peer_port "$o")" --tlsRootCertFiles "$(peer_folder "$o")/tls/ca.crt")
done
join_orderer() {
  local f
  f=$(orderer_folder "$1")
  until_listening "$(admin_port "$1")"
  "$BIN/osnadmin" channel join --channelID "$CHANNEL" --config-block genesis.block \
    -o "127.0.0.1:$(admin_port "$1")" --ca-file "$f/tls/ca.crt" --client-cert "$f/tls/server.crt" \
    --client-key "$f/tls/server.key" | grep -q 'Status: 201'
}
join_peer() {
  until_listening "$(peer_port "$1")"
  as "$1" channel join -b genesis.block >>commands.log 2>&1
  as "$1" lifecycle chaincode install kv.tgz >>commands.log 2>&1
}
jobs=()
for i in "${ORDERERS[@]}"; do join_orderer "$i" & jobs+=($!); done
for o in "${ORGS[@]}"; do join_peer "$o" & jobs+=($!); done
parallel_wait "${jobs[@]}"
jobs=()
for o in "${ORGS[@]}"; do
  insist as "$o" lifecycle chaincode approveformyorg "${ordered[@]}" -n kv -v 1.0 --sequence 1 \
    --package-id "$package_id" & jobs+=($!)
done
parallel_wait "${jobs[@]}"
insist as 1 lifecycle chaincode commit "${ordered[@]}" -n kv -v 1.0 --sequence 1 "${everybody[@]}"

# the first transaction
for o in "${ORGS[@]}"; do until_listening "$(server_port "$o")"; done
insist as 1 chaincode invoke "${ordered[@]}" -n kv -c '{"Args": ["nothing"]}' --waitForEvent "${everybody[@]}"
echo up
read -r _
kill "${pids[@]}"
wait "${pids[@]}" || true
pids=()
echo down
