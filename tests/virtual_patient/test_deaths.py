"""How many die, and of what: closed forms of the hazards, so that a factor or an exchanged name is found out."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_gym.core import WATCH
from ecg_gym.streams import Streams
from ecg_gym.virtual_patient import VirtualPatient, columns
from ecg_gym.virtual_patient.transitions import transition_yaml
from ecg_gym.virtual_patient.truth import hazard_values

N = 20_000


def deaths(rhythm: str, dt: float) -> np.ndarray:
    """The rhythms ``(D,)`` of those of N well perfused hearts who die in one untreated step of ``dt`` [h]."""
    world = VirtualPatient(dt)
    state = world.initial(N, np.random.default_rng(0), rhythm=rhythm, potassium=4.2, scar="")
    hearts = state.inner["heart"].copy()
    hearts[:, columns.OWN_MAP] = 135.0  # no low pressure adds to the hazard
    keys = np.random.default_rng(1).integers(0, 2**64, (N, 2), np.uint64)
    after = world.step(state.replaced(inner={**state.inner, "heart": hearts}), [WATCH] * N, Streams.start(keys))
    names = np.array(columns.words()["rhythm"])
    return names[after.inner["heart"][~after.alive, columns.RHYTHM].astype(int)]


@pytest.mark.parametrize(("rhythm", "dt", "per_hour", "dies_in"), [
    ("vt", 0.25, hazard_values()["running_vt"], "vf"),
    ("av_block_3", 2.0, transition_yaml()["rhythms"]["av_block_3"]["fails"]["per_hour"], "asystole"),
])  # fmt: skip
def test_as_many_die_as_the_hazard_says_and_of_what_it_is_named_after(rhythm, dt, per_hour, dies_in) -> None:
    died = deaths(rhythm, dt)
    expected = N * -np.expm1(-per_hour * dt)
    assert abs(len(died) - expected) < 4 * np.sqrt(expected) + 0.03 * expected
    assert (died == dies_in).mean() > 0.95
