"""Many hearts at once are drawn from the distributions of one at a time, and a row draws for itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ecg_gym.columns import Patients
from ecg_gym.core import Patient
from ecg_gym.streams import Streams
from ecg_gym.virtual_patient import columns
from ecg_gym.virtual_patient.draw import DRAW, draw_hearts
from ecg_gym.virtual_patient.heart import draw_heart

N = 1500


def people_of(streams: Streams, patients: Patients, **changes: object) -> tuple[Patients, np.ndarray]:
    n = len(streams)
    words = {"rhythm": DRAW, "conduction": DRAW, "scar": DRAW, "healthy": False, "typical": False, "noise": np.nan}
    return draw_hearts(streams, patients, **{k: np.full(n, changes.get(k, v)) for k, v in words.items()})


def streams(n: int) -> Streams:
    return Streams.of([np.random.default_rng([7, i]) for i in range(n)])


@pytest.mark.parametrize("healthy", [False, True])
def test_the_distributions_are_those_of_one_heart(healthy: bool) -> None:
    patients, hearts = people_of(streams(N), Patients.of([Patient()] * N), healthy=healthy)
    alone = [draw_heart(np.random.default_rng(i), healthy=healthy) for i in range(N)]
    rows = np.stack([columns.heart_row(heart) for heart in alone])
    names = [*columns.NUMBERS, *columns.CODES]
    for i, name in enumerate(names):
        assert ks_2samp(hearts[:, i], rows[:, i]).pvalue > 1e-3, name
    for i in range(columns.FIRST_SENSITIVITY, columns.FIRST_OFFSET):
        assert ks_2samp(hearts[:, i], rows[:, i]).pvalue > 1e-3, i
    people = Patients.of([heart.patient for heart in alone])
    for i in range(people.numbers.shape[1]):
        assert ks_2samp(patients.numbers[:, i], people.numbers[:, i]).pvalue > 1e-3, i
    share = np.mean(["congenital_long_qt" in p.conditions for p in patients])
    assert abs(share - (0 if healthy else 0.015)) < 0.012


def test_what_is_told_is_kept() -> None:
    patient = Patient(age_years=70, sex="F", potassium=3.1, conditions=frozenset({"asthma", "congenital_long_qt"}))
    patients, hearts = people_of(streams(8), Patients.of([patient] * 8), rhythm=3, noise=0.0, typical=True)
    assert all(
        p.age_years == 70 and p.sex == "F" and p.potassium == 3.1 and p.conditions == patient.conditions
        for p in patients
    )
    assert len({p.weight_kg for p in patients}) > 4
    assert (hearts[:, columns.RHYTHM] == 3).all()
    assert (hearts[:, columns.NOISE] == 0).all()
    heart = columns.heart_of(hearts[0], patients[0])
    assert heart.sensitivity == type(heart.sensitivity).typical()
    assert heart.qtcf_ms > 400


def test_a_person_does_not_depend_on_the_batch() -> None:
    people, hearts = people_of(streams(5), Patients.of([Patient()] * 5))
    alone, heart = people_of(streams(5).take(np.array([3])), Patients.of([Patient()]))
    np.testing.assert_array_equal(heart[0], hearts[3])
    assert alone[0] == people[3]
