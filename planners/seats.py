"""``seats(env)``: one single env per row, whatever kind of vector env the rows stand in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import State, Treatment, World

if TYPE_CHECKING:
    from ecg_gym.envs import ECGInterventionEnv


class Seat:
    """One row of our own vector env, dressed as a single env: what planners look at, and nothing to step."""

    def __init__(self, env: Any, row: int) -> None:
        self._env, self._row = env, row
        self.action_space, self.observation_space = env.single_action_space, env.single_observation_space

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)  # menu, world, risk, layout: the same for all rows

    @property
    def episode(self) -> Any:
        """The row's episode, a batch of one."""
        whole = self._env.episode
        return replace(whole, **{f.name: _row_of(getattr(whole, f.name), self._row) for f in fields(whole)})

    @property
    def state(self) -> State:
        """The row's state, a batch of one."""
        return self._env.episode.state[self._row]

    @property
    def world(self) -> World:
        """The world of all rows."""
        return self._env.world

    def action(self, treatment: Treatment) -> Any:
        """The action that means a treatment of the menu."""
        return self._env.action(treatment)

    def action_masks(self) -> np.ndarray:
        """The row's mask."""
        return self._env.action_masks()[self._row]


def seats(env: Any) -> list[ECGInterventionEnv]:
    """The single envs behind an env: itself, the ``envs`` of a DummyVecEnv or SyncVectorEnv, or the rows of ours."""
    for layer in _layers(env):
        if hasattr(layer, "envs"):
            return [single.unwrapped for single in layer.envs]
    inner = env.unwrapped
    if hasattr(inner, "num_envs") and hasattr(inner, "menu"):
        return [Seat(inner, row) for row in range(inner.num_envs)]  # type: ignore[misc]
    return [inner]


def _layers(env: Any) -> Iterator[Any]:
    """The env and what its wrappers (Gymnasium's ``env``, SB3's ``venv``) hold."""
    while env is not None:
        yield env
        held = vars(env)
        env = held.get("env", held.get("venv"))


def _row_of(value: Any, row: int) -> Any:
    """One row of a field of an episode, still a batch of one."""
    if isinstance(value, dict):
        return {name: _row_of(item, row) for name, item in value.items()}
    if isinstance(value, State):
        return value[row]
    return value[row : row + 1]
