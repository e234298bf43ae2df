"""One server per organisation: the gRPC API outside, the ledger and the blob store inside."""
