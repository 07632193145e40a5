"""``check_planner(planner, env)`` returns nothing and raises ``AssertionError`` for the first broken promise."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from ecg_gym.checks import equal, untouched_global_randomness
from planners.base import PlanInfo, Planner


def check_planner(planner: Planner, env: Any, seed: int = 0) -> None:
    """One episode under the planner: valid and allowed actions, repeatable, and the env untouched by thinking.

    ``env`` is the one the planner was made for, with a TimeLimit (``gym.make`` adds it). Your own planner belongs here,
    in your tests.
    """
    with untouched_global_randomness():
        obs, info = env.reset(seed=seed)
        over = False
        while not over:
            _check_decision(planner, env, obs, info, seed)
            action, _ = planner.act(obs, info)
            obs, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated


def _check_decision(planner: Planner, env: Any, obs: Any, info: dict[str, Any], seed: int) -> None:
    inner = env.unwrapped
    before = pickle.loads(pickle.dumps((inner.state, inner.np_random.bit_generator.state)))
    planner.reset(seed)
    action, decided = planner.act(obs, info)
    planner.reset(seed)
    again, _ = planner.act(obs, info)
    _expect(np.array_equal(action, again), f"the same seed and state gave {action} and then {again}")
    _expect(env.action_space.contains(_native(action)), f"{action} is not in {env.action_space}")
    _expect(bool(inner.episode.allowed[0][inner.menu.index(inner.treatment(action))]), f"{action} is not allowed now")
    _expect(isinstance(decided, PlanInfo), f"act returned a {type(decided).__name__}; expected (action, PlanInfo)")
    _expect(decided.treatment == inner.treatment(action), "PlanInfo tells another treatment than the action")
    planner.reset(seed)
    predicted, _ = planner.predict(obs)
    _expect(np.array_equal(predicted, action), f"predict says {predicted} where act says {action}")
    planner.reset(seed)
    batch = {k: v[None] for k, v in obs.items()} if isinstance(obs, dict) else obs[None]
    rows, _ = planner.predict(batch)
    _expect(np.array_equal(rows, np.asarray([action])), f"predict of a batch of one says {rows}; expected {[action]}")
    after = (inner.state, inner.np_random.bit_generator.state)
    _expect(equal(before, after), "thinking changed the env: its state or its randomness")


def _native(action: Any) -> Any:
    return action if isinstance(action, np.ndarray) else int(action)


def _expect(kept: bool, sentence: str) -> None:
    if not kept:
        raise AssertionError(sentence)
