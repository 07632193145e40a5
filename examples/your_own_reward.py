"""A reward of your own: minus the risk, and a price for every dose.

    python examples/your_own_reward.py

A reward is called with a `Transition` and returns one number per episode of the batch, or one column per term. The env
finds it by name, so that its spec stays JSON: `reward="examples/your_own_reward.py:Frugal"`.
"""

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.envs import Transition


class Frugal:
    """Minus the risk of the true strip, minus 0.1 for every dose; a lethal rhythm costs what is left of the horizon."""

    terms = ("risk", "doses", "lethal")

    def __call__(self, step: Transition) -> dict[str, np.ndarray]:
        left = np.maximum(step.horizon - step.steps, 1)
        return {"risk": -step.risk, "doses": -0.1 * step.doses, "lethal": np.where(step.lost, -2.0 * left, 0.0)}


def main(seed: int = 0) -> dict[str, float]:
    env = gym.make("ECGInterventionOracle-v0", scenario="af_rapid_response", risk="limits", reward=f"{__file__}:Frugal")
    _, info = env.reset(seed=seed)
    drug = int(np.flatnonzero(info["action_mask"])[1])  # the first that is allowed after watching
    _, reward, _, _, info = env.step(drug)
    print(f"reward {reward:.3f} = {info['reward_terms']}")
    return {"reward": reward, **info["reward_terms"]}


if __name__ == "__main__":
    main()
