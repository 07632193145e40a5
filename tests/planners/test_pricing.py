"""A user's own reward reaches every planner: who is paid for doses gives some, who is fined for them gives none."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticRisk, AnalyticWorld

from ecg_gym.core import WATCH
from ecg_gym.envs.episode import Transition
from ecg_gym.rollout import Judgement
from planners import AdaptivePlanner, BeamPlanner, CEMPlanner, ExhaustivePlanner, RandomShootingPlanner
from planners.pricing import price_of
from planners.rollout import futures
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


@pytest.mark.parametrize("steps", [0, 3])
def test_the_price_is_minus_the_reward_of_the_env_and_so_is_that_of_a_death(steps) -> None:
    """A step that the planner imagines with the env's own random numbers costs what the env then takes."""
    env = gym.make(
        "ecg_gym:ECGIntervention-v0", world=AnalyticWorld(lethal=("ibutilide",)), risk=AnalyticRisk(), burden=0.25,
        scenario="healthy_volunteer", drugs=["metoprolol", "ibutilide"],
    ).unwrapped  # fmt: skip
    env.reset(seed=1)
    for _ in range(steps):
        env.step(0)
    before, price = env.episode, price_of(env)
    assert price.most_doses == 1
    for entry in range(len(env.menu)):
        env.episode = before
        _, reward, *_ = env.step(entry)
        given = (env.menu[entry],)
        imagined = Judgement.of(env.risk, before.first, env.state, ("hr_bpm",))
        assert price(0, before.state, env.state, given, imagined) == pytest.approx(-reward)
    assert reward == pytest.approx(-1.25 * (8 + 8 - steps)), "ibutilide kills"


def test_futures_that_end_in_death_are_as_bad_for_a_planner_as_for_the_env() -> None:
    env = gym.make(
        "ecg_gym:ECGIntervention-v0", world=AnalyticWorld(lethal=("ibutilide",)), risk=AnalyticRisk(),
        scenario="healthy_volunteer", drugs=["ibutilide"],
    ).unwrapped  # fmt: skip
    env.reset(seed=1)
    sampled = futures(env.world, env.state, env.menu[-1:], (0, 1), env.risk, horizon=2, price=price_of(env))
    assert sampled.risks.tolist() == [[16 / 2] * 2], "once, and nothing after it"
