import math
from fractions import Fraction

import numpy as np
import pytest
from fedfabric.aggregation import EncodingError, MemoryTensors, RingEncoding, Rounding, UpdateRefusedError
from hypothesis import given, settings
from hypothesis import strategies as st

SECRET = bytes(range(32))


class Fixed:
    """Rounding bits of one value, the extremes of what a stream can give."""

    def __init__(self, value: float) -> None:
        self.value = value

    def stream(self, tensor):
        return self

    def take(self, count):
        return np.full(count, self.value)


LARGEST_U = 1 - 2.0**-32
clips = st.one_of(st.floats(1e-12, 1e12), st.sampled_from([1e-12, 1.0, 0.1, 1 / 3, 1e12]))
cohorts = st.lists(st.integers(1, 10_000), min_size=1, max_size=40)


def signed(ring):
    return ring.view(np.int32).astype(object)


@settings(max_examples=200, deadline=None)
@given(
    clips, cohorts, st.sampled_from([0.0, 0.5, LARGEST_U]), st.sampled_from([1, -1, 1e30, -1e30]), st.integers(0, 50)
)
def test_the_sum_of_a_cohort_never_overflows(clip, samples, uniform, factor, absent):
    encoding = RingEncoding(clip, sum(samples) + absent, len(samples))
    delta = {"w": np.full(3, factor * clip)}
    encoded = [encoding.encode(delta, n, Fixed(uniform))["w"] for n in samples]
    exact = sum(signed(ring) for ring in encoded)
    summed = np.add.reduce(encoded, dtype=np.uint32)
    np.testing.assert_array_equal(signed(summed), exact)
    assert abs(exact[0]) <= 2**31 - 1


@settings(max_examples=200, deadline=None)
@given(clips, cohorts, st.data())
def test_the_decoded_mean_is_within_the_bound(clip, samples, data):
    total = sum(samples)
    encoding = RingEncoding(clip, total, len(samples))
    values = [data.draw(st.floats(-1.5, 1.5)) * clip for _ in samples]
    uniform = data.draw(st.floats(0, LARGEST_U))
    survivors = data.draw(st.sets(st.integers(0, len(samples) - 1), min_size=1).map(sorted))
    encoded = [encoding.encode({"w": np.array([values[k]])}, samples[k], Fixed(uniform))["w"] for k in survivors]
    surviving = sum(samples[k] for k in survivors)
    decoded = encoding.decode({"w": np.add.reduce(encoded, dtype=np.uint32)}, surviving)["w"][0]
    clipped = [max(-clip, min(clip, values[k])) for k in survivors]
    true = sum(Fraction(x) * samples[k] for x, k in zip(clipped, survivors, strict=True)) / surviving
    bound = encoding.error_bound(len(survivors), surviving)
    assert abs(Fraction(float(decoded)) - true) <= Fraction(bound) * (1 + Fraction(1, 10**6)) + Fraction(clip) / 2**50


def test_the_bound_is_what_the_design_measured():
    assert RingEncoding(1.0, 3, 3).error_bound(3, 3) == pytest.approx(3 / (2**31 - 4))
    # a bound that is met by the worst rounding within one part in a thousand is not a lazy one
    encoding = RingEncoding(1.0, 3, 3)
    ring = [encoding.encode({"w": np.array([1e-12])}, 1, Fixed(LARGEST_U))["w"] for _ in range(3)]
    worst = encoding.decode({"w": np.add.reduce(ring, dtype=np.uint32)}, 3)["w"][0]
    assert 0.99 * encoding.error_bound(3, 3) < worst <= encoding.error_bound(3, 3) * 1.001


@settings(max_examples=200, deadline=None)
@given(clips, st.integers(1, 1000), st.integers(1, 1000), st.sampled_from([0.0, LARGEST_U]), st.sampled_from([1, -1]))
def test_an_honest_update_passes_and_one_step_more_is_refused(clip, samples, others, uniform, sign):
    encoding = RingEncoding(clip, samples + others, 2)
    honest = encoding.encode({"w": np.array([sign * clip])}, samples, Fixed(uniform))
    encoding.check(MemoryTensors(honest), samples)
    limit = encoding.limit(samples)
    assert limit - abs(int(honest["w"].view(np.int32)[0])) <= 2
    for value in (limit + 1, -limit - 1):
        with pytest.raises(UpdateRefusedError, match="MSP"):
            encoding.check(MemoryTensors({"w": np.array([value]).astype(np.uint32)}), samples, "EvilMSP")


def test_claiming_fewer_samples_than_encoded_is_seen():
    encoding = RingEncoding(1.0, 100, 2)
    heavy = encoding.encode({"w": np.array([1.0])}, 60, Fixed(0.0))
    encoding.check(MemoryTensors(heavy), 60)
    with pytest.raises(UpdateRefusedError):
        encoding.check(MemoryTensors(heavy), 50)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20), st.randoms())
def test_sums_do_not_depend_on_order_or_grouping(values, random):
    encoding = RingEncoding(1.0, len(values), len(values))
    encoded = [encoding.encode({"w": np.array([x])}, 1, Rounding(SECRET, "j", 1, k))["w"] for k, x in enumerate(values)]
    shuffled = encoded[:]
    random.shuffle(shuffled)
    half = len(values) // 2
    left = np.add.reduce(encoded[:half], dtype=np.uint32, initial=0)
    right = np.add.reduce(encoded[half:], dtype=np.uint32, initial=0)
    whole = np.add.reduce(shuffled, dtype=np.uint32)
    np.testing.assert_array_equal(whole, left + right)


def test_masks_of_a_pair_cancel_exactly():
    encoding = RingEncoding(1.0, 2, 2)
    mask = np.random.default_rng(1).integers(0, 2**32, 1000, dtype=np.uint32)
    a = encoding.encode({"w": np.linspace(-1, 1, 1000)}, 1, Rounding(SECRET, "j", 1))["w"]
    b = encoding.encode({"w": np.linspace(1, 0, 1000)}, 1, Rounding(SECRET, "j", 1))["w"]
    np.testing.assert_array_equal((a + mask) + (b - mask), a + b)


def test_rounding_is_unbiased():
    encoding = RingEncoding(1.0, 1, 1)
    step = 1 / encoding.scale
    values = np.full(200_000, 12.3 * step)
    ring = encoding.encode({"w": values}, 1, Rounding(SECRET, "j", 1))["w"].view(np.int32)
    assert set(np.unique(ring)) == {12, 13}
    assert ring.mean() == pytest.approx(12.3, abs=0.01)


def test_the_weight_enters_before_rounding():
    encoding = RingEncoding(1.0, 1000, 2)
    ring = encoding.encode({"w": np.array([0.5])}, 1, Fixed(0.0))["w"].view(np.int32)[0]
    assert ring == math.floor(0.5 * encoding.scale / 1000)


def test_clipping_is_counted():
    encoding = RingEncoding(0.1, 1, 1)
    delta = MemoryTensors({"w": np.array([0.05, 0.2, -0.3, 0.1])})

    class Sink:
        def write(self, name, values):
            self.values = values

    sink = Sink()
    assert encoding.encode_tensors(delta, 1, Fixed(0.0), sink) == 2
    assert sink.values.dtype == np.uint32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deltas_that_are_not_finite_are_refused(bad, dtype):
    delta = {"layer.w": np.array([0.0, bad, 0.0], dtype=dtype)}
    with pytest.raises(EncodingError, match=r"layer\.w") as refusal:
        RingEncoding(1.0, 1, 1).encode(delta, 1, Fixed(0.5))
    assert refusal.value.code == "NOT_FINITE"


@pytest.mark.parametrize("huge", [3.4e38, 1e308])
def test_huge_weights_are_clipped_without_a_warning(huge):
    ring = RingEncoding(1.0, 1, 1).encode({"w": np.array([huge, -huge])}, 1, Fixed(0.0))["w"]
    assert list(ring.view(np.int32)) == [2**31 - 2, -(2**31 - 2)]


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.uint32, np.bool_])
def test_types_that_are_not_averaged_are_refused(dtype):
    with pytest.raises(EncodingError) as refusal:
        RingEncoding(1.0, 1, 1).encode({"w": np.zeros(3, dtype=dtype)}, 1, Fixed(0.5))
    assert refusal.value.code == "DTYPE"


@pytest.mark.parametrize(
    ("clip", "total", "cohort"),
    [
        (0.0, 1, 1),
        (-1.0, 1, 1),
        (math.nan, 1, 1),
        (math.inf, 1, 1),
        (1e-300, 1, 1),
        (1.0, 0, 1),
        (1.0, 2**53, 1),
        (1.0, 1, 0),
        (1.0, 1, 2**31),
    ],
)
def test_parameters_out_of_range_are_refused(clip, total, cohort):
    with pytest.raises(EncodingError):
        RingEncoding(clip, total, cohort)


@pytest.mark.parametrize("samples", [0, -1, 101])
def test_samples_out_of_range_are_refused(samples):
    with pytest.raises(EncodingError):
        RingEncoding(1.0, 100, 2).encode({"w": np.zeros(1)}, samples, Fixed(0.5))


def test_an_update_of_another_type_than_u32_is_refused():
    with pytest.raises(UpdateRefusedError, match="F32"):
        RingEncoding(1.0, 1, 1).check(MemoryTensors({"w": np.zeros(1, dtype=np.float32)}), 1)
