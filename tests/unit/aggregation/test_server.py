"""Each optimiser against a reference in plain Python floats, written from the paper and not from the code."""

import math
import subprocess
import sys

import numpy as np
import pytest
from fedfabric.aggregation import (
    OPTIMIZERS,
    Adagrad,
    Adam,
    EncodingError,
    MemoryTensors,
    Sgd,
    SgdMomentum,
    TensorSpec,
    Yogi,
    check_arithmetic,
    decimal,
    server_optimizer,
)

DELTAS = [0.5, -0.2, 0.03, 0.4, -0.001]


def sgd(x, deltas, lr):
    for d in deltas:
        x = x + lr * d
    return x


def sgdm(x, deltas, lr, beta):
    m = 0.0
    for d in deltas:
        m = beta * m + d
        x = x + lr * m
    return x


def adaptive(x, deltas, lr, beta1, tau, second, corrected_beta2=None):
    m, v = 0.0, 0.0 if corrected_beta2 is not None else tau**2
    for t, d in enumerate(deltas, 1):
        m = beta1 * m + (1 - beta1) * d
        v = second(v, d)
        if corrected_beta2 is None:
            x = x + lr * m / (math.sqrt(v) + tau)
        else:
            x = x + lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - corrected_beta2**t)) + tau)
    return x


def adam_moment(beta2):
    return lambda v, d: beta2 * v + (1 - beta2) * d * d


def yogi_moment(beta2):
    return lambda v, d: v - (1 - beta2) * d * d * math.copysign(1, v - d * d)


CASES = {
    "sgd": (Sgd(0.7), lambda x: sgd(x, DELTAS, 0.7)),
    "sgdm": (SgdMomentum(0.7, 0.8), lambda x: sgdm(x, DELTAS, 0.7, 0.8)),
    "adagrad": (
        Adagrad(0.3, 0.6, 0.05),
        lambda x: adaptive(x, DELTAS, 0.3, 0.6, 0.05, lambda v, d: v + d * d),
    ),
    "adam": (Adam(0.3, 0.6, 0.9, 0.05), lambda x: adaptive(x, DELTAS, 0.3, 0.6, 0.05, adam_moment(0.9))),
    "adam corrected": (
        Adam(0.3, 0.6, 0.9, 0.05, bias_correction=True),
        lambda x: adaptive(x, DELTAS, 0.3, 0.6, 0.05, adam_moment(0.9), 0.9),
    ),
    "yogi": (Yogi(0.3, 0.6, 0.9, 0.05), lambda x: adaptive(x, DELTAS, 0.3, 0.6, 0.05, yogi_moment(0.9))),
    "yogi corrected": (
        Yogi(0.3, 0.6, 0.9, 0.05, bias_correction=True),
        lambda x: adaptive(x, DELTAS, 0.3, 0.6, 0.05, yogi_moment(0.9), 0.9),
    ),
}


def run(optimizer, start, deltas=DELTAS):
    model = {"w": np.array([start])}
    state = optimizer.init(MemoryTensors(model).specs)
    for d in deltas:
        model, arrays = optimizer.step(model, {"w": np.array([d])}, state)
        state = MemoryTensors(arrays)
    return float(model["w"][0])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", [0.0, 1.25])
def test_five_rounds_follow_the_paper(name, start):
    optimizer, reference = CASES[name]
    # 1e-13: no term of five rounds is that small, so none can be left out
    assert run(optimizer, start) == pytest.approx(reference(start), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        (Sgd(0.7), Sgd(0.8)),
        (SgdMomentum(0.7, 0.8), SgdMomentum(0.7, 0.0)),
        *[
            (kind(0.3, 0.6, 0.9, 0.05), other)
            for kind in (Adam, Yogi)
            for other in (
                kind(0.2, 0.6, 0.9, 0.05),
                kind(0.3, 0.0, 0.9, 0.05),
                kind(0.3, 0.6, 0.5, 0.05),
                kind(0.3, 0.6, 0.9, 0.01),
                kind(0.3, 0.6, 0.9, 0.05, bias_correction=True),
            )
        ],
        (Adam(0.3, 0.6, 0.9, 0.05), Yogi(0.3, 0.6, 0.9, 0.05)),
        (Adagrad(0.3, 0.6, 0.05), Adagrad(0.3, 0.0, 0.05)),
        (Adagrad(0.3, 0.6, 0.05), Adagrad(0.3, 0.6, 0.01)),
    ],
    ids=lambda optimizer: "-".join(str(value) for value in optimizer.describe().values()),
)
def test_each_parameter_and_term_matters_visibly(base, changed):
    assert abs(run(base, 0.0) - run(changed, 0.0)) > 1e-4


def test_the_models_type_is_kept_and_cast_once():
    model = {"w": np.array([1.0], dtype=np.float32)}
    optimizer = Sgd(1.0)
    stepped, _ = optimizer.step(model, {"w": np.array([1e-9])}, optimizer.init(MemoryTensors(model).specs))
    assert stepped["w"].dtype == np.float32
    assert stepped["w"][0] == np.float32(1.0 + 1e-9)


def test_what_has_no_delta_stays():
    model = {"n": np.array(3), "w": np.array([1.0])}
    optimizer = Sgd()
    stepped, _ = optimizer.step(model, {"w": np.array([1.0])}, optimizer.init({"w": TensorSpec("F64", (1,))}))
    assert stepped["n"] == 3
    assert stepped["w"][0] == 2.0


@pytest.mark.parametrize("optimizer", [case[0] for case in CASES.values()], ids=list(CASES))
def test_a_description_gives_the_same_optimizer(optimizer):
    assert server_optimizer(optimizer.describe()) == optimizer


def test_every_optimizer_has_defaults():
    assert {server_optimizer({"name": name}).name for name in OPTIMIZERS} == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "description",
    [
        {"name": "lion"},
        {},
        {"name": "sgd", "momentum": "0.9"},
        {"name": "sgd", "learning_rate": "nan"},
        {"name": "sgd", "learning_rate": "1e999"},
        {"name": "sgd", "learning_rate": "-1"},
        {"name": "sgd", "learning_rate": "0"},
        {"name": "sgd", "learning_rate": "0x1p3"},
        {"name": "sgd", "learning_rate": "1_0"},
        {"name": "sgd", "learning_rate": "٣"},
        {"name": "sgd", "learning_rate": 0.5},
        {"name": "sgdm", "momentum": "1"},
        {"name": "adam", "beta1": "1"},
        {"name": "adam", "beta2": "1.5"},
        {"name": "adam", "tau": "0"},
        {"name": "adam", "bias_correction": "yes"},
        {"name": "adagrad", "tau": "0"},
        {"name": "adagrad", "beta1": "1"},
    ],
    ids=str,
)
def test_bad_descriptions_are_refused(description):
    with pytest.raises(EncodingError):
        server_optimizer(description)


def test_decimals_are_the_nearest_doubles():
    assert [decimal("0.1"), decimal("1e-3"), decimal(7), decimal("12.50")] == [0.1, 0.001, 7.0, 12.5]


def test_this_process_computes_as_it_should():
    check_arithmetic()


def test_flushing_subnormals_is_noticed():
    program = (
        "import torch; assert torch.set_flush_denormal(True)\n"
        "from fedfabric.aggregation import check_arithmetic\n"
        "check_arithmetic()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ArithmeticUnfitError" in result.stderr
