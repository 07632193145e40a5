"""Virtual trials: who is in which split, what is held out, and that a shard is made twice alike."""

import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient
from ecg_gym.datasets import transitions
from ecg_gym.datasets.transitions import (
    TrialDesign,
    Trials,
    draw_treatment,
    is_held_out,
    make_shards,
    read_trials,
    split_of,
)
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.world_model.conditioning import OBSERVED

DESIGN = TrialDesign(patients=3, steps=(2,))
SOMEONE = Patient(age_years=50, sex="M", weight_kg=80)


def draws(split, n=1500):
    rng = np.random.default_rng(0)
    return [draw_treatment(SOMEONE, rng, TrialDesign(watch=(0.2,)), split) for _ in range(n)]


def test_eight_shards_of_ten_are_for_training():
    assert [split_of(shard) for shard in range(10)] == ["train"] * 8 + ["validation", "test"]
    assert split_of(129) == "test"


def test_every_drug_is_given_and_sometimes_nothing():
    given = [treatment for treatment, _ in draws("train")]
    assert {dose.drug for t in given for dose in t.doses} == set(FORMULARY.names)
    done = [t for t in given if {dose.drug for dose in t.doses} & set(FORMULARY.procedures)]
    assert all(len(t.doses) == 1 for t in done)
    assert len(done) == pytest.approx(0.08 * 1200, abs=40)
    assert sum(t == WATCH for t in given) == pytest.approx(300, abs=60)
    assert 100 < sum(len(t.doses) == 2 for t in given) < 400
    for treatment in given:
        for dose in treatment.doses:
            assert FORMULARY.check(dose, SOMEONE) == dose


def test_training_never_meets_what_is_held_out():
    design, samples = TrialDesign(), draws("train")
    assert not any(held_out for _, held_out in samples)
    usual = {(dose.drug, dose.route): set() for treatment in FORMULARY.menu() for dose in treatment.doses}
    for treatment in FORMULARY.menu():
        for dose in treatment.doses:
            usual[dose.drug, dose.route].add(dose.amount)
    for treatment, _ in samples:
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
    np.testing.assert_array_equal(second.strips, again.strips)
    np.testing.assert_array_equal(second.observed, again.observed)
    assert not set(made.patient[made.patient < DESIGN.patients]) & set(again.patient)


@pytest.mark.slow
def test_shards_that_exist_are_not_made_again(tmp_path, monkeypatch):
    (path,) = make_shards(tmp_path, [0], DESIGN)
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(transitions, "make_shard", lambda *_: pytest.fail("made again"))
    assert list(make_shards(tmp_path, [0], DESIGN)) == [path]
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_strips_are_in_millivolts_and_know_their_truth(tmp_path):
    list(make_shards(tmp_path, [0], TrialDesign(patients=8, steps=(2,))))
    made = read_trials(tmp_path, "train")
    made = made[np.flatnonzero(made.alive)]
    assert made.strips.shape[1:] == (8, 1024)
    assert np.abs(made.strips.astype(float)).max(axis=(1, 2)).min() > 0.2
    assert np.abs(made.strips.astype(float)).max() < 10
    rate, measured = made.truth[:, 0], made.observed[:, OBSERVED.index("hr_bpm")]
    known = np.isfinite(rate) & np.isfinite(measured)
    assert np.median(np.abs(rate[known] - measured[known])) < 3
    assert (np.diff(made.hours)[np.diff(made.patient) == 0] > 0).all()


@pytest.mark.slow
def test_a_scenario_lends_its_people_and_drugs():
    from training.train_denoiser import scenario_starts

    design = TrialDesign(patients=30, steps=(1,), scenarios=1.0, own_drugs=1.0, watch=(0.0,), pair=0)
    made = transitions.make_shard(0, design, scenario_starts())
    assert {"af_rapid", "sinus_bradycardia"} <= set(made.rhythm)
    theirs = {drug for start in scenario_starts() for drug in start.drugs}
    assert {words.split(" ")[0] for words in made.treatment if words} <= theirs


def blank(patient, alive):
    """Strips of nothing but whose they are."""
    s = len(patient)
    table = np.zeros((s, 1), np.float32)
    return Trials(
        table[:, :, None], table, table, table, table, table, table, np.array(alive), table, table[:, 0],
        np.full(s, ""), np.zeros(s, bool), np.full(s, ""), np.array(patient), np.arange(s, dtype=float), ("x",),
    )  # fmt: skip


def test_pairs_are_of_one_person_and_forward_in_time():
    made = blank([5, 5, 5, 9, 9], [1, 1, 1, 1, 0])
    assert made.first().tolist() == [0, 0, 0, 3, 3]
    before, after = made.pairs()
    assert list(zip(before, after)) == [(0, 1), (0, 2), (1, 2), (3, 4)]
    before, after = made.pairs(farthest=1)
    assert list(zip(before, after)) == [(0, 1), (1, 2), (3, 4)]


def test_an_older_shard_is_refused(tmp_path):
    np.savez(tmp_path / "trials_00000.npz", before=np.zeros(3))
    with pytest.raises(ValueError, match=r"lacks .*; expected a shard of this version; remove the folder"):
        read_trials(tmp_path)
