"""The compiled masks against the rules row by row: every scenario's menu and the whole formulary's."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.columns import Doses, Patients
from ecg_gym.core import Administration, Patient, Treatment
from ecg_gym.envs.scenarios import load_scenarios
from ecg_gym.pharmacology import CONDITIONS, FORMULARY, action_mask
from ecg_gym.pharmacology.mask_kernel import compile_masks
from ecg_gym.pharmacology.tables import medication_names
from ecg_gym.risk import FINDINGS

INTERVALS = ("hr_bpm", "pr_ms", "qrs_ms", "qtcf_ms", "regular", "p_present", "qt_ms")
MENUS = {**{name: row.menu for name, row in load_scenarios().items()}, "everything": FORMULARY.menu()}
PEOPLE = 60


def person(rng: np.random.Generator) -> Patient:
    def some(*ends: float) -> float | None:
        return None if rng.random() < 0.2 else float(rng.uniform(*ends))

    return Patient(
        weight_kg=some(40, 120), potassium=some(2.8, 6.5), magnesium=some(0.5, 1.2), calcium=some(2, 3),
        creatinine_clearance=some(10, 120),
        conditions=frozenset(rng.choice(CONDITIONS, rng.integers(3), replace=False)),
        medication=frozenset(rng.choice(medication_names(), rng.integers(3), replace=False)),
    )  # fmt: skip


@pytest.mark.parametrize("name", MENUS)
def test_the_masks_are_those_of_the_rules(name: str) -> None:
    menu, rng = MENUS[name], np.random.default_rng(len(name))
    patients = [person(rng) for _ in range(PEOPLE)]
    doses = [d for t in FORMULARY.menu() for d in t.doses] + [d for t in menu for d in t.doses] * 8
    given = [
        tuple(sorted(Administration(float(rng.choice([-30, -5, -1.5, -0.5, 0, 0.5])), doses[rng.integers(len(doses))])
                     for _ in range(rng.integers(5))))
        for _ in range(PEOPLE)
    ]  # fmt: skip
    hours = rng.choice([0.0, 1.0, 2.0], PEOPLE)
    lows, highs = (30, 100, 70, 380, 0, 0, 300), (220, 320, 190, 560, 2, 2, 600)
    readings = np.stack([rng.uniform(low, high, PEOPLE) for low, high in zip(lows, highs)])
    readings[4:6] = np.floor(readings[4:6])
    readings[rng.random(readings.shape) < 0.1] = np.nan
    findings = rng.random((len(FINDINGS), PEOPLE)) < 0.15
    masks = compile_masks(tuple(menu), INTERVALS, FINDINGS)
    quick = masks(readings, findings, Patients.of(patients), Doses.of(given), hours)
    for b in range(PEOPLE):
        seen = frozenset(f for f, there in zip(FINDINGS, findings[:, b]) if there)
        slow = action_mask(menu, patients[b], dict(zip(INTERVALS, readings[:, b])), given[b], hours[b], seen)
        np.testing.assert_array_equal(quick[b], slow)
    assert 0.2 < quick.mean() < 1


def test_a_treatment_of_two_doses_is_judged_whole() -> None:
    one, two = FORMULARY.usual_doses("sotalol")[0], FORMULARY.usual_doses("moxifloxacin")[0]
    menu = (Treatment(), Treatment((one, two)), Treatment((one, one)), Treatment((two,)))
    patients, none = (
        [Patient(potassium=4.5, magnesium=0.9, creatinine_clearance=90)],
        np.full((len(INTERVALS), 1), np.nan),
    )
    quick = compile_masks(menu, INTERVALS, FINDINGS)(
        none, np.zeros((17, 1), bool), Patients.of(patients), Doses.of([()]), np.zeros(1)
    )
    np.testing.assert_array_equal(quick[0], action_mask(menu, patients[0], {}, (), 0.0))
    assert quick[0].tolist() == [True, False, False, True]
