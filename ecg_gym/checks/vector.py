"""``check_vector_env(id)``: a batched env against as many single ones, in all three autoreset modes.

It returns nothing and raises ``AssertionError`` with one sentence for the first broken promise. It is not about our
env alone: any id with a ``vector_entry_point`` can be put through it. With ``exact=True`` (for envs that promise it,
such as ours with ``deterministic="batch"``) every number must agree to the last bit, otherwise within ``TOLERANCE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from ecg_gym.checks.world import untouched_global_randomness

TOLERANCE = 2e-3  # of observations in [-1, 1], rewards, infos relative to their size: kernels differ with the batch
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)


def check_vector_env(
    id: str, num_envs: int = 3, steps: int = 6, seed: int = 0, *, exact: bool = False, **kwargs: Any
) -> None:
    """Step ``gym.make_vec(id, num_envs, **kwargs)`` beside ``num_envs`` single envs with the same seeds and actions.

    Checked in each autoreset mode: spaces; observations, rewards, ends, infos and their ``_key`` masks; final
    observations and infos; ``reset_mask``; action masks, where the env has them; that returned arrays are fresh; that
    global random state is left alone; that a reset with the same seed repeats. Choose ``max_episode_steps`` below
    ``steps``, so that episodes end (default 3).
    """
    kwargs = {"max_episode_steps": 3, **kwargs}
    with untouched_global_randomness():
        for mode in MODES:
            _check_mode(id, num_envs, steps, seed, exact, mode, kwargs)
        _check_rows_alone(id, num_envs, seed, exact, kwargs)


def _check_mode(
    id: str, n: int, steps: int, seed: int, exact: bool, mode: AutoresetMode, kwargs: Mapping[str, Any]
) -> None:
    title = f"{id}, {mode.value}"
    ours = gym.make_vec(id, n, **kwargs, autoreset_mode=mode)
    theirs = gym.make_vec(id, n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **kwargs)
    _expect(ours.metadata["autoreset_mode"] == mode, f"{title}: metadata says {ours.metadata['autoreset_mode']}")
    for name in ("observation_space", "single_observation_space", "action_space", "single_action_space"):
        a, b = getattr(ours, name), getattr(theirs, name)
        _expect(a == b, f"{title}: {name} is {a}; a vector of single envs has {b}")
    earlier: list[Any] = []
    a, b = (envs.reset(seed=seed) for envs in (ours, theirs))
    _check_same(a, b, f"{title}: reset", exact)
    _expect(ours.observation_space.contains(a[0]), f"{title}: the first observations are not in the space")
    theirs.action_space.seed(seed)
    over = np.zeros(n, bool)
    for step in range(steps):
        if mode == AutoresetMode.DISABLED and over.any():
            a, b = (envs.reset(options={"reset_mask": over.copy()}) for envs in (ours, theirs))
            _check_same(a, b, f"{title}: reset_mask {over.tolist()} before step {step}", exact)
        actions = theirs.action_space.sample()
        a, b = ours.step(actions), theirs.step(actions)
        _check_same(a, b, f"{title}: step {step}", exact)
        _expect(ours.observation_space.contains(a[0]), f"{title}: observations of step {step} are not in the space")
        _check_fresh(a, earlier, f"{title}: step {step}")
        _check_masks(ours, a[4], n, f"{title}: step {step}")
        earlier, over = _arrays(a), a[2] | a[3]
    repeated = ours.reset(seed=seed)
    again = ours.reset(seed=seed)
    _check_same(repeated, again, f"{title}: a second reset with seed {seed}", True)
    ours.close()
    theirs.close()


def _check_rows_alone(id: str, n: int, seed: int, exact: bool, kwargs: Mapping[str, Any]) -> None:
    """Row i of a batch is what a batch of one with its seed is."""
    crowd, alone = gym.make_vec(id, n, **kwargs), gym.make_vec(id, 1, **kwargs)
    all_seen, one_seen = crowd.reset(seed=seed)[0], alone.reset(seed=seed + n - 1)[0]
    action = crowd.action_space.sample()
    for _ in range(2):
        _check_same(_rows(all_seen, n - 1), _rows(one_seen, 0), f"{id}: row {n - 1} of {n} against it alone", exact)
        all_seen, one_seen = crowd.step(action)[0], alone.step(action[n - 1 :])[0]


def _check_masks(envs: VectorEnv, info: Mapping[str, Any], n: int, where: str) -> None:
    if not hasattr(envs.unwrapped, "action_masks"):
        return
    masks = envs.unwrapped.action_masks()
    _expect(masks.dtype == np.bool_ and masks.shape[0] == n, f"{where}: action_masks is {masks.dtype} {masks.shape}")
    _expect(bool(masks.any(axis=1).all()), f"{where}: a row has no action that is allowed")
    if "action_mask" in info:
        _expect(np.array_equal(masks, info["action_mask"].astype(bool)), f"{where}: info has other masks than the envs")


def _check_same(a: Any, b: Any, where: str, exact: bool) -> None:
    """``a`` is ours, ``b`` what it should be."""
    if isinstance(b, Mapping):
        _expect(isinstance(a, Mapping) and a.keys() == b.keys(), f"{where}: keys {sorted(set(a) ^ set(b))} differ")
        for key in b:
            _check_same(a[key], b[key], f"{where}, {key!r}", exact)
    elif isinstance(b, tuple | list):
        _expect(len(a) == len(b), f"{where}: {len(a)} parts; expected {len(b)}")
        for i, (x, y) in enumerate(zip(a, b)):
            _check_same(x, y, f"{where}[{i}]", exact)
    elif isinstance(b, np.ndarray) and b.dtype == object:
        _check_same(list(a), list(b), where, exact)
    elif isinstance(b, np.ndarray):
        a = np.asarray(a)
        _expect((a.dtype, a.shape) == (b.dtype, b.shape), f"{where}: {a.dtype} {a.shape}; expected {b.dtype} {b.shape}")
        if exact or not np.issubdtype(b.dtype, np.floating):
            _expect(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), f"{where}: {a} is not {b}")
        else:
            near = np.abs(a - b) <= TOLERANCE * np.maximum(1, np.abs(b))
            _expect(bool(near.all()), f"{where}: {a[~near][:3]} is not {b[~near][:3]}")
    else:
        _expect(a == b, f"{where}: {a!r} is not {b!r}")


def _check_fresh(returned: Any, earlier: list[np.ndarray], where: str) -> None:
    for new in _arrays(returned):
        _expect(
            not any(np.shares_memory(new, old) for old in earlier), f"{where}: returned memory that was given before"
        )


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value] if value.dtype != object else [a for item in value for a in _arrays(item)]
    if isinstance(value, Mapping):
        return [a for item in value.values() for a in _arrays(item)]
    return [a for item in value for a in _arrays(item)] if isinstance(value, tuple | list) else []


def _rows(observation: Any, row: int) -> Any:
    return {k: v[row] for k, v in observation.items()} if isinstance(observation, Mapping) else observation[row]


def _expect(promise: bool, sentence: str) -> None:
    if not promise:
        raise AssertionError(sentence)
