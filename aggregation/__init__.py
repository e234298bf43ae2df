"""Exact, reproducible aggregation of model updates: ring encoding, sums, server step, manifests. No torch.

Sums are of integers modulo 2^32 and server steps are float64 with correctly rounded operations only, so any member
recomputes a round's outcome bit for bit, and an auditor does so years later.
"""

from .digests import canonical_json, merkle_leaf, merkle_root, merkle_root_of_digests, tagged_hash, tagged_json_hash
from .encoding import RingEncoding
from .errors import (
    AggregationError,
    ArithmeticUnfitError,
    CanonicalError,
    EncodingError,
    TensorFileError,
    UpdateRefusedError,
)
from .manifests import Manifest, ManifestBuilder, TensorEntry, manifest_of
from .rounding import Rounding, RoundingStream, rounding_stream
from .rounds import (
    Aggregate,
    EncodedUpdate,
    Update,
    aggregate,
    aggregate_digest,
    averaged_specs,
    delta_specs,
    encode_update,
    largest_update_bytes,
    step,
    update_specs,
)
from .server import (
    OPTIMIZERS,
    Adagrad,
    Adam,
    ServerOptimizer,
    Sgd,
    SgdMomentum,
    Yogi,
    check_arithmetic,
    decimal,
    server_optimizer,
)
from .tensor_files import TensorFile, TensorFileLimits, TensorFileWriter, write_tensors
from .tensors import MemoryTensors, Tensors, TensorSpec, to_arrays

__all__ = [
    "OPTIMIZERS",
    "Adagrad",
    "Adam",
    "Aggregate",
    "AggregationError",
    "ArithmeticUnfitError",
    "CanonicalError",
    "EncodedUpdate",
    "EncodingError",
    "Manifest",
    "ManifestBuilder",
    "MemoryTensors",
    "RingEncoding",
    "Rounding",
    "RoundingStream",
    "ServerOptimizer",
    "Sgd",
    "SgdMomentum",
    "TensorEntry",
    "TensorFile",
    "TensorFileError",
    "TensorFileLimits",
    "TensorFileWriter",
    "TensorSpec",
    "Tensors",
    "Update",
    "UpdateRefusedError",
    "Yogi",
    "aggregate",
    "aggregate_digest",
    "averaged_specs",
    "canonical_json",
    "check_arithmetic",
    "decimal",
    "delta_specs",
    "encode_update",
    "largest_update_bytes",
    "manifest_of",
    "merkle_leaf",
    "merkle_root",
    "merkle_root_of_digests",
    "rounding_stream",
    "server_optimizer",
    "step",
    "tagged_hash",
    "tagged_json_hash",
    "to_arrays",
    "update_specs",
    "write_tensors",
]
