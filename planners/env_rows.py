"""``seats(env)``: one single env per row, whatever kind of vector env the rows stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from ecg_gym.core import State

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv
    from ecg_gym.envs.episode import Episode


class EnvRow:
    """One row of our own vector env, as a single env: what planners read, without step and reset."""

    def __init__(self, env: Any, row: int) -> None:
        self._env, self._row = env, row
        self.action_space, self.observation_space = env.single_action_space, env.single_observation_space

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)  # menu, world, risk, task, action: the same for all rows

    @property
    def episode(self) -> Episode:
        """The row's episode, a batch of one."""
        return self._env.episode[[self._row]]

    @property
    def state(self) -> State:
        """The row's state, a batch of one."""
        return self._env.episode.state[self._row]

    def observation(self) -> Any:
        """What an agent in this row sees now."""
        batch = self._env.setup.observation(self.episode)
        return {name: part[0] for name, part in batch.items()} if isinstance(batch, dict) else batch[0]

    def action_masks(self) -> np.ndarray:
        """The row's mask."""
        return self._env.action_masks()[self._row]


def seats(env: Any) -> list[ECGInterventionEnv]:
    """The single envs behind an env: itself, the ``envs`` of a DummyVecEnv or SyncVectorEnv, or the rows of ours."""
    layer = env
    while layer is not None:
        if isinstance(layer, VectorEnv) and hasattr(layer, "menu") and not isinstance(layer, VectorWrapper):
            return [EnvRow(layer, row) for row in range(layer.num_envs)]  # type: ignore[misc]
        attributes = vars(layer)
        if isinstance(attributes.get("envs"), list | tuple):
            return [single.unwrapped for single in attributes["envs"]]
        inner = next((attributes[name] for name in ("env", "venv", "envs") if name in attributes), None)
        if inner is None:
            break
        layer = inner
    return [env.unwrapped]
