"""Rewards as vectors, and the cost as other projects take it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.envs.multi_objective import MultiObjective


def make(**kwargs: Any) -> gym.Env:
    named = {"world": AnalyticWorld(lethal=("ibutilide",)), "risk": AnalyticRisk(), "scenario": "healthy_volunteer",
             "drugs": ["dofetilide", "ibutilide"]}  # fmt: skip
    return gym.make("ecg_gym:ECGIntervention-v0", **{**named, **kwargs})


def test_a_vector_of_risk_harm_and_drugs_comes_in_place_of_the_reward() -> None:
    env = MultiObjective(make())
    env.reset(seed=0)
    menu = [str(t) for t in env.unwrapped.menu]
    for action in (0, menu.index("dofetilide 0.5 mg PO"), 0):
        _, vector, _, _, info = env.step(action)
        assert vector.tolist() == pytest.approx([-info["risk"], -info["cost"], -float(action > 0)], rel=1e-6)
        assert env.reward_space.contains(vector)
    assert vector[1] < 0, "the dose before still prolongs"
    assert env.unwrapped.reward_space is env.reward_space
    assert env.reward_dim == 3


def test_a_death_is_in_the_space_too() -> None:
    env = MultiObjective(make())
    env.reset(seed=0)
    _, vector, terminated, _, _ = env.step(len(env.unwrapped.menu) - 1)
    assert terminated
    assert vector.tolist() == [-16.0, -8.0, -1.0]
    assert env.reward_space.contains(vector)


def test_envs_without_a_cost_or_with_a_burden_are_refused() -> None:
    for arguments in ({"cost": False}, {"burden": 0.5}):
        with pytest.raises(ValueError, match="expected a cost and no burden"):
            MultiObjective(make(**arguments))


class Gymnasium2SafetyGymnasium(gym.Wrapper):
    """Safety-Gymnasium's converter in its own words: six values, the cost out of the info (Ji 2023, Apache-2.0)."""

    def step(self, action: Any) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, info = super().step(action)
        cost = info.get("cost", 0.0)
        return obs, reward, cost, terminated, truncated, info


def test_the_cost_reaches_safe_reinforcement_learning_as_a_number_from_0() -> None:
    env = Gymnasium2SafetyGymnasium(make())
    env.reset(seed=0)
    assert env.step(0)[2] == 0.0
    *_, cost, _, _, _ = env.step(3)
    assert isinstance(cost, float)
    assert np.isfinite(cost)
    assert cost > 0
