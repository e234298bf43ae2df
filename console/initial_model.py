"""An initial model from a file: checked against the plan's own before anything is submitted."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .failures import Failure, bad_input
from .output import note

if TYPE_CHECKING:
    from ..aggregation import TensorFile
    from ..chaincode.records import Blob
    from ..gateway import Client

FLOATS = {"F16", "F32", "F64"}
PIECE = 1 << 18
"""Elements read at a time."""


def check_values(path: Path) -> None:
    """Refuse a model that no round can start from.

    Raises:
        Failure: it is no safetensors file, or a weight is not finite as float32, in which rounds compute.
    """
    import numpy

    from ..aggregation import AggregationError, TensorFile

    try:
        with TensorFile(path) as tensors, numpy.errstate(over="ignore"):
            for name, spec in tensors.specs.items():
                if spec.dtype not in FLOATS:
                    continue
                for start in range(0, spec.size, PIECE):
                    values = tensors.read(name, start, min(start + PIECE, spec.size))
                    finite = numpy.isfinite(values.astype(numpy.float32))
                    if not finite.all():
                        raise _wrong(
                            path,
                            f"{name}: element {start + int(finite.argmin())} is NaN, infinite or too large for float32",
                            "train or initialise the model anew",
                        )
    except AggregationError as error:
        raise _wrong(path, f"not a model in safetensors: {error}", "name a safetensors file") from error


async def check_form(client: "Client", path: Path, plan: "Blob", seed: int) -> None:
    """Compare a model's tensors, by name, type and shape, with those of the plan's own, which the gateway makes.

    Raises:
        Failure: a tensor is missing, one too many, or another.
        ApiError: the gateway can't make the plan's model.
    """
    from ..aggregation import TensorFile
    from ..gateway import ApiError

    own = await client.models.initialise(plan, seed=seed)
    with tempfile.TemporaryDirectory(prefix="fedfabric-") as folder:
        fetched = Path(folder) / "model.safetensors"
        try:
            await client.blobs.fetch(own, fetched)
        except ApiError as error:
            if error.code != "NOT_A_PARTICIPANT":
                raise
            # The very model is that of a job of others, who alone may read it.
            note("the plan's own model is part of a job of others: names and shapes are not compared")
            return
        with TensorFile(path) as given, TensorFile(fetched) as wanted:
            _compare(path, given, wanted)


def _compare(path: Path, given: "TensorFile", wanted: "TensorFile") -> None:
    for name in sorted({*given.specs, *wanted.specs}):
        has, needs = given.specs.get(name), wanted.specs.get(name)
        if needs is None:
            raise _wrong(path, f"{name}: the plan's model has no such tensor", "leave it out")
        if has is None:
            raise _wrong(path, f"{name}: the plan's model has this tensor, the file has not", "add it")
        if has != needs:
            raise _wrong(
                path,
                f"{name}: {has.dtype} of shape {list(has.shape)}, the plan's model has {needs.dtype} of shape "
                f"{list(needs.shape)}",
                "save the model that this plan's model_fn makes",
            )


def _wrong(path: Path, what: str, remedy: str) -> Failure:
    return bad_input(what, where=str(path), field="--model", remedy=remedy)
