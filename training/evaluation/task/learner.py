"""MaskablePPO in the truth on the default id: one policy for every scenario, its learning curve, and its episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.envs.config import EnvConfig, EnvSetup, make_setup
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import Episode
from training.evaluation.benchmark import policy_training

ALGORITHM = "maskable-ppo"


def train(
    folder: Path, steps: int, risk: str, progress: Callable[[int], None] = lambda n: None
) -> tuple[Any, list[list[float]]]:
    """The policy after ``steps`` and its curve, rows ``[steps, mean return, episodes]``.

    A training that was stopped goes on from its last checkpoint in ``folder``.
    """
    from sb3_contrib import MaskablePPO

    arguments = {"risk": risk, "cost": False}
    for path in policy_training.train_policy(
        ALGORITHM, folder, steps, seeds=1, env_arguments=arguments, progress=progress
    ):
        model = MaskablePPO.load(path, device="cpu")
    return model, json.loads((folder / "0.json").read_text(encoding="utf-8"))["curve"]


class LearnedPolicy:
    """The policy's most likely allowed action, out of the observation of the default id."""

    def __init__(self, model: Any, risk: str) -> None:
        self.model = model
        self.whole: EnvSetup = make_setup(EnvConfig("oracle", fidelity="vitals", risk=risk))

    def __call__(self, task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """The entries ``(B,)``; the episode must be of the whole menu."""
        observation = self.whole.observation(episode)
        action, _ = self.model.predict(observation, deterministic=True, action_masks=episode.allowed)
        return np.asarray(action, int)
