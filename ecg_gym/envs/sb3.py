"""``sb3_vec_env(id, n)``: the native batched env as a ``VecEnv`` of stable-baselines3, for its algorithms to train on.

Stable-Baselines3 steps a list of single envs; Gymnasium's vector envs step a batch. :class:`SB3VecEnv` stands between
the two for any vector env that resets an ended episode within the same step, as ``VecEnv`` promises.
Needs ``pip install 'ecg-gym[rl]'``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


def sb3_vec_env(name: str, num_envs: int, *, monitor: bool = True, **arguments: Any) -> VecEnv:
    """``num_envs`` envs of the id ``name`` as one ``VecEnv``, with ``VecMonitor`` for the returns of episodes.

    ``arguments`` are those of the env (``scenario=...``, ``obs=...``). Seed it with ``.seed(7)`` before the first
    reset, or by the algorithm's own ``seed``.
    """
    envs = gym.make_vec(name, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP.value, **arguments)
    adapted = SB3VecEnv(envs)
    return VecMonitor(adapted) if monitor else adapted


class SB3VecEnv(VecEnv):
    """Any ``gymnasium.vector.VectorEnv`` in ``SAME_STEP`` mode as a ``VecEnv``.

    ``infos[i]`` is that of row i; where an episode ended it is the last one's, with ``"terminal_observation"`` and
    ``"TimeLimit.truncated"``, and the new one's stands in ``reset_infos[i]``. ``env_method("action_masks")`` hands out
    one mask per row, so that ``MaskablePPO`` works. ``ValueError`` for a vector env of another mode.
    """

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is None or AutoresetMode(mode) is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the vector env resets in the mode {mode}; expected {AutoresetMode.SAME_STEP}, as VecEnv promises; "
                "pass autoreset_mode='SameStep' to gym.make_vec"
            )
        self.envs = envs
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    # --- stepping ----------------------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        """First observations ``(num_envs, ...)`` of new episodes; seeds and options are used once."""
        seeds: Any = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                f"options differ between rows: {self._options}; expected the same for all, because the batch starts as "
                "one; pass set_options({...})"
            )
        obs, infos = self.envs.reset(seed=seeds, options=options or None)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [row_of(infos, row) for row in range(self.num_envs)]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions ``(num_envs, ...)`` for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Observations, rewards ``(num_envs,)`` float32, dones ``(num_envs,)`` bool, one info per row."""
        obs, rewards, terminated, truncated, value = self.envs.step(self._actions)
        dones, infos = terminated | truncated, []
        final = {name: value.pop(name, None) for name in ("final_obs", "_final_obs", "final_info", "_final_info")}
        for row in range(self.num_envs):
            info = row_of(value, row)
            if dones[row]:
                self.reset_infos[row], info = info, row_of(final["final_info"], row)
                info["terminal_observation"] = final["final_obs"][row]
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            infos.append(info)
        return obs, np.asarray(rewards, dtype=np.float32), dones, infos

    def close(self) -> None:
        """Close the batch."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture per row; the render mode must be ``"rgb_array"``."""
        pictures: Any = self.envs.render()
        return [None] * self.num_envs if pictures is None else list(pictures)

    # --- asking the rows ---------------------------------------------------------------------------------------------

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute, one value per chosen row; ``AttributeError`` where there is none."""
        if attr_name in ("observation_space", "action_space"):
            values: Sequence[Any] = [getattr(self.envs, f"single_{attr_name}")] * self.num_envs
        elif hasattr(self._base, "get_attr"):  # a list of single envs behind it: each has its own
            values = self._base.get_attr(attr_name)
        else:
            values = [getattr(self._base, attr_name)] * self.num_envs
        return [values[row] for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all rows; a batch has one value, so ``ValueError`` for some of the rows."""
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(f"indices is {indices}; expected all rows, which share {attr_name}; leave indices out")
        if hasattr(self._base, "set_attr"):
            self._base.set_attr(attr_name, [value] * self.num_envs)
        else:
            setattr(self._base, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """What a method says, one value per chosen row: row i of a batch's answer ``(num_envs, ...)``."""
        if hasattr(self._base, "call"):
            answers: Any = self._base.call(method_name, *args, **kwargs)
        else:
            answers = getattr(self._base, method_name)(*args, **kwargs)
            if not isinstance(answers, np.ndarray | list | tuple) or len(answers) != self.num_envs:
                answers = [answers] * self.num_envs
        return [answers[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False for every chosen row: a batch has no single envs to wrap."""
        return [False for _ in self._get_indices(indices)]

    @property
    def _base(self) -> Any:
        return self.envs.unwrapped


def row_of(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The info of one row out of a vector env's ``infos``: plain scalars, and what the row does not have left out."""
    there = {name: value for name, value in infos.items() if f"_{name}" in infos and infos[f"_{name}"][row]}
    return {
        name: row_of(value, row) if isinstance(value, Mapping) else _plain(value[row]) for name, value in there.items()
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
