"""``MultiObjective(env)``: rewards as a vector, in MO-Gymnasium's form: risk, harm by treatment, drugs.

MO-Gymnasium's own wrappers and algorithms read ``reward_space`` and take the vector that ``step`` returns as reward
(Felten 2023, NeurIPS Datasets and Benchmarks). Each objective is to be maximised and none is above 0.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBJECTIVES = ("risk", "harm", "drugs")


class MultiObjective(gym.Wrapper):
    """The env with rewards ``(3,)`` float32: its own reward without a burden for doses, minus ``info["cost"]``, minus
    the number of doses given.

    ``reward_space`` is a ``Box`` that holds them, and the env under all wrappers has it too. ``ValueError`` for an env
    that keeps no cost (``cost=False``), or whose reward has a burden of its own.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        task = env.unwrapped.task  # type: ignore[attr-defined]
        burden = float(getattr(task.reward, "burden", 0))
        if not task.cost or burden:
            raise ValueError(
                f"the env has cost={task.cost} and a burden of {burden:g}; expected a cost and no burden, since doses "
                "are an objective of their own; leave both arguments out"
            )
        most = max(int(s.clock.steps if task.horizon is None else task.horizon) for s in task.scenarios)
        doses = max(len(treatment.doses) for treatment in task.menu)
        low = np.array([-2.0 * most, -float(most), -float(doses)], np.float32)
        self.reward_space = spaces.Box(low, np.zeros(3, np.float32), dtype=np.float32)
        self.reward_dim = len(OBJECTIVES)
        env.unwrapped.reward_space = self.reward_space  # type: ignore[attr-defined]
        env.unwrapped.reward_dim = self.reward_dim  # type: ignore[attr-defined]
        self._doses = {str(treatment): len(treatment.doses) for treatment in task.menu}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's, with the vector ``(3,)`` of :data:`OBJECTIVES` in place of the reward."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        vector = np.array([reward, -info["cost"], -self._doses[info["treatment"]]], np.float32)
        return obs, vector, terminated, truncated, info
