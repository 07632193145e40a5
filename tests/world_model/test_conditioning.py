"""Boards and endings of many people, worked out together, are those of each person alone."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from ecg_gym.columns import Patients
from ecg_gym.core import Administration, Patient
from ecg_gym.pharmacology import FORMULARY, exposure, modulate, termination
from ecg_gym.pharmacology.hazards import HAZARDS
from ecg_gym.world_model.conditioning import EXPOSURE, PEOPLE, FeatureScale, endings, exposures, modulations, people

PATIENTS = (Patient(weight_kg=60.0, potassium=3.1), Patient(creatinine_clearance=30.0), Patient(), Patient())


def histories(seed: int) -> tuple[tuple[Administration, ...], ...]:
    rng = np.random.default_rng(seed)
    doses = [t.doses[0] for t in FORMULARY.menu(list(FORMULARY.names)) if t]
    rows = [tuple(Administration(float(h), doses[rng.integers(len(doses))]) for h in sorted(rng.uniform(-5, 1, n)))
            for n in (2, 4, 0, 1)]  # fmt: skip
    return tuple(rows)


@pytest.mark.parametrize("seed", range(3))
def test_boards_are_each_persons_own(seed: int) -> None:
    taken, hours = histories(seed), np.array([1.0, 2.0, 3.0, 1.5])
    table, words = exposures(taken, PATIENTS, hours), modulations(taken, PATIENTS, hours)
    assert table.shape == (4, len(EXPOSURE))
    for row, word, given, patient, hour in zip(table, words, taken, PATIENTS, map(float, hours)):
        now = exposure(given, patient, hour)
        change = modulate(now, patient, clock_hours=hour)
        assert astuple(word) == pytest.approx(astuple(change), rel=1e-5, abs=1e-5)  # float32, and the kernel's own sums
        parts = {"serum": now, "modulation": change}
        numbers = [getattr(parts[part], name) for part, name in (column.split(".") for column in EXPOSURE)]
        np.testing.assert_allclose(row, numbers, rtol=1e-5, atol=1e-5)


def test_endings_are_each_persons_own() -> None:
    adenosine = FORMULARY.menu(["adenosine"])[-1].doses[0]
    taken = (*histories(1)[:3], (Administration(1.0, adenosine),))
    start, end = np.array([1.0, 1.0, 0.0, 1.0]), np.array([2.0, 5.0, 1.0, 2.0])
    table = endings(taken, PATIENTS, start, end)
    for row, given, patient, begin, stop in zip(table, taken, PATIENTS, map(float, start), map(float, end)):
        result = termination(given, patient, begin, stop)
        np.testing.assert_allclose(row, [result[name] for name in HAZARDS], rtol=1e-4, atol=1e-6)
    assert table[3, 0] > 1
    assert not table[2].any()


def test_people_are_what_their_charts_say() -> None:
    crowd = (
        Patient(age_years=61, sex="F", potassium=4.0, conditions=frozenset({"heart_failure"})),
        Patient(sex="M"),
        Patient(),
    )
    table = dict(zip(PEOPLE, people(crowd).T))
    np.testing.assert_array_equal(table["person.age_years"], [61, np.nan, np.nan])
    np.testing.assert_array_equal(table["person.female"], [1, 0, np.nan])
    np.testing.assert_array_equal(table["condition.heart_failure"], [1, 0, 0])
    assert np.isnan(table["person.weight_kg"]).all()
    np.testing.assert_array_equal(people(Patients.of(crowd)), people(crowd))


def test_a_scale_matches_columns_by_name() -> None:
    scale = FeatureScale(("a", "gone", "b"), np.array([1.0, 5.0, 2.0]), np.array([2.0, 1.0, 1.0]))
    out = scale(np.array([[9.0, 2.0, 3.0], [9.0, np.nan, 1.0]]), ("new", "b", "a"))
    np.testing.assert_allclose(out, np.arcsinh([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), atol=1e-7)
