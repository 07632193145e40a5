"""Placebo, or a drug that has left the body, gives exactly the futures of watching: in both worlds."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, State, Treatment, World
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model import WorldModel
from ecg_gym.world_model.conditioning import OBSERVED, can_end

SEEDS = (11, 12, 13)


def dose(drug: str) -> Treatment:
    return Treatment(FORMULARY.usual_doses(drug)[-1:])


def futures(world: World, state: State, treatment: Treatment, steps: int = 2) -> list[State]:
    crowd, generators, seen = state.repeat(len(SEEDS)), [np.random.default_rng(seed) for seed in SEEDS], []
    for step in range(steps):
        crowd = world.step(crowd, [treatment if step == 0 else WATCH] * len(SEEDS), generators)
        seen.append(crowd)
    return seen


@pytest.fixture(scope="module", params=["virtual patient", "world model"])
def world(request: pytest.FixtureRequest) -> World:
    return VirtualPatient() if request.param == "virtual patient" else WorldModel.load(deterministic="batch")


@pytest.mark.parametrize(
    ("drug", "rhythm"),
    [("placebo", "sinus"), ("heparin", "af_rapid"), ("adenosine", "sinus"), ("adenosine", "af_rapid"),
     ("adenosine", "vt_runs")],
)  # fmt: skip
def test_what_has_left_the_body_leaves_the_future_as_it_was(world: World, drug: str, rhythm: str) -> None:
    virtual = VirtualPatient().initial(1, np.random.default_rng(3), rhythm=rhythm)
    start = virtual
    if isinstance(world, WorldModel):
        start = world.observe(ECG(virtual.ecg[0], MODEL_RATE_HZ), virtual.patients[0])
    for treated, watched in zip(futures(world, start, dose(drug)), futures(world, start, WATCH)):
        np.testing.assert_array_equal(treated.alive, watched.alive)
        np.testing.assert_array_equal(treated.ecg, watched.ecg)


def test_a_drug_that_acts_changes_the_future(world: World) -> None:
    virtual = VirtualPatient().initial(1, np.random.default_rng(3), rhythm="sinus")
    start = virtual
    if isinstance(world, WorldModel):
        start = world.observe(ECG(virtual.ecg[0], MODEL_RATE_HZ), virtual.patients[0])
    (treated, _), (watched, _) = futures(world, start, dose("dofetilide")), futures(world, start, WATCH)
    assert np.abs(treated.ecg - watched.ecg).max() > 0.01


def test_what_can_end_follows_from_the_strip() -> None:
    def row(**values: float) -> np.ndarray:
        return can_end(np.array([[values.get(name, np.nan) for name in OBSERVED]]))[0]

    assert row(hr_bpm=70, p_present=1, regular=1).tolist() == [0, 0, 0, 0]
    assert row(hr_bpm=180, p_present=0, regular=1).tolist() == [1, 1, 1, 1]
    assert row(hr_bpm=140, p_present=0, regular=0).tolist() == [0, 1, 1, 1]
    assert row(hr_bpm=80, p_present=1, regular=0).tolist() == [0, 0, 1, 1]
    assert row(p_present=0, regular=0).tolist() == [1, 1, 1, 1]  # nothing was measured: nothing is ruled out
