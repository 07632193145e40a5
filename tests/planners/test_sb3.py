"""Policies as planners and planners as policies, in single envs, SB3's vector envs and our own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from worlds import AnalyticWorld, make_lock

from ecg_gym.core import WATCH
from planners import BeamPlanner, ExhaustivePlanner, PolicyPlanner, RandomPlanner, RecedingHorizonPlanner, check_planner
from planners.env_rows import seats

sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
NAMED = {"world": "worlds:AnalyticWorld", "risk": "worlds:AnalyticRisk", "drugs": ["dofetilide", "metoprolol"],
         "scenario": "healthy_volunteer"}  # fmt: skip


def make(**kwargs) -> gym.Env:
    return gym.make("ecg_gym:ECGIntervention-v0", **{**NAMED, "max_episode_steps": 3, **kwargs})


MODELS = {
    "ppo": lambda env: sb3.PPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=0, device="cpu"),
    "dqn": lambda env: sb3.DQN("MlpPolicy", env, buffer_size=100, seed=0, device="cpu"),
    "maskable": lambda env: contrib.MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=0, device="cpu"),
    "recurrent": lambda env: contrib.RecurrentPPO(
        "MlpLstmPolicy", env, n_steps=16, batch_size=16, seed=0, device="cpu"
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_policy_as_a_planner_keeps_the_promises(name: str) -> None:
    env = make()
    check_planner(PolicyPlanner(env, MODELS[name](env)), env)


def test_a_policy_and_its_planner_do_the_same() -> None:
    env = make()
    model = MODELS["recurrent"](env)
    planner = PolicyPlanner(env, model)
    obs, _ = env.reset(seed=3)
    memory, begins, over = None, np.array([True]), False
    while not over:
        targets, memory = model.predict(obs, state=memory, episode_start=begins, deterministic=True)
        action, decided = planner.act(obs)
        again, _ = planner.act()
        assert action == again, "asked twice, with or without the observation"
        allowed = env.unwrapped.action_masks()[int(targets)]
        assert action == (int(targets) if allowed else 0)
        assert bool(decided.abstained) == (not allowed)
        obs, _, terminated, truncated, _ = env.step(action)
        begins, over = np.array([False]), terminated or truncated


class Stubborn:
    """Always the same entry of the menu."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.array(1), state


class Masked:
    """The last entry that the mask allows."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True, action_masks=None):
        return np.array(np.flatnonzero(action_masks)[-1]), state


def test_masks_reach_those_that_take_them_and_refusals_are_told() -> None:
    env = make()
    env.reset(seed=0)
    env.step(1)  # dofetilide again within ten hours is refused
    assert not env.unwrapped.action_masks()[1]
    _, decided = PolicyPlanner(env, Stubborn()).act()
    assert decided.treatment == WATCH
    assert "refuse" in decided.abstained
    _, decided = PolicyPlanner(env, Masked()).act()
    assert decided.abstained == ""
    with pytest.raises(ValueError, match="not the env's own"):
        PolicyPlanner(env, Masked()).act(state=AnalyticWorld().initial(1, np.random.default_rng(9)))


# --- vector envs ----------------------------------------------------------------------------------------------------


def native(n: int = 2, **kwargs):
    return gym.make_vec("ecg_gym:ECGIntervention-v0", num_envs=n, **{**NAMED, "max_episode_steps": 3, **kwargs})


def test_rows_of_every_vector_env_are_planned_for_as_single_envs_are() -> None:
    envs = native(3)
    seen, _ = envs.reset(seed=10)
    planner = ExhaustivePlanner(envs, AnalyticWorld(half_life_hours=2.0), k=2, belief="history")
    singles = [make() for _ in range(3)]
    alone = [ExhaustivePlanner(env, AnalyticWorld(half_life_hours=2.0), k=2, belief="history") for env in singles]
    obs = [env.reset(seed=10 + i)[0] for i, env in enumerate(singles)]
    for _ in range(2):
        actions, _ = planner.predict(seen)
        assert actions.tolist() == [int(p.act(o)[0]) for p, o in zip(alone, obs)]
        seen, *_ = envs.step(actions)
        obs = [env.step(int(a))[0] for env, a in zip(singles, actions)]


def test_all_kinds_of_vector_envs_have_a_seat_per_row() -> None:
    from ecg_gym.envs.sb3 import sb3_vec_env

    assert len(seats(make())) == 1
    assert len(seats(native(3))) == 3
    assert len(seats(sb3_vec_env("ecg_gym:ECGIntervention-v0", 2, **NAMED))) == 2
    from stable_baselines3.common.env_util import make_vec_env

    assert len(seats(make_vec_env(make, n_envs=2))) == 2
    assert len(seats(gym.vector.SyncVectorEnv([make] * 2))) == 2


@pytest.mark.parametrize("kind", ["dummy", "native"])
def test_stable_baselines_evaluates_a_receding_horizon(kind: str) -> None:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    from ecg_gym.envs.sb3 import sb3_vec_env

    if kind == "dummy":
        env = make_vec_env(make, n_envs=2, seed=0)
    else:
        env = sb3_vec_env("ecg_gym:ECGIntervention-v0", 2, **{**NAMED, "max_episode_steps": 3})
    planner = RecedingHorizonPlanner(env, horizon=2, k=1, budget=16)
    rewards, lengths = evaluate_policy(planner, env, n_eval_episodes=2, return_episode_rewards=True, warn=False)
    assert lengths == [3, 3]
    assert all(-3 <= r <= 0 for r in rewards)


def test_stable_baselines_evaluates_a_single_env_and_finds_the_optimum() -> None:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    env = Monitor(make_lock(max_episode_steps=4, horizon=4))
    planner = BeamPlanner(env, horizon=3, k=1, budget=60, risk_aversion=0.0)
    mean, _ = evaluate_policy(planner, env, n_eval_episodes=1, warn=False)
    assert mean == pytest.approx(-5 / 6, abs=0.05)


def test_a_random_planner_fills_a_vector_env() -> None:
    envs = native(4)
    seen, _ = envs.reset(seed=0)
    actions, _ = RandomPlanner(envs, seed=1).predict(seen)
    assert envs.action_space.contains(actions)
    assert all(mask[a] for mask, a in zip(envs.action_masks(), actions))
