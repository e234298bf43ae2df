"""The demo's plan and what it is compared with, on the real patients."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from fedfabric.console.demo.baselines import Trial, compare
from fedfabric.console.demo.figures import Figures
from fedfabric.console.demo.hospitals import HOSPITALS, find_data, hand_out
from fedfabric.trainers import load_plan
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

PLAN = Path(__file__).parents[3] / "examples" / "heart_disease"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    handed = hand_out(find_data(), tmp_path_factory.mktemp("patients"))
    return {hospital.title: folder for hospital, folder in handed.items()}


@pytest.fixture(scope="module")
def plan():
    return load_plan(PLAN)


def rewrite(source, target, change):
    with (source / "patients.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    target.mkdir()
    with (target / "patients.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(change(number, row) for number, row in enumerate(rows))


def test_each_hospital_gets_its_own_patients_and_no_column_that_names_hospitals(folders):
    counts = {}
    for title, folder in folders.items():
        with (folder / "patients.csv").open(newline="") as lines:
            reader = csv.DictReader(lines)
            assert "dataset" not in reader.fieldnames
            counts[title] = sum(1 for _ in reader)
    assert counts == {"Cleveland": 304, "Hungary": 293, "Switzerland": 123, "VA Long Beach": 200}


def test_the_plans_columns_are_those_that_no_centre_lacks_for_more_than_a_third(folders, plan):
    used = {*plan.module.NUMBERS, *plan.module.CHOICES}
    measured = {}
    for title, folder in folders.items():
        with (folder / "patients.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        zero_is_missing = {"chol", "trestbps"}
        for name in rows[0].keys() - {"id", "num"}:
            known = sum(row[name] not in ({"", "0"} if name in zero_is_missing else {""}) for row in rows)
            measured.setdefault(name, {})[title] = known / len(rows)
    assert used == {name for name, shares in measured.items() if min(shares.values()) >= 2 / 3}


def test_a_patient_who_is_listed_twice_is_on_one_side_once(folders, plan):
    sizes = {title: (len(data.train), len(data.holdout)) for title, data in loaded(plan, folders).items()}
    assert sizes == {"Cleveland": (228, 76), "Hungary": (220, 72), "Switzerland": (92, 31), "VA Long Beach": (149, 50)}


def loaded(plan, folders):
    return {title: plan.load(folder) for title, folder in folders.items()}


def test_the_hold_out_is_stratified_and_changes_with_the_split_seed_alone(folders, plan):
    data = plan.load(folders["Hungary"])
    again = plan.load(folders["Hungary"])
    other = load_plan(PLAN, {"split_seed": 1}).load(folders["Hungary"])
    train, holdout = (float(part.tensors[1].mean()) for part in (data.train, data.holdout))
    assert abs(train - holdout) < 0.01
    assert torch.equal(data.holdout.tensors[0], again.holdout.tensors[0])
    assert not torch.equal(data.holdout.tensors[0], other.holdout.tensors[0])


def test_nothing_of_the_hold_out_reaches_training(folders, plan, tmp_path):
    data = plan.load(folders["VA Long Beach"])
    held = {tuple(row) for row in data.holdout.tensors[0].tolist()}
    assert held

    # Give the held-out patients other measurements: the training patients' filled gaps must stay as they were.
    with (folders["VA Long Beach"] / "patients.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    unique = {tuple(value for name, value in row.items() if name != "id"): row for row in rows}
    sick = np.array([int(row["num"]) > 0 for row in unique.values()])
    random = np.random.default_rng(plan.params["split_seed"])
    held_ids = set()
    for diagnosis in (False, True):
        chosen = random.permutation(np.flatnonzero(sick == diagnosis))
        chosen = chosen[: round(len(chosen) * plan.params["holdout_fraction"])]
        held_ids |= {list(unique.values())[index]["id"] for index in chosen}

    rewrite(
        folders["VA Long Beach"],
        tmp_path / "changed",
        lambda _, row: {**row, "trestbps": "210", "thalch": "60", "oldpeak": "6"} if row["id"] in held_ids else row,
    )
    changed = plan.load(tmp_path / "changed")
    assert torch.equal(changed.train.tensors[0], data.train.tensors[0])
    assert not torch.equal(changed.holdout.tensors[0], data.holdout.tensors[0])


def test_no_gap_is_left_and_columns_are_about_unit_size(folders, plan):
    for data in loaded(plan, folders).values():
        features = data.train.tensors[0]
        assert torch.isfinite(features).all()
        assert features.shape[1] == plan.module.COLUMNS == 12
        assert float(features.abs().max()) < 8


def test_a_blood_pressure_of_zero_is_a_missing_one(folders, plan, tmp_path):
    rewrite(folders["Cleveland"], tmp_path / "zero", lambda n, row: {**row, "trestbps": "0"} if n == 0 else row)
    rewrite(folders["Cleveland"], tmp_path / "gap", lambda n, row: {**row, "trestbps": ""} if n == 0 else row)
    zero, gap = (plan.load(tmp_path / name) for name in ("zero", "gap"))
    assert torch.equal(zero.train.tensors[0], gap.train.tensors[0])
    assert torch.equal(zero.holdout.tensors[0], gap.holdout.tensors[0])


def test_the_plans_figures_are_those_of_scikit_learn(folders, plan):
    data = plan.load(folders["Cleveland"])
    torch.manual_seed(0)
    model = plan.model()
    features, labels = data.holdout.tensors
    with torch.no_grad():
        logits = model(features)
    found = plan.metrics(model, data)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, logits))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits > 0))
    assert found["loss"] == pytest.approx(float(plan.module.loss_fn(logits, labels)))


def test_ties_count_half(plan):
    constant = torch.nn.Sequential(torch.nn.Linear(12, 1), torch.nn.Flatten(0))
    torch.nn.init.zeros_(constant[0].weight)
    holdout = torch.utils.data.TensorDataset(torch.randn(10, 12), torch.tensor([0.0, 1.0] * 5))
    found = plan.module.metrics(constant, holdout, {})
    assert (found["auc"], found["balanced_accuracy"]) == (0.5, 0.5)


def test_a_hold_out_of_one_diagnosis_has_no_auc_instead_of_a_wrong_one(plan):
    holdout = torch.utils.data.TensorDataset(torch.randn(4, 12), torch.ones(4))
    assert set(plan.module.metrics(plan.model(), holdout, {})) == {"loss"}


def test_federated_comes_close_to_pooled_and_everybody_beats_the_majority(folders):
    trials = [Trial.load(PLAN, folders, seed) for seed in (0, 1)]
    found = compare(trials, rounds=10)
    assert set(found) == {"pooled", *(hospital.title for hospital in HOSPITALS), "majority"}
    federated = [trial.score(trial.federated(10, "VA Long Beach", 6, 1.0)) for trial in trials]
    pooled, together = (Figures.of(scores["auc"] for scores in one) for one in (found["pooled"], federated))
    assert together.mean > pooled.mean - 0.02
    assert together.mean > Figures.of(scores["auc"] for scores in found["Switzerland"]).mean
    assert all(Figures.of(s["auc"] for s in scores).mean > 0.6 for name, scores in found.items() if name != "majority")


def test_the_newcomer_takes_part_from_its_round_on(folders):
    trial = Trial.load(PLAN, folders, 0)
    quick = dataclasses.replace(trial, plan=dataclasses.replace(trial.plan, params=dict(trial.plan.params)))
    never = trial.score(quick.federated(2, "VA Long Beach", 3, 1.0))
    late = trial.score(quick.federated(2, "VA Long Beach", 2, 1.0))
    assert never != late


def test_a_figure_of_one_value_has_no_spread():
    assert Figures.of([0.8]) == Figures(0.8, 0.0, (0.8,))
    assert Figures.of([0.8, 0.9]).spread == pytest.approx(0.0707, abs=1e-4)
