"""Exact, reproducible aggregation of model updates: ring encoding, sums, server step, manifests. No torch."""
