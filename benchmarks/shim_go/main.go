// The contract of tests/network/chaincodes/kv.py on the official Go shim, for the benchmark `shim`.
package main

import (
	"fmt"
	"os"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

type keyValue struct{}

func (keyValue) Init(shim.ChaincodeStubInterface) *peer.Response {
	return shim.Success(nil)
}

func (keyValue) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	// As many writes as our shim sends at a time: one batch where the peer takes batches.
	stub.StartWriteBatch()
	args := stub.GetArgs()
	switch {
	case len(args) == 3 && string(args[0]) == "put":
		if err := stub.PutState(string(args[1]), args[2]); err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(args[1])
	case len(args) == 2 && string(args[0]) == "get":
		value, err := stub.GetState(string(args[1]))
		if err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(value)
	case len(args) == 1 && string(args[0]) == "nothing":
		return shim.Success(nil)
	}
	return &peer.Response{Status: 404, Message: "there is no such transaction"}
}

func read(variable string) []byte {
	content, err := os.ReadFile(os.Getenv(variable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return content
}

func main() {
	server := &shim.ChaincodeServer{
		CCID:    os.Getenv("CHAINCODE_ID"),
		Address: os.Getenv("CHAINCODE_SERVER_ADDRESS"),
		CC:      keyValue{},
		TLSProps: shim.TLSProperties{
			Key:           read("CHAINCODE_TLS_KEY"),
			Cert:          read("CHAINCODE_TLS_CERT"),
			ClientCACerts: read("CHAINCODE_CLIENT_CA_CERT"),
		},
	}
	if err := server.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
