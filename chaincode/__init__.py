"""The ledger's contracts and their records."""
