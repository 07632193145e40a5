"""The quick ways to a strip beside the plain ones they stand for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.lead_field import _lead_field, _torso
from ecg_gym.virtual_patient.strip import Marks


def test_the_lead_field_is_the_sum_over_elements() -> None:
    position = np.random.default_rng(0).normal([20, 10, 30], 25, (70, 3))
    centres, transfer = _torso()
    away = centres[None] - position[:, None]
    away /= np.sum(away**2, axis=-1, keepdims=True) ** 1.5
    plainly = np.einsum("ef,nfk->enk", transfer, away)
    np.testing.assert_allclose(_lead_field(position), plainly, rtol=0, atol=1e-12 * np.abs(plainly).max())


@pytest.mark.parametrize("rhythm", ["sinus", "af_rapid", "vf"])
def test_marks_are_worked_out_when_looked_at_and_survive_a_pickle(rhythm: str) -> None:
    world = VirtualPatient()
    truth = world.truth(world.initial(1, np.random.default_rng(1), rhythm=rhythm))[0]
    marks = truth.fiducials
    assert isinstance(marks, Marks)
    again = pickle.loads(pickle.dumps(marks))
    assert list(again) == list(marks)
    assert ("qrs_onset" in marks) == (rhythm != "vf")
    assert ("p_onset" in marks) == (rhythm == "sinus")
    for name, times in marks.items():
        assert np.array_equal(again[name], times, equal_nan=True)
    if rhythm == "sinus":
        assert marks["qrs_onset"].shape == truth.qrs_s.shape
        assert (np.abs(marks["qrs_onset"] - truth.qrs_s) < 0.03).all()
        assert (np.diff([marks[name][1] for name in ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end")]) > 0).all()
    with pytest.raises(KeyError):
        marks["u_wave"]
