import importlib.util
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fedfabric.aggregation import (
    OPTIMIZERS,
    Adam,
    Aggregate,
    AggregationError,
    EncodingError,
    MemoryTensors,
    RingEncoding,
    Rounding,
    Sgd,
    TensorFile,
    TensorFileError,
    TensorSpec,
    Update,
    aggregate,
    aggregate_digest,
    delta_specs,
    encode_update,
    largest_update_bytes,
    manifest_of,
    server_optimizer,
    step,
    to_arrays,
    update_specs,
    write_tensors,
)
from fedfabric.aggregation.rounds import RingSum
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

HERE = Path(__file__).parent
MODEL = MemoryTensors(
    {
        "w": np.linspace(-1, 1, 5000, dtype=np.float32).reshape(50, 100),
        "b": np.zeros((), dtype=np.float32),
        "seen": np.array(5, dtype=np.int64),
    }
)
SAMPLES = {"AMSP": 100, "BMSP": 50, "CMSP": 7}
ENCODING = RingEncoding(0.5, 200, 4)


def delta_of(member, model=MODEL, scale=0.1):
    generator = np.random.default_rng(sum(member.encode()))
    return {
        name: generator.normal(0, scale, spec.shape).astype(spec.numpy)
        for name, spec in delta_specs(model.specs).items()
    }


def update_of(member, samples=None, encoding=ENCODING, delta=None):
    samples = SAMPLES[member] if samples is None else samples
    rounding = Rounding(member.encode() * 8, "job", 1)
    delta = MemoryTensors(delta_of(member) if delta is None else delta)
    return Update(member, encode_update(delta, MODEL.specs, samples, encoding, rounding).tensors, samples)


UPDATES = [update_of(member) for member in SAMPLES]


def test_the_model_moves_by_the_weighted_mean_of_the_deltas():
    outcome = aggregate(MODEL, UPDATES, ENCODING, Sgd())
    total = sum(SAMPLES.values())
    for name in ("w", "b"):
        mean = sum(delta_of(member)[f"delta/{name}"].astype(np.float64) * n for member, n in SAMPLES.items()) / total
        expected = MODEL.arrays[name].astype(np.float64) + mean
        error = np.abs(outcome.model.arrays[name] - expected)
        assert np.all(error <= ENCODING.error_bound(3, total) + np.spacing(np.abs(expected).astype(np.float32)) / 2)
    assert outcome.counted == ("AMSP", "BMSP", "CMSP")
    assert outcome.samples == total
    assert outcome.refused == ()


def test_integer_tensors_stay_as_they_are():
    outcome = aggregate(MODEL, UPDATES, ENCODING, Sgd())
    assert outcome.model.arrays["seen"] == 5
    assert outcome.model.specs == MODEL.specs


def test_digests_are_over_ring_sum_model_and_state():
    outcome = aggregate(MODEL, UPDATES, ENCODING, Adam())
    ring = {
        name: np.add.reduce([to_arrays(update.tensors)[name] for update in UPDATES], dtype=np.uint32)
        for name in update_specs(MODEL.specs)
    }
    assert outcome.ring_digest == manifest_of(MemoryTensors(ring)).digest
    assert outcome.model_digest == manifest_of(outcome.model).digest
    assert outcome.state_digest == manifest_of(outcome.state).digest
    assert outcome.digest == aggregate_digest(outcome.ring_digest, outcome.model_digest, outcome.state_digest)


def test_each_of_the_three_parts_changes_the_digest():
    assert len({aggregate_digest(*parts) for parts in ("abc", "xbc", "axc", "abx", "bac")}) == 5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_files_and_memory_give_the_same_digests_over_rounds(name, tmp_path):
    optimizer = server_optimizer({"name": name})
    in_memory: Aggregate | None = None
    in_files: Aggregate | None = None
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        in_memory = aggregate(
            in_memory.model if in_memory else MODEL, UPDATES, ENCODING, optimizer, in_memory and in_memory.state
        )
        model, state = (in_files.model, in_files.state) if in_files else (MODEL, None)
        previous, in_files = in_files, aggregate(model, UPDATES, ENCODING, optimizer, state, out=folder)
        if previous:
            previous.close()
        assert in_files.digest == in_memory.digest
    in_files.close()
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "state.safetensors"]
    with TensorFile(folder / "model.safetensors") as file:
        assert manifest_of(file).digest == in_memory.model_digest


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_streamed_step_is_the_step_in_memory(name):
    optimizer = server_optimizer({"name": name})
    outcome = aggregate(MODEL, UPDATES, ENCODING, optimizer)
    ring = {
        name: np.add.reduce([to_arrays(update.tensors)[name] for update in UPDATES], dtype=np.uint32)
        for name in update_specs(MODEL.specs)
    }
    mean = {n.removeprefix("delta/"): v for n, v in ENCODING.decode(ring, outcome.samples).items()}
    averaged = {name: MODEL.specs[name] for name in ("w", "b")}
    model, state = optimizer.step(MODEL.arrays, mean, optimizer.init(averaged))
    assert manifest_of(MemoryTensors(model)).digest == outcome.model_digest
    assert manifest_of(MemoryTensors(state)).digest == outcome.state_digest
    assert step(MODEL, MemoryTensors(ring), outcome.samples, ENCODING, optimizer).digest == outcome.digest


def test_the_order_of_updates_does_not_matter():
    shuffled = UPDATES[:]
    random.Random(1).shuffle(shuffled)
    shuffled.reverse()
    assert aggregate(MODEL, shuffled, ENCODING, Sgd()).digest == aggregate(MODEL, UPDATES, ENCODING, Sgd()).digest


def corrupted(**changes):
    arrays = {name: array.copy() for name, array in to_arrays(UPDATES[1].tensors).items()}
    return MemoryTensors({**arrays, **changes})


RING_W = to_arrays(UPDATES[1].tensors)["delta/w"]
TOO_HEAVY = RING_W.copy()
TOO_HEAVY[20, 5] = ENCODING.limit(50) + 1
TOO_LOW = RING_W.copy()
TOO_LOW[49, 99] = np.array(-ENCODING.limit(50) - 1).astype(np.uint32)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (corrupted(**{"delta/w": TOO_HEAVY}), "exceeds the range"),
        (corrupted(**{"delta/w": TOO_LOW}), "exceeds the range"),
        (corrupted(**{"delta/w": RING_W.reshape(100, 50)}), "takes U32"),
        (corrupted(**{"delta/w": RING_W.view(np.int32)}), "takes U32"),
        (corrupted(**{"delta/extra": RING_W}), "not one of the model's"),
        (MemoryTensors({"delta/w": RING_W}), "missing"),
    ],
    ids=["above its weight", "below its weight", "shape", "type", "a tensor more", "a tensor less"],
)
def test_an_update_that_no_honest_member_can_send_is_left_out(tensors, reason, tmp_path):
    bad = Update("BMSP", tensors, 50)
    with aggregate(MODEL, [UPDATES[0], bad, UPDATES[2]], ENCODING, Sgd(), out=tmp_path) as outcome:
        pass
    assert outcome.digest == aggregate(MODEL, [UPDATES[0], UPDATES[2]], ENCODING, Sgd()).digest
    assert outcome.counted == ("AMSP", "CMSP")
    assert [error.member for error in outcome.refused] == ["BMSP"]
    assert reason in str(outcome.refused[0])


def test_more_weight_than_registered_is_left_out():
    heavier = update_of("BMSP", samples=60)
    claimed = Update("BMSP", heavier.tensors, 50)
    full = np.full((50, 100), 0.5, dtype=np.float32)
    saturated = update_of("BMSP", samples=60, delta={**delta_of("BMSP"), "delta/w": full})
    claimed = Update("BMSP", saturated.tensors, 50)
    assert aggregate(MODEL, [UPDATES[0], claimed], ENCODING, Sgd()).counted == ("AMSP",)


def test_no_update_that_can_be_read_is_larger_than_the_largest(tmp_path):
    largest = largest_update_bytes(MODEL.specs)
    encoded = update_of("AMSP").tensors
    write_tensors(tmp_path / "honest", encoded)
    content = (tmp_path / "honest").read_bytes()
    header = int.from_bytes(content[:8], "little")
    room = largest - len(content)
    assert room > 0
    for name, spaces in (("whole", room), ("more", room + 1)):
        padded = (header + spaces).to_bytes(8, "little") + content[8 : 8 + header] + b" " * spaces
        (tmp_path / name).write_bytes(padded + content[8 + header :])
    assert (tmp_path / "whole").stat().st_size == largest
    with TensorFile(tmp_path / "whole") as file:
        assert manifest_of(file).digest == manifest_of(encoded).digest
    with pytest.raises(TensorFileError):
        TensorFile(tmp_path / "more")


def test_a_round_of_invalid_updates_only_is_an_error(tmp_path):
    with pytest.raises(AggregationError, match="BMSP") as refusal:
        aggregate(MODEL, [Update("BMSP", MemoryTensors({}), 50)], ENCODING, Sgd(), out=tmp_path)
    assert refusal.value.code == "NO_UPDATES"
    with pytest.raises(AggregationError):
        aggregate(MODEL, [], ENCODING, Sgd())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("updates", "code"),
    [
        ([UPDATES[0], UPDATES[0]], "DUPLICATE"),
        ([Update(name, UPDATES[2].tensors, 7) for name in "ABCDE"], "COHORT"),
        ([UPDATES[0], Update("BMSP", UPDATES[1].tensors, 150)], "SAMPLES"),
    ],
    ids=["member twice", "more than the cohort", "more samples than registered"],
)
def test_rounds_that_contradict_themselves_are_errors(updates, code):
    with pytest.raises(AggregationError) as refusal:
        aggregate(MODEL, updates, ENCODING, Sgd())
    assert refusal.value.code == code


def test_a_state_of_another_optimizer_is_refused():
    state = aggregate(MODEL, UPDATES, ENCODING, Adam()).state
    with pytest.raises(AggregationError) as refusal:
        aggregate(MODEL, UPDATES, ENCODING, Sgd(), state)
    assert refusal.value.code == "STATE"


def test_a_step_out_of_the_types_range_is_refused():
    model = MemoryTensors({"w": np.array([3.4e38], dtype=np.float32)})
    encoding = RingEncoding(1e12, 1, 1)
    encoded = encode_update(
        MemoryTensors({"delta/w": np.array([1e12], dtype=np.float32)}),
        model.specs,
        1,
        encoding,
        Rounding(bytes(16), "j", 1),
    )
    with pytest.raises(AggregationError) as refusal:
        aggregate(model, [Update("A", encoded.tensors, 1)], encoding, Sgd(1e30))
    assert refusal.value.code == "NOT_FINITE"


@pytest.mark.parametrize(
    "model",
    [{"w": np.zeros(3, dtype=np.float16)}, {"n": np.array(3)}, {}],
    ids=["half floats", "integers only", "nothing"],
)
def test_models_that_can_not_be_averaged_are_refused(model):
    with pytest.raises(AggregationError):
        aggregate(MemoryTensors(model), UPDATES, ENCODING, Sgd())


@pytest.mark.parametrize(
    "delta",
    [
        {**delta_of("AMSP"), "delta/w": np.zeros((2, 2), dtype=np.float32)},
        {**delta_of("AMSP"), "delta/seen": np.array(1)},
        {"delta/w": delta_of("AMSP")["delta/w"]},
        {**delta_of("AMSP"), "delta/b": np.array(np.nan, dtype=np.float32)},
    ],
    ids=["shape", "integer tensor", "missing", "nan"],
)
def test_a_trainers_bad_delta_is_not_encoded(delta, tmp_path):
    with pytest.raises(EncodingError):
        encode_update(
            MemoryTensors(delta), MODEL.specs, 10, ENCODING, Rounding(bytes(16), "j", 1), out=tmp_path / "update"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_update_cut_short_on_disk_stops_the_round_and_leaves_no_model(tmp_path):
    big = MemoryTensors({"w": np.zeros(600_000, dtype=np.float32)})
    encoding = RingEncoding(1.0, 2, 2)
    files = []
    for member in ("A", "B"):
        delta = MemoryTensors({"delta/w": np.full(600_000, 0.5, dtype=np.float32)})
        rounding = Rounding(bytes(16), "j", 1)
        files.append(encode_update(delta, big.specs, 1, encoding, rounding, out=tmp_path / member).tensors)
    os.truncate(tmp_path / "B", 1_000_000)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(AggregationError) as refusal:
        aggregate(big, [Update("A", files[0], 1), Update("B", files[1], 1)], encoding, Sgd(), out=out)
    assert refusal.value.code == "TRUNCATED"
    assert list(out.iterdir()) == []
    for file in files:
        file.close()


class Synthetic:
    """Tensors of any size without memory."""

    def __init__(self, specs, value):
        self.specs = specs
        self.value = value

    def read(self, name, start, stop):
        return np.full(stop - start, self.value, dtype=self.specs[name].numpy)


def test_memory_is_bounded_by_the_segment_and_not_by_the_model(tmp_path):
    specs = {"w": TensorSpec("F32", (8_000_000,))}
    model = Synthetic(specs, 0.25)
    encoding = RingEncoding(1.0, 10, 10)
    updates = [Update(str(k), Synthetic(update_specs(specs), 12345 + k), 1) for k in range(10)]
    tracemalloc.start()
    aggregate(model, updates, encoding, Adam(), out=tmp_path).close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 << 20  # the model alone has 30 MiB, model and state together 152
    peak_of_ten_segments = 10 << 20
    assert peak > peak_of_ten_segments  # the measurement sees numpy's memory


GOLDEN = json.loads((HERE / "golden.json").read_text())


def golden_digests():
    spec = importlib.util.spec_from_file_location("golden", HERE / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.digests()


def test_this_machine_gives_the_golden_digests():
    assert golden_digests() == GOLDEN


def dispatched_features():
    return [feature for feature in __cpu_dispatch__ if __cpu_features__.get(feature)]


@pytest.mark.parametrize(
    "environment",
    [
        {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched_features())},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched_features()[-1:])},
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "7", "MKL_NUM_THREADS": "7"},
        {"PYTHONHASHSEED": "12345", "LC_ALL": "C"},
    ],
    ids=["baseline instructions", "without the newest instructions", "one thread", "seven threads", "hash seed"],
)
def test_digests_are_equal_under_other_instructions_and_threads(environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NPY_", "OMP_"))}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "golden.py")],
        env=inherited | environment,
        capture_output=True,
        check=True,
    )
    assert json.loads(result.stdout) == GOLDEN


def test_masked_updates_are_summed_without_a_look_at_their_values():
    mask = np.random.default_rng(3).integers(0, 2**32, (50, 100), dtype=np.uint32)
    arrays = [to_arrays(update.tensors) for update in UPDATES[:2]]
    masked = [
        {**arrays[0], "delta/w": arrays[0]["delta/w"] + mask},
        {**arrays[1], "delta/w": arrays[1]["delta/w"] - mask},
    ]
    updates = [
        Update(update.member, MemoryTensors(m), update.samples) for update, m in zip(UPDATES, masked, strict=False)
    ]
    ring_sum = RingSum(updates, None)
    clear = aggregate(MODEL, UPDATES[:2], ENCODING, Sgd())
    assert step(MODEL, ring_sum, 150, ENCODING, Sgd()).digest == clear.digest
    with pytest.raises(AggregationError):
        aggregate(MODEL, updates, ENCODING, Sgd())


def test_no_round_is_computed_where_subnormals_are_flushed():
    program = (
        "import torch; assert torch.set_flush_denormal(True)\n"
        "import numpy as np\n"
        "from fedfabric.aggregation import *\n"
        "model = MemoryTensors({'w': np.ones(3, dtype=np.float32)})\n"
        "step(model, MemoryTensors({'delta/w': np.ones(3, dtype=np.uint32)}), 1, RingEncoding(1.0, 1, 1), Sgd())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ArithmeticUnfitError" in result.stderr
