"""Average people by the kernel: what the slow functions of pharmacology say, row by row."""

import numpy as np

from ecg_gym.pharmacology import FORMULARY
from ecg_gym.pharmacology.effects import modulate
from ecg_gym.pharmacology.exposure import exposure
from ecg_gym.pharmacology.hazards import HAZARDS, termination
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.world_model.average_people import follow
from ecg_gym.world_model.conditioning import EXPOSURE


def crowd(n=12, steps=2):
    world, rng, menu = VirtualPatient(), np.random.default_rng(4), FORMULARY.menu()
    state = world.initial(n, rng)
    for _ in range(steps):
        state = world.step(state, [menu[i] for i in rng.integers(len(menu), size=n)], rng)
    return state


def test_it_says_what_the_slow_functions_say():
    state = crowd()
    end = np.full(len(state), 2.5)
    columns, ended = follow(state.doses, state.patients, end - 1.5, end)
    for i, (taken, patient) in enumerate(zip(state.doses, state.patients)):
        there = exposure(taken, patient, 2.5)
        change = modulate(there, patient, clock_hours=2.5)
        parts = {"serum": there, "modulation": change}
        expected = [getattr(parts[part], word) for part, word in (name.split(".") for name in EXPOSURE)]
        np.testing.assert_allclose(columns[i], expected, rtol=1e-5, atol=1e-6)
        ends = termination(taken, patient, 1.0, 2.5)
        np.testing.assert_allclose(ended[i], [ends[name] for name in HAZARDS], rtol=1e-4, atol=1e-6)


def test_rows_that_agree_are_one_and_a_row_does_not_know_its_batch():
    state = crowd()
    start, end = np.zeros(len(state)), np.full(len(state), 3.0)
    whole = follow(state.doses, state.patients, start, end)
    many = state.repeat(3)
    thrice = follow(many.doses, many.patients, np.repeat(start, 3), np.repeat(end, 3))
    for one, three in zip(whole, thrice):
        np.testing.assert_array_equal(np.repeat(one, 3, axis=0), three)
    alone = follow(state.doses[3:4], state.patients[3:4], start[:1], end[:1])
    np.testing.assert_array_equal(alone[0][0], whole[0][3])


def test_nothing_ends_where_nothing_was_given():
    state = VirtualPatient().initial(3, np.random.default_rng(0))
    assert not follow(((),) * 3, state.patients, np.zeros(3), np.full(3, 24.0))[1].any()
