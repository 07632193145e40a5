"""A user's own reward reaches every planner: who is paid for doses gives some, who is fined for them gives none."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.envs.episode import Transition
from planners import AdaptivePlanner, BeamPlanner, CEMPlanner, ExhaustivePlanner, RandomShootingPlanner
from planners.pricing import price_of, risk_alone
from planners.two_stage import TwoStagePlanner

PLANNERS = {
    "exhaustive": lambda env: ExhaustivePlanner(env, k=2),
    "adaptive": lambda env: AdaptivePlanner(env, budget=60),
    "two stages": lambda env: TwoStagePlanner(env, k=2, sift=1),
    "shooting": lambda env: RandomShootingPlanner(env, horizon=2, k=2, budget=200),
    "cem": lambda env: CEMPlanner(env, horizon=2, k=2, budget=200),
    "beam": lambda env: BeamPlanner(env, horizon=2, k=2, budget=200),
}


@dataclass(frozen=True)
class PerDose:
    """So much for each dose, and nothing else."""

    each: float

    def __call__(self, step: Transition) -> np.ndarray:
        return self.each * step.doses.astype(float)


def env_of(each: float) -> gym.Env:
    return gym.make(
        "ecg_gym:ECGIntervention-v0", world=AnalyticWorld(), risk=AnalyticRisk(), reward=PerDose(each),
        scenario="healthy_volunteer", drugs=["metoprolol", "atropine"], horizon=4,
    )  # fmt: skip


@pytest.mark.parametrize("name", PLANNERS)
def test_a_reward_of_ones_own_decides(name: str) -> None:
    chosen = {}
    for each in (100.0, -100.0):
        env = env_of(each)
        env.reset(seed=1)
        chosen[each] = PLANNERS[name](env).act()[1].treatment
    assert chosen[100.0] != WATCH
    assert chosen[-100.0] == WATCH


def test_the_price_is_minus_the_reward_of_the_env() -> None:
    env = env_of(-3.0)
    env.reset(seed=1)
    inner = env.unwrapped
    assert not risk_alone(inner)
    price = price_of(inner, 4)
    assert price.horizon == 4
    assert price.most_doses == max(len(treatment.doses) for treatment in inner.menu)
