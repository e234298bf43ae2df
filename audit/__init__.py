"""Verifies a job from blocks and blobs alone, with no network and no gateway."""
