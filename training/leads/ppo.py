"""MaskablePPO on a table of fits: trained on some hearts, judged on others. Needs ``pip install 'ecg-gym[rl]'``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.leads.agents import Choose
from training.leads.env import DiscoveryEnv
from training.leads.structure import Space
from training.leads.table import Case

STEPS, ENVS = 40_000, 8
LEARNING: dict[str, Any] = {
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 5e-4,
    "gamma": 1.0,
    "ent_coef": 0.01,
}


def train_ppo(
    cases: Sequence[Case], space: Space | str = "small", budget: int = 12, steps: int = STEPS, seed: int = 0
) -> Choose:
    """A policy as an agent: the most likely allowed action. ``ImportError`` where sb3-contrib is absent."""
    try:
        from sb3_contrib import MaskablePPO
    except ImportError:
        raise ImportError(
            "sb3-contrib is not installed; expected it for MaskablePPO; pip install 'ecg-gym[rl]'"
        ) from None
    from stable_baselines3.common.env_util import make_vec_env

    venv = make_vec_env(lambda: DiscoveryEnv(cases=cases, budget=budget, space=space), ENVS, seed=seed)
    model = MaskablePPO("MultiInputPolicy", venv, seed=seed, device="cpu", **LEARNING)
    model.learn(steps)
    venv.close()

    def choose(observation: Mapping[str, np.ndarray], mask: np.ndarray, rng: np.random.Generator) -> int:
        inputs: Any = dict(observation)
        action, _ = model.predict(inputs, deterministic=True, action_masks=mask)
        return int(action)

    return choose
