"""The federated process in one process, and the same rounds member by member through real trainer children."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fedfabric.aggregation import (
    Adam,
    MemoryTensors,
    RingEncoding,
    Rounding,
    Sgd,
    SgdMomentum,
    TensorFile,
    Update,
    aggregate,
    encode_update,
    write_tensors,
)
from fedfabric.trainers import (
    ClientContext,
    Contribution,
    Dataset,
    FedAvg,
    FedSGD,
    PlanError,
    TaskError,
    build_federated_averaging_process,
    load_plan,
)
from torch.utils.data import TensorDataset

LINEAR = Path(__file__).parents[2] / "plans" / "linear"
RATE = 0.1


def logistic():
    return torch.nn.Linear(5, 3)


def double_logistic():
    return torch.nn.Linear(5, 3, dtype=torch.float64)


def network():
    return torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3)
    )


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=RATE)


def member(seed, count, dtype=torch.float32):
    generator = np.random.default_rng(seed)
    inputs = torch.tensor(generator.normal(size=(count, 5)), dtype=dtype)
    labels = torch.tensor(generator.integers(0, 3, count))
    examples = TensorDataset(inputs, labels)
    return Dataset(examples, examples)


def members(dtype=torch.float32):
    return {"AMSP": member(1, 40, dtype), "BMSP": member(2, 17, dtype), "CMSP": member(3, 3, dtype)}


SECRETS = {name: name.encode() * 8 for name in ("AMSP", "BMSP", "CMSP")}


def gradient(weight, bias, inputs, labels):
    """∇F_k of mean softmax cross-entropy, by hand in float64."""
    logits = inputs @ weight.T + bias
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    residual = shifted / shifted.sum(axis=1, keepdims=True) - np.eye(3)[labels]
    return residual.T @ inputs / len(labels), residual.mean(axis=0)


@pytest.mark.parametrize("algorithm", [FedSGD(), FedAvg(local_epochs=1, batch_size=0)], ids=["FedSGD", "FedAvg"])
@pytest.mark.parametrize("clip", [0.5, 4.0])
def test_a_single_step_on_full_batches_is_the_articles_formula(algorithm, clip):
    """w_t = w_{t-1} - η Σ_k (n_k / n) ∇F_k(w_{t-1}), within the encoding's bound, over three rounds."""
    process = build_federated_averaging_process(
        double_logistic, sgd, algorithm=algorithm, encoding=partial(RingEncoding, clip)
    )
    data = members(torch.float64)
    state = process.initialize(7)
    total = sum(len(d.train) for d in data.values())
    bound = RingEncoding(clip, total, 3).error_bound(3, total)
    for _ in range(3):
        weight, bias = state.model.arrays["weight"].copy(), state.model.arrays["bias"].copy()
        expected = [weight.copy(), bias.copy()]
        for d in data.values():
            inputs, labels = d.train.tensors
            gradients = gradient(weight, bias, inputs.numpy(), labels.numpy())
            expected = [w - RATE * len(labels) / total * g for w, g in zip(expected, gradients, strict=True)]
        state, _ = process.next(state, data)
        for name, target in zip(("weight", "bias"), expected, strict=True):
            assert np.abs(state.model.arrays[name] - target).max() <= bound * (1 + 1e-6) + 1e-15


def test_in_float32_the_formula_holds_up_to_one_rounding_of_the_model():
    process = build_federated_averaging_process(logistic, sgd, algorithm=FedSGD(), encoding=partial(RingEncoding, 0.5))
    data = members()
    state = process.initialize(7)
    weight, bias = (state.model.arrays[n].astype(np.float64) for n in ("weight", "bias"))
    expected = weight.copy()
    for d in data.values():
        inputs, labels = d.train.tensors
        grad, _ = gradient(weight, bias, inputs.double().numpy(), labels.numpy())
        expected -= RATE * len(labels) / 60 * grad
    after, _ = process.next(state, data)
    assert np.abs(after.model.arrays["weight"] - expected).max() < 1.5e-7


def test_two_local_epochs_are_not_the_formula():
    data = members(torch.float64)
    one = build_federated_averaging_process(double_logistic, sgd, algorithm=FedSGD())
    two = build_federated_averaging_process(double_logistic, sgd, algorithm=FedAvg(local_epochs=2, batch_size=0))
    start = one.initialize(7)
    first, _ = one.next(start, data, secrets=SECRETS)
    second, _ = two.next(start, data, secrets=SECRETS)
    assert np.abs(first.model.arrays["weight"] - second.model.arrays["weight"]).max() > 1e-3


def test_training_lowers_the_loss():
    process = build_federated_averaging_process(network, sgd, algorithm=FedAvg(batch_size=5))
    state = process.initialize(1)
    losses = []
    for _ in range(15):
        state, metrics = process.next(state, members())
        losses.append(metrics.scalars["loss"])
    assert losses[-1] < losses[0] - 0.05
    assert state.round == 15
    assert process.model(state).training is False


def test_rounds_repeat_bit_for_bit_with_the_same_secrets_and_leave_the_callers_randomness_alone():
    def run():
        process = build_federated_averaging_process(network, sgd, algorithm=FedAvg(batch_size=5))
        state = process.initialize(1)
        for _ in range(2):
            state, _ = process.next(state, members(), secrets=SECRETS)
        return state.digest

    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert run() == first


def test_without_given_secrets_rounding_differs_and_models_agree_within_the_bound():
    process = build_federated_averaging_process(logistic, sgd)
    start = process.initialize(1)
    one, _ = process.next(start, members())
    two, _ = process.next(start, members())
    assert one.digest != two.digest
    for name, array in one.model.arrays.items():
        np.testing.assert_allclose(array, two.model.arrays[name], atol=1e-6)


def test_the_initial_model_follows_from_the_seed():
    process = build_federated_averaging_process(logistic, sgd)
    assert process.initialize(1).model_digest == process.initialize(1).model_digest
    assert process.initialize(1).model_digest != process.initialize(2).model_digest


def test_integer_buffers_are_not_averaged_and_float_buffers_are():
    process = build_federated_averaging_process(network, sgd, algorithm=FedAvg(batch_size=5))
    start = process.initialize(1)
    state, _ = process.next(start, members())
    assert state.model.arrays["1.num_batches_tracked"] == 0
    assert np.abs(state.model.arrays["1.running_mean"]).max() > 0


def test_each_server_optimizer_is_carried_from_round_to_round():
    finals = set()
    for make in (Sgd, SgdMomentum, Adam):
        process = build_federated_averaging_process(logistic, sgd, make)
        state = process.initialize(1)
        for _ in range(2):
            state, _ = process.next(state, members(), secrets=SECRETS)
        finals.add(state.digest)
        assert (len(state.optimizer.specs) > 0) == (make is not Sgd)
    assert len(finals) == 3


def test_the_halves_by_hand_give_what_next_gives():
    process = build_federated_averaging_process(logistic, sgd, algorithm=FedAvg(batch_size=8))
    start = process.initialize(1)
    expected, metrics = process.next(start, members(), job="j", secrets=SECRETS)
    encoding = RingEncoding(1.0, 60, 3)
    ring = None
    for name, data in members().items():
        contribution, _ = process.client(start.model, data, {}, ClientContext("j", 1, name))
        delta = MemoryTensors({f"delta/{n}": v for n, v in contribution.tensors["delta"].items()})
        rounding = Rounding(SECRETS[name], "j", 1)
        encoded = encode_update(delta, start.model.specs, contribution.weight, encoding, rounding).tensors.arrays
        ring = encoded if ring is None else {n: ring[n] + encoded[n] for n in ring}
    state, outcome = process.server(start, MemoryTensors(ring), 60, encoding)
    assert outcome.digest == expected.digest == metrics.digest
    assert state.model_digest == expected.model_digest


@dataclass(frozen=True)
class Counting:
    """An algorithm with client state: sends the number of rounds it has seen."""

    vectors: tuple = ("delta",)
    seen: dict = field(default_factory=dict)

    def client(self, broadcast, train, client_state, ctx, tools):
        count = client_state.get("count", 0) + 1
        self.seen[ctx.member] = count
        delta = {name: np.zeros(spec.shape, dtype=np.float32) for name, spec in broadcast.specs.items()}
        return Contribution({"delta": delta}, len(train), {}), {"count": count}


def test_client_state_stays_with_its_member():
    algorithm = Counting()
    process = build_federated_averaging_process(logistic, sgd, algorithm=algorithm)
    state = process.initialize(1)
    everybody = members()
    state, _ = process.next(state, everybody)
    state, _ = process.next(state, {name: everybody[name] for name in ("AMSP", "CMSP")})
    state, _ = process.next(state, everybody)
    assert algorithm.seen == {"AMSP": 3, "BMSP": 2, "CMSP": 3}
    assert state.client_states["BMSP"] == {"count": 2}


def test_saturation_is_reported():
    process = build_federated_averaging_process(logistic, sgd, encoding=partial(RingEncoding, 1e-4))
    _, metrics = process.next(process.initialize(1), members())
    assert metrics.saturated["AMSP"] > 0
    assert metrics.samples == {"AMSP": 40, "BMSP": 17, "CMSP": 3}


def test_examples_that_are_no_tensors_are_collated():
    class Pairs:
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return np.full(5, index / 20, dtype=np.float32), index % 3

    process = build_federated_averaging_process(logistic, sgd, algorithm=FedAvg(batch_size=8))
    state, _ = process.next(process.initialize(1), {"A": Dataset(Pairs(), Pairs())})
    assert state.round == 1


def test_max_steps_end_local_work():
    data = {"A": member(1, 40)}
    process = build_federated_averaging_process(logistic, sgd, algorithm=FedAvg(batch_size=10, max_steps=1))
    other = build_federated_averaging_process(logistic, sgd, algorithm=FedAvg(batch_size=10))
    start = process.initialize(1)
    one, _ = process.next(start, data, secrets=SECRETS | {"A": bytes(16)})
    four, _ = other.next(start, data, secrets=SECRETS | {"A": bytes(16)})
    weights = [state.model.arrays["weight"] for state in (start, one, four)]
    moved = [np.abs(after - weights[0]).max() for after in weights[1:]]
    assert 0 < moved[0] < moved[1]


@pytest.mark.parametrize(
    "settings", [{"local_epochs": 0}, {"batch_size": -1}, {"batch_size": 1.5}, {"max_steps": True}], ids=str
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(PlanError):
        FedAvg.from_params(settings)


def test_training_that_diverges_is_an_error():
    def loss(outputs, labels):
        return torch.nn.functional.cross_entropy(outputs, labels) * float("inf")

    process = build_federated_averaging_process(logistic, sgd, loss_fn=loss)
    with pytest.raises(TaskError) as refusal:
        process.next(process.initialize(1), members())
    assert refusal.value.code == "NOT_FINITE"


def test_a_round_needs_members_and_examples():
    process = build_federated_averaging_process(logistic, sgd)
    with pytest.raises(TaskError):
        process.next(process.initialize(1), {})
    empty = TensorDataset(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(TaskError):
        process.next(process.initialize(1), {"A": Dataset(empty, empty)})


ROUNDS = 3


@pytest.mark.parametrize("optimizer", [Sgd(), Adam(0.05)], ids=["sgd", "adam"])
def test_members_in_trainer_children_give_the_digests_of_one_process(trainers, room, plan_file, examples, optimizer):
    """The gateway's way of a round against `Process.next`: train in a confined child, encode, sum, step."""
    samples = {"AMSP": 60, "BMSP": 44, "CMSP": 12}
    folders = {name: examples(room / name, count, seed) for seed, (name, count) in enumerate(samples.items())}
    plan = load_plan(LINEAR)
    data = {name: plan.load(folder) for name, folder in folders.items()}
    process = plan.process(optimizer, partial(RingEncoding, 0.5))
    state = process.initialize(5)
    expected = []
    for _ in range(ROUNDS):
        state, metrics = process.next(state, data, job="the-job", secrets=SECRETS)
        expected.append((metrics.digest, round(metrics.scalars["loss"], 12)))

    bundle = plan_file(room / "plan.zip")
    initialised = trainers.run("initialise", plan=bundle, out=room / "out", seed=5)["result"]
    model, server_state = TensorFile(initialised["model"]), None
    registered = {name: len(d.train) for name, d in data.items()}
    encoding = RingEncoding(0.5, sum(registered.values()), len(registered))
    found = []
    for number in range(1, ROUNDS + 1):
        write_tensors(room / f"global-{number}", model)
        updates, losses = [], []
        for name, folder in folders.items():
            answer = trainers.run(
                "train",
                plan=bundle,
                data=folder,
                model=room / f"global-{number}",
                out=room / "out",
                round={"job": "the-job", "number": number, "member": name},
                limits={"threads": 1},
            )
            assert answer["ok"], answer
            count = answer["result"]["samples"]
            rounding = Rounding(SECRETS[name], "the-job", number)
            with TensorFile(answer["result"]["delta"]) as delta:
                update = encode_update(
                    delta, model.specs, count, encoding, rounding, out=room / f"{name}-{number}.update"
                )
            updates.append((update, Update(name, update.tensors, count)))
            losses.append(answer["result"]["metrics"]["loss"] * count)
        out = room / f"aggregate-{number}"
        out.mkdir()
        outcome = aggregate(model, [u for _, u in updates], encoding, optimizer, server_state, out=out)
        for encoded, _ in updates:
            encoded.close()
        model.close()
        if server_state is not None:
            server_state.close()
        model, server_state = outcome.model, outcome.state
        found.append((outcome.digest, round(sum(losses) / sum(registered.values()), 12)))
    outcome.close()
    assert found == expected
