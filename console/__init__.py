"""The fedfabric command: composition root."""
