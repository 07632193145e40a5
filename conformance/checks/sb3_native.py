"""Stable-Baselines3's algorithms on our native batched env, through ``ecg_gym.envs.sb3``, in both worlds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3 import DQN, PPO, __version__
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from conformance.script import CHEAP, LEARNED, ORACLE, run
from ecg_gym.envs.sb3 import sb3_vec_env
from ecg_gym.envs.sb3_extractor import StripExtractor

ON_POLICY: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
SEEING: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": StripExtractor}}
RUNS: tuple[tuple[type[BaseAlgorithm], str, str, dict[str, Any], dict[str, Any]], ...] = (
    (PPO, "MlpPolicy", ORACLE, CHEAP, ON_POLICY),
    (PPO, "MultiInputPolicy", ORACLE, {**CHEAP, "obs": "waveform"}, {**ON_POLICY, **SEEING}),
    (DQN, "MlpPolicy", ORACLE, CHEAP, {"learning_starts": 16, "batch_size": 16}),
    (MaskablePPO, "MlpPolicy", ORACLE, {**CHEAP, "actions": "multidiscrete"}, ON_POLICY),
    (RecurrentPPO, "MlpLstmPolicy", ORACLE, CHEAP, ON_POLICY),
    (MaskablePPO, "MlpPolicy", LEARNED, {}, ON_POLICY),
    (PPO, "MultiInputPolicy", LEARNED, {"obs": "latent"}, {**ON_POLICY, **SEEING}),
)


def check() -> str:
    for kind, policy, name, kwargs, settings in RUNS:
        print(kind.__name__, name, kwargs, flush=True)
        envs = sb3_vec_env(f"ecg_gym:{name}", 4, **kwargs)
        model = kind(policy, envs, seed=0, **settings)
        model.learn(64)
        judge: Any = evaluate_masked if kind is MaskablePPO else evaluate_policy
        mean, _ = judge(model, envs, n_eval_episodes=4)
        assert np.isfinite(mean)
        if isinstance(envs.observation_space, gym.spaces.Box) and name == ORACLE:
            normal = VecNormalize(sb3_vec_env(name, 2, **kwargs))
            normal.reset()
            obs, *_ = normal.step(np.stack([envs.action_space.sample()] * 2))
            assert np.isfinite(np.asarray(obs)).all()
    return f"stable-baselines3 {__version__}: {len(RUNS)} trainings and evaluations on the batch"


if __name__ == "__main__":
    run(check)
