"""Who an episode begins with: kinds by their shares, numbers in their ranges, alone and in a batch."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticWorld

from ecg_gym.core import Patient
from ecg_gym.envs.reset import _initial
from ecg_gym.envs.scenarios import People, Scenario, scenario_named
from ecg_gym.streams import Streams

N = 96


def people_of(scenario: Scenario, n: int = N) -> list:
    envs = gym.make_vec(
        "ECGInterventionOracle-v0", num_envs=n, risk="limits", fidelity="vitals", scenario=scenario.name
    )
    envs.reset(seed=11)
    return list(envs.unwrapped.episode.state.patients)


def test_numbers_of_a_batch_lie_in_the_range_of_their_kind_and_fill_it() -> None:
    scenario = scenario_named("preexcited_af")
    kind = next(kind for kind in scenario.kinds if kind.name == "low potassium")
    low, high = kind.people.ranges["potassium"]
    values = np.array([person.potassium for person in people_of(scenario)])
    low_ones = values[values <= high]  # hardly anybody else's is as low
    inside = low_ones[low_ones >= low]
    assert len(inside) > 0.9 * len(low_ones)
    assert 0.08 < len(inside) / N < 0.25, "its share of the people is 0.15"
    assert inside.min() < low + 0.25 * (high - low)
    assert inside.max() > high - 0.25 * (high - low)
    np.testing.assert_allclose(inside, inside.round(2), atol=1e-9)
    assert not np.allclose(inside, inside.round(1)), "two digits, not one"


def test_one_patient_has_numbers_of_the_same_range_with_two_digits() -> None:
    row = Scenario(**{**vars(scenario_named("healthy_volunteer")), "kinds": (),
                      "people": People(ranges={"potassium": (2.8, 3.3)})})  # fmt: skip
    values = np.array([row.draw(np.random.default_rng(seed)).people.population["potassium"] for seed in range(60)])
    assert values.min() >= 2.8
    assert values.max() <= 3.3
    np.testing.assert_allclose(values, values.round(2), atol=1e-9)
    assert not np.allclose(values, values.round(1)), "two digits, not one"


@pytest.mark.parametrize("rates", [[60.0, 100.0, 60.0], [60.0] * 3, [100.0, 80.0, 60.0]])
def test_people_are_drawn_together_where_they_are_alike_and_keep_their_places(rates: list[float]) -> None:
    streams = Streams.start(np.arange(6, dtype=np.uint64).reshape(3, 2))
    state = _initial(AnalyticWorld(), [(Patient(), {"hr_bpm": rate}) for rate in rates], streams)
    assert state.inner["rest"][:, 0].tolist() == rates
