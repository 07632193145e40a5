"""The ids that ``gymnasium.make`` knows once ecg_gym is imported. Loads nothing but Gymnasium."""

from __future__ import annotations

import gymnasium as gym

HORIZON = 8  # steps of an episode
IDS = {"ECGIntervention-v0": "model", "ECGInterventionOracle-v0": "oracle"}  # id -> the world behind it


def register() -> None:
    """Make both ids known; a second call changes nothing."""
    for name, world in IDS.items():
        if name not in gym.registry:
            gym.register(
                id=name,
                entry_point="ecg_gym.envs:ECGInterventionEnv",
                max_episode_steps=HORIZON,
                kwargs={"world": world},
            )
