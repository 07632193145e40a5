"""Mean arterial pressure: what rate, rhythm and drugs cost, who has less to spare, and what a cuff says of it."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH, Patient, Treatment, parse_dose
from ecg_gym.pharmacology import FORMULARY
from ecg_gym.powers import measured_pressure
from ecg_gym.virtual_patient import VirtualPatient, columns
from ecg_gym.virtual_patient.circulation import cuff, mean_pressure, outputs, pressure_law
from ecg_gym.virtual_patient.rhythm_table import rhythms


def pressure(hr: float, rhythm: str = "sinus", own: float = 1.0, contractility: float = 1.0, resistance: float = 1.0):
    output = outputs()[list(rhythms()).index(rhythm)]
    return mean_pressure(pressure_law(), 92.0, own, output, contractility, resistance, hr)


def given(*words: str) -> Treatment:
    return Treatment(tuple(FORMULARY.check(parse_dose(word), Patient()) for word in words))


def fallen(words: tuple[str, ...], **who: object) -> float:
    """How far [mmHg] the true pressure lies below that of the same people on nothing, a quarter of an hour later."""
    world = VirtualPatient(0.25)
    state = world.initial(40, np.random.default_rng(0), rhythm="sinus", **who)  # type: ignore[arg-type]
    treated, watched = (world.step(state, [t] * 40, np.random.default_rng(1)) for t in (given(*words), WATCH))
    return float((watched.inner["now"][:, columns.MAP] - treated.inner["now"][:, columns.MAP]).mean())


def test_at_rest_the_pressure_is_the_persons_own() -> None:
    assert pressure(70) == pytest.approx(92.0)


def test_rate_and_rhythm_cost_pressure() -> None:
    assert pressure(35) < pressure(45) < pressure(70) == pressure(110) > pressure(150) > pressure(190)
    assert pressure(170, "vt") < pressure(170, "svt") < pressure(170)
    assert pressure(0) == pressure(float("nan")) < 20


def test_a_weak_ventricle_has_less_to_spare() -> None:
    assert pressure(170, own=0.5) < pressure(170, own=1.0)
    assert pressure(70, own=0.5, contractility=0.7) < pressure(70, contractility=0.7) < 92


def test_drugs_move_it_as_they_should_and_add_up() -> None:
    one, other = fallen(("verapamil 10 mg IV",)), fallen(("metoprolol 5 mg IV",))
    both = fallen(("verapamil 10 mg IV", "metoprolol 5 mg IV"))
    assert 3 < one < 25
    assert 0.5 < other < 20
    assert both > max(one, other) + 0.5
    assert fallen(("norepinephrine 0.2 mcg/kg/min IV over 60 min",)) < -8
    assert abs(fallen(("ondansetron 4 mg IV",))) < 0.5
    assert fallen(("verapamil 10 mg IV",), conditions=frozenset({"heart_failure"})) > one


def test_a_cuff_is_off_by_what_the_standard_allows_and_says_it_again() -> None:
    world = VirtualPatient()
    state = world.initial(2000, np.random.default_rng(3), rhythm="sinus")
    reading, true = world.pressure(state), state.inner["now"][:, columns.MAP]
    np.testing.assert_array_equal(reading, world.vitals(state)["map_mmhg"])
    np.testing.assert_array_equal(reading, measured_pressure(world, state))
    assert abs((reading - true).mean()) < 1
    assert (reading - true).std() == pytest.approx(np.hypot(cuff().person, cuff().reading), rel=0.1)
    assert np.isnan(measured_pressure(object(), state)).all()


def test_pacing_lifts_a_slow_ventricle_while_it_is_on() -> None:
    world = VirtualPatient(0.5)
    state = world.initial(20, np.random.default_rng(0), rhythm="av_block_3")
    paced = world.step(state, [given("temporary_pacing 80 bpm EXT")] * 20, np.random.default_rng(1))
    assert (np.abs(world.shown_intervals(paced)["hr_bpm"] - 80) < 15).all()
    assert (paced.inner["now"][:, columns.MAP] > state.inner["now"][:, columns.MAP]).mean() > 0.8
    assert all(set(truth.kinds) == {"paced"} for truth in world.truth(paced[:3]))
    later = paced
    for seed in (2, 3):
        later = world.step(later, [WATCH] * 20, np.random.default_rng(seed))
    assert np.nanmedian(world.shown_intervals(later)["hr_bpm"]) < 50
