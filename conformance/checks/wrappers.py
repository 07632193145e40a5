"""Gymnasium's wrappers, single and vector: each is put on, reset, stepped, and what it shows lies in its own space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers
from gymnasium.wrappers import vector

from conformance.script import CHEAP, ORACLE, run

SINGLE: dict[str, Callable[[Any], gym.Env]] = {
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 3),
    "TimeAwareObservation": wrappers.TimeAwareObservation,
    "DelayObservation": lambda env: wrappers.DelayObservation(env, 1),
    "FlattenObservation": wrappers.FlattenObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "ClipReward": lambda env: wrappers.ClipReward(env, -1.0, 0.0),
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.25),
    "RepeatAction": lambda env: wrappers.RepeatAction(env, 2),
    "Autoreset": wrappers.Autoreset,
    "MaxAndSkipObservation": lambda env: wrappers.MaxAndSkipObservation(env, 2),
}
FLAT: dict[str, Callable[[Any], gym.Env]] = {  # these take a Box alone, and say so themselves
    "NormalizeObservation": wrappers.NormalizeObservation,
    "DtypeObservation": lambda env: wrappers.DtypeObservation(env, np.float64),
}
VECTOR: dict[str, Callable[[Any], gym.vector.VectorEnv]] = {
    "FlattenObservation": vector.FlattenObservation,
    "RecordEpisodeStatistics": vector.RecordEpisodeStatistics,
    "DictInfoToList": vector.DictInfoToList,
    "NormalizeReward": vector.NormalizeReward,
    "ClipReward": lambda envs: vector.ClipReward(envs, -1.0, 0.0),
}


def walk(env: gym.Env, steps: int = 4) -> None:
    """A few steps; raises when an observation lies outside the wrapper's space."""
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    for _ in range(steps):
        obs, earned, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(obs)
        assert math.isfinite(float(earned))


def check() -> str:
    count = 0
    for obs in ("features", "waveform"):
        for name, wrap in (SINGLE | (FLAT if obs == "features" else {})).items():
            if (obs, name) == ("waveform", "MaxAndSkipObservation"):
                continue  # takes the maximum of two arrays; a Dict has none
            print(obs, name, flush=True)
            walk(wrap(gym.make(f"ecg_gym:{ORACLE}", obs=obs, **CHEAP)))
            count += 1
    for name, put_on in VECTOR.items():
        print("vector", name, flush=True)
        envs = put_on(gym.make_vec(ORACLE, num_envs=2, **CHEAP))
        envs.action_space.seed(0)
        envs.reset(seed=0)
        for _ in range(10):  # past the end of an episode
            _, earned, *_ = envs.step(envs.action_space.sample())
            assert np.isfinite(np.asarray(earned)).all()
        envs.close()
        count += 1
    return f"Gymnasium {gym.__version__}: {count} wrappers"


if __name__ == "__main__":
    run(check)
