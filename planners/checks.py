"""``check_planner(planner, env)`` returns nothing and raises ``AssertionError`` for the first broken promise."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np

from ecg_gym.checks import equal, untouched_global_randomness
from planners.base import PlanInfo, Planner


def check_planner(planner: Planner, env: Any, seed: int = 0) -> None:
    """One episode under the planner: valid and allowed actions, repeatable, and the env untouched by thinking.

    ``PlanInfo`` must hold together (a sequence begins with its treatment, an abstention watches, a budget is kept), the
    planner must go on without being reset, and one that imagines in a world of its own must not look at the true strip.
    ``env`` is the one the planner was made for, with a TimeLimit (``gym.make`` adds it). Your own planner belongs here,
    in your tests.
    """
    with untouched_global_randomness():
        obs, info = env.reset(seed=seed)
        _check_blindness(planner, env, seed)
        over = False
        while not over:
            _check_decision(planner, env, obs, info, seed)
            action, _ = planner.act(obs, info)
            obs, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        _check_going_on(planner, env, seed)


def _check_decision(planner: Planner, env: Any, obs: Any, info: dict[str, Any], seed: int) -> None:
    inner = env.unwrapped
    before = pickle.loads(pickle.dumps((inner.state, inner.np_random.bit_generator.state)))
    planner.reset(seed)
    action, decision = planner.act(obs, info)
    planner.reset(seed)
    again, _ = planner.act(obs, info)
    _expect(np.array_equal(action, again), f"the same seed and state gave {action} and then {again}")
    _expect(env.action_space.contains(_native(action)), f"{action} is not in {env.action_space}")
    _expect(bool(inner.episode.allowed[0][inner.menu.index(inner.treatment(action))]), f"{action} is not allowed now")
    _expect(isinstance(decision, PlanInfo), f"act returned a {type(decision).__name__}; expected (action, PlanInfo)")
    _expect(decision.treatment == inner.treatment(action), "PlanInfo tells another treatment than the action")
    _check_info(planner, decision)
    planner.reset(seed)
    predicted, _ = planner.predict(obs)
    _expect(np.array_equal(predicted, action), f"predict says {predicted} where act says {action}")
    planner.reset(seed)
    batch = {k: v[None] for k, v in obs.items()} if isinstance(obs, dict) else obs[None]
    rows, _ = planner.predict(batch)
    _expect(np.array_equal(rows, np.asarray([action])), f"predict of a batch of one says {rows}; expected {[action]}")
    planner.reset(seed)
    answers, _ = planner.predict(batch, episode_start=np.array([True]))
    _expect(
        np.array_equal(answers, rows), f"told that an episode begins, predict says {answers} after a reset; not {rows}"
    )
    after = (inner.state, inner.np_random.bit_generator.state)
    _expect(equal(before, after), "thinking changed the env: its state or its randomness")


def _check_info(planner: Planner, decision: PlanInfo) -> None:
    """What a decision says of itself."""
    calls, budget = decision.model_calls, getattr(planner, "budget", None)
    _expect(calls >= 0 and decision.n_nonfinite >= 0, "model_calls and n_nonfinite are counts; one is below 0")
    _expect(budget is None or calls <= budget, f"{calls} row-steps were asked of the world; the budget is {budget}")
    _expect(
        not decision.sequence or decision.sequence[0] == decision.treatment, "the sequence begins otherwise than told"
    )
    _expect(
        not (decision.abstained and decision.treatment), f"it abstained ({decision.abstained}), and treats all the same"
    )
    for name in ("separation", "better"):
        value = getattr(decision, name)
        _expect(np.isnan(value) or 0 <= value <= 1, f"{name} is {value}; expected a probability, or NaN")


def _check_blindness(planner: Planner, env: Any, seed: int) -> None:
    """In a world of its own a planner starts from what was seen: another true strip must not change what it does."""
    inner = env.unwrapped
    world = getattr(planner, "world", None)
    if world is None or world is inner.world:
        return
    original = inner.episode
    planner.reset(seed)
    seeing, _ = planner.act()
    inner.episode = replace(original, state=replace(original.state, ecg=original.state.ecg + np.float32(0.5)))
    planner.reset(seed)
    blind, _ = planner.act()
    inner.episode = original
    _expect(np.array_equal(seeing, blind), f"it looks at the true strip: {seeing}, and {blind} with another one")


def _check_going_on(planner: Planner, env: Any, seed: int) -> None:
    """Into another episode without a reset: what it gives must still be allowed."""
    inner = env.unwrapped
    env.reset(seed=seed + 1)
    for _ in range(2):
        action, _ = planner.act()
        _expect(
            bool(inner.episode.allowed[0][inner.menu.index(inner.treatment(action))]), f"{action} is not allowed now"
        )
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return


def _native(action: Any) -> Any:
    return action if isinstance(action, np.ndarray) else int(action)


def _expect(promise: bool, sentence: str) -> None:
    if not promise:
        raise AssertionError(sentence)
