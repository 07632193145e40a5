"""Arguments of an env: checked once, set in any world, kept by copies."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.envs.config import EnvConfig, make_setup
from ecg_gym.envs.loading import with_fields
from ecg_gym.virtual_patient import VirtualPatient

NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "scenario": "healthy_volunteer"}


def test_a_live_virtual_patient_takes_a_step_of_its_own() -> None:
    patient = VirtualPatient()
    env = gym.make("ecg_gym:ECGIntervention-v0", world=patient, risk=AnalyticRisk(), dt_hours=0.5)
    assert env.unwrapped.world.dt_hours == 0.5
    assert patient.dt_hours == 1.0, "the world that was handed over stays as it is"


def test_fields_are_set_in_a_copy_or_refused() -> None:
    class Plain:
        dt_hours = 1.0

        def __init__(self) -> None:
            self.weights = [1, 2]

    world = Plain()
    other = with_fields(world, "mine", {"dt_hours": 2.0})
    assert (other.dt_hours, world.dt_hours) == (2.0, 1.0)
    assert other.weights is world.weights
    assert with_fields(AnalyticWorld(), "mine", {"dt_hours": AnalyticWorld().dt_hours}) == AnalyticWorld()
    with pytest.raises(
        ValueError, match=r"volume would be set in the world 'mine', which has no such fields; expected"
    ):
        with_fields(world, "mine", {"volume": 11})


def test_copies_share_the_setup_and_pickles_name_it() -> None:
    setup = make_setup(EnvConfig(**NAMED, horizon=5))
    assert copy.deepcopy(setup) is setup
    again = pickle.loads(pickle.dumps(setup))
    assert again.config.horizon == again.task.horizon == 5
    assert [str(t) for t in again.task.menu] == [str(t) for t in setup.task.menu]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizon": 0}, "horizon is 0"), ({"samples": 1.5}, "samples 1.5"), ({"dt_hours": -1}, "dt_hours is -1"),
        ({"risk_aversion": float("nan")}, "risk_aversion is nan"), ({"invalid_action": "x"}, "invalid_action is 'x'"),
        ({"obs": "latent", "tier": "noisy"}, "obs is 'latent' in the tier 'noisy'"), ({"deterministic": "x"}, "'x'"),
    ],
)  # fmt: skip
def test_what_makes_no_env_is_refused_before_anything_is_loaded(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        EnvConfig(world="no such world", **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"drugs": "metoprolol"}, "list of names"), ({"knobs": 3}, "dict of fields"), ({"world": 3}, "name or a World"),
     ({"risk": 3}, "RiskModel"), ({"reward": 3}, "function")],
)  # fmt: skip
def test_what_is_of_another_kind_is_a_type_error(arguments, words) -> None:
    with pytest.raises(TypeError, match=words):
        EnvConfig(**arguments)
