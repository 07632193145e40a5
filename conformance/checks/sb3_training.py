"""PPO, DQN, MaskablePPO and RecurrentPPO train, save, load, act again the same, and are evaluated, on the single envs.

Also the two roads that import nothing of ours: ``make_vec_env`` and ``SubprocVecEnv`` with ``"ecg_gym:ID"``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3 import DQN, PPO, __version__
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy

from conformance.script import CHEAP, LEARNED, ORACLE, run

ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1}
RUNS: tuple[tuple[type[BaseAlgorithm], str, str, dict[str, Any], dict[str, Any]], ...] = (
    (PPO, "MlpPolicy", ORACLE, CHEAP, ON_POLICY),
    (PPO, "MultiInputPolicy", ORACLE, {**CHEAP, "obs": "waveform"}, ON_POLICY),
    (DQN, "MlpPolicy", ORACLE, CHEAP, {"learning_starts": 16, "batch_size": 16, "train_freq": 4}),
    (MaskablePPO, "MlpPolicy", ORACLE, CHEAP, ON_POLICY),
    (MaskablePPO, "MlpPolicy", ORACLE, {**CHEAP, "actions": "multidiscrete"}, ON_POLICY),
    (RecurrentPPO, "MlpLstmPolicy", ORACLE, CHEAP, ON_POLICY),
    (PPO, "MlpPolicy", LEARNED, {}, ON_POLICY),
    (MaskablePPO, "MlpPolicy", LEARNED, {"obs": "latent"}, ON_POLICY),
)
STRANGER = """
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
for kind in (None, SubprocVecEnv):
    envs = make_vec_env("ecg_gym:{name}", n_envs=2, seed=0, env_kwargs={kwargs}, vec_env_cls=kind)
    envs.reset()
    assert envs.step([0, 0])[0].shape == (2, *envs.observation_space.shape)
    assert len(envs.env_method("action_masks")) == 2
    envs.close()
"""


def learns(kind: type[BaseAlgorithm], policy: str, env: gym.Env, settings: dict[str, Any]) -> None:
    """Train for a moment; raises when no weight moved, or when a saved and loaded copy acts otherwise."""
    if isinstance(env.observation_space, gym.spaces.Dict):
        policy = "MultiInputPolicy"
    model = kind(policy, env, seed=0, **settings)
    before = [w.detach().clone() for w in model.policy.parameters()]
    model.learn(64)
    differs = any(not torch.equal(old, new) for old, new in zip(before, model.policy.parameters()))
    assert differs, f"{kind.__name__} learned nothing: no weight moved in 64 steps"
    obs, _ = env.reset(seed=1)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "policy")
        twin = kind.load(Path(folder) / "policy")
    assert np.array_equal(model.predict(obs, deterministic=True)[0], twin.predict(obs, deterministic=True)[0])
    judge: Any = evaluate_masked if kind is MaskablePPO else evaluate_policy
    mean, _ = judge(model, env, n_eval_episodes=1, warn=False)
    assert np.isfinite(mean)


def stays_allowed(env: gym.Env) -> None:
    """A MaskablePPO asked with the mask chooses nothing that the clinical rules forbid; raises when it does."""
    model = MaskablePPO("MlpPolicy", env, seed=0, **ON_POLICY)
    obs, info = env.reset(seed=2)
    for _ in range(8):
        action, _ = model.predict(obs, action_masks=env.get_wrapper_attr("action_masks")())
        obs, _, terminated, truncated, info = env.step(action)
        assert not info["invalid_action"], f"{info['treatment']} was chosen and is not allowed"
        if terminated or truncated:
            break


def check() -> str:
    for kind, policy, name, kwargs, settings in RUNS:
        print(kind.__name__, name, kwargs, flush=True)
        learns(kind, policy, gym.make(f"ecg_gym:{name}", **kwargs), settings)
    stays_allowed(gym.make(ORACLE, **CHEAP))
    subprocess.run([sys.executable, "-c", STRANGER.format(name=ORACLE, kwargs=CHEAP)], check=True)
    return f"stable-baselines3 {__version__}: {len(RUNS)} trainings, saved, loaded, evaluated; make_vec_env twice"


if __name__ == "__main__":
    run(check)
