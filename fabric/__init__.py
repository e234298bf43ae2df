"""Hyperledger Fabric for Python: chaincode protocol, Gateway client, identities, configuration and blocks."""
