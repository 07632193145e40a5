"""Virtual trials: who is in which split, what is held out, and that a shard is made twice alike."""

import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient
from ecg_gym.datasets import trials
from ecg_gym.datasets.trials import TrialDesign, draw_treatment, is_held_out, make_shards, read_trials, split_of
from ecg_gym.pharmacology import FORMULARY

DESIGN = TrialDesign(patients=3, steps=2)
SOMEONE = Patient(age_years=50, sex="M", weight_kg=80)


def draws(split, n=1500):
    rng = np.random.default_rng(0)
    return [draw_treatment(SOMEONE, rng, TrialDesign(), split) for _ in range(n)]


def test_eight_shards_of_ten_are_for_training():
    assert [split_of(shard) for shard in range(10)] == ["train"] * 8 + ["validation", "test"]
    assert split_of(129) == "test"


def test_every_drug_is_given_and_sometimes_nothing():
    given = [treatment for treatment, _ in draws("train")]
    assert {dose.drug for t in given for dose in t.doses} == set(FORMULARY.names)
    assert sum(t == WATCH for t in given) == pytest.approx(300, abs=60)
    assert 100 < sum(len(t.doses) == 2 for t in given) < 400
    for treatment in given:
        for dose in treatment.doses:
            assert FORMULARY.check(dose, SOMEONE) == dose


def test_training_never_meets_what_is_held_out():
    design, drawn = TrialDesign(), draws("train")
    assert not any(held_out for _, held_out in drawn)
    usual = {(dose.drug, dose.route): set() for treatment in FORMULARY.menu() for dose in treatment.doses}
    for treatment in FORMULARY.menu():
        for dose in treatment.doses:
            usual[dose.drug, dose.route].add(dose.amount)
    for treatment, _ in drawn:
        assert not (len(treatment.doses) == 2 and is_held_out([d.drug for d in treatment.doses], design))
        for dose in treatment.doses:
            factors = {round(dose.amount / amount, 4) for amount in usual[dose.drug, dose.route]}
            assert factors & set(design.levels)


def test_test_shards_hold_unseen_levels_and_pairs():
    design = TrialDesign()
    unusual = [treatment for treatment, held_out in draws("test") if held_out]
    assert 150 < len(unusual) < 450
    pairs = [t for t in unusual if len(t.doses) == 2]
    assert pairs
    assert all(is_held_out([d.drug for d in t.doses], design) for t in pairs)


def test_shards_of_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no train shards; expected files trials_00000\.npz"):
        read_trials(tmp_path, "train")
    with pytest.raises(ValueError, match="split is 'dev'; expected one of"):
        read_trials(tmp_path, "dev")


@pytest.mark.slow
def test_a_shard_follows_from_its_number(tmp_path):
    paths = list(make_shards(tmp_path / "a", range(2), DESIGN))
    assert [path.name for path in paths] == ["trials_00000.npz", "trials_00001.npz"]
    made = read_trials(tmp_path / "a")
    list(make_shards(tmp_path / "b", [1], DESIGN))
    again = read_trials(tmp_path / "b")
    second = made[np.flatnonzero(made.patient >= DESIGN.patients)]
    np.testing.assert_array_equal(second.after, again.after)
    np.testing.assert_array_equal(second.features, again.features)
    assert not set(made.patient[made.patient < DESIGN.patients]) & set(again.patient)


@pytest.mark.slow
def test_shards_that_exist_are_not_made_again(tmp_path, monkeypatch):
    (path,) = make_shards(tmp_path, [0], DESIGN)
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(trials, "make_shard", lambda *_: pytest.fail("made again"))
    assert list(make_shards(tmp_path, [0], DESIGN)) == [path]
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_strips_are_in_millivolts_and_know_their_truth(tmp_path):
    list(make_shards(tmp_path, [0], TrialDesign(patients=8, steps=2)))
    made = read_trials(tmp_path, "train")
    assert made.before.shape[1:] == (8, 1024)
    assert np.abs(made.after.astype(float)).max(axis=(1, 2)).min() > 0.2
    assert np.abs(made.after.astype(float)).max() < 10
    rate = made.truth_before[:, 0]
    measured = made.features[:, made.feature_names.index("measured.hr_bpm")]
    known = np.isfinite(rate) & np.isfinite(measured)
    assert np.median(np.abs(rate[known] - measured[known])) < 3


@pytest.mark.slow
def test_two_steps_told_as_one_agree_with_a_world_that_skips():
    made = trials.make_shard(0, TrialDesign(patients=6, steps=3))
    first, last = trials.chains(made)
    assert len(first) == len(made)  # of three steps: 0 to 2, 1 to 3, 0 to 3 (when nobody dies)
    skips = trials.skipping(made, first, last)
    told = dict(zip(made.feature_names, skips.features.T))
    np.testing.assert_array_equal(skips.patient, made.patient[last])
    np.testing.assert_array_equal(skips.after, made.after[last])
    np.testing.assert_allclose(told["clock.step_hours"], skips.hours[:, 1] - skips.hours[:, 0])
    np.testing.assert_allclose(told["clock.elapsed_hours"], skips.hours[:, 1])
    # A row skipped to its own end is itself, its trace too (up to the rounding of stored strips).
    rows = np.arange(len(made))
    same = trials.skipping(made, rows, rows)
    np.testing.assert_allclose(same.features, made.features, rtol=1e-5, atol=1e-5)
    assert np.abs(same.trace.astype(float) - made.trace.astype(float)).max() < 0.05
