"""The hybrid tissue keeps a World's promises, answers drugs as the virtual patient does, and twins real records."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import ecg_gym  # noqa: F401 - registers the envs
from ecg_gym.checks import check_world
from ecg_gym.envs.loading import load_world
from ecg_gym.tissue.world import HybridTissue
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient.world import truths_of
from training.evaluation.leads.hybrid import drug_effects, record_errors, record_twins


def test_it_keeps_the_promises_of_a_world() -> None:
    check_world(HybridTissue())


def test_it_is_a_world_by_name_and_an_env_runs_in_it() -> None:
    assert isinstance(load_world("tissue"), HybridTissue)
    assert load_world("tissue", 0.5).dt_hours == 0.5
    env = gym.make("ECGIntervention-v0", world="tissue")
    env.reset(seed=0)
    _, reward, *_ = env.step(env.action_space.sample())
    assert np.isfinite(float(reward))


def test_the_same_patient_has_another_activation_but_the_same_rhythm() -> None:
    states = [
        world.initial(2, np.random.default_rng(3), rhythm="sinus") for world in (VirtualPatient(), HybridTissue())
    ]
    rates = [[truth.intervals["hr_bpm"] for truth in truths_of(state)] for state in states]
    assert rates[0] == pytest.approx(rates[1])
    assert not np.array_equal(states[0].ecg, states[1].ecg)


def test_four_drugs_change_qt_and_qrs_as_in_the_virtual_patient() -> None:
    rows = drug_effects(hearts=4)
    assert len(rows) == 4
    for row in rows:
        assert row["qt_difference_ms"] < 5.0
        assert row["qrs_difference_ms"] < 5.0
    assert max(row["qt_virtual_ms"] for row in rows) > 30  # there is something to agree about
    assert max(row["qrs_virtual_ms"] for row in rows) > 8


def test_twins_of_thirty_real_records_have_their_intervals(real_data: Callable[[str], Path]) -> None:
    headers = sorted((real_data("ludb") / "data").glob("*.hea"), key=lambda path: int(path.stem))
    errors = record_errors(record_twins([path.with_suffix("") for path in headers[:30]]))
    assert errors["records"] >= 28
    assert errors["hybrid_strip_qrs_mae_ms"] < 6
    assert errors["hybrid_strip_qt_mae_ms"] < 8


def test_a_world_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    HybridTissue().save(path)
    assert HybridTissue.load(path, 0.25).tissue == HybridTissue().tissue


ELSEWHERE = """
import pickle, sys
import numpy as np
from ecg_gym.tissue.default import default_tissue
from ecg_gym.virtual_patient.excitation import slot_of
slot_of(default_tissue().with_apd(20.0))  # the slot that the state's tissue has at home is taken
state, strips = pickle.load(open(sys.argv[1], "rb"))
assert np.array_equal(state.ecg, strips), np.abs(state.ecg - strips).max()
"""


def test_a_state_opened_in_another_process_keeps_its_tissue(tmp_path: Path) -> None:
    state = HybridTissue().initial(2, np.random.default_rng(3), rhythm="sinus")
    file = tmp_path / "state"
    file.write_bytes(pickle.dumps((state.undrawn(), state.ecg)))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
