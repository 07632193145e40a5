"""``play(env, agent, seed)``: one episode is one row. The only file of the benchmark that steps an environment."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from planners import PlanInfo
from training.evaluation.benchmark.protocol import IDS


class Agent(Protocol):
    """What the benchmark asks of an agent; every planner is one."""

    def reset(self, seed: int | None = None) -> None:
        """Forget the last episode; draw from this seed."""
        ...

    def act(self, obs: Any, info: Mapping[str, Any]) -> tuple[Any, PlanInfo]:
        """The action, and what it cost to find."""
        ...


def play(env: gym.Env, agent: Agent, seed: int) -> dict[str, Any]:
    """What happened in the episode of this seed, in plain JSON.

    ``return`` is the undiscounted sum of rewards, ``cost`` the mean of ``info["cost"]`` over the steps; ``died`` is a
    lethal end. The agent's own randomness starts from the same number as the env's, on a stream of its own.
    """
    obs, info = env.reset(seed=seed)
    agent.reset(int(np.random.SeedSequence([seed, 7]).generate_state(1)[0]))
    rewards: list[float] = []
    costs, given, calls, nonfinite, refused = [], [], [], 0, 0
    seconds, cpu_seconds = [], []
    over = False
    while not over:
        wall, cpu = time.perf_counter(), time.process_time()
        action, decided = agent.act(obs, info)
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
        obs, reward, terminated, truncated, info = env.step(action)
        rewards.append(float(reward))
        costs.append(float(info["cost"]))
        given.append(str(info["treatment"]))
        calls.append(int(decided.model_calls))
        nonfinite += int(decided.n_nonfinite)
        refused += bool(info["invalid_action"])
        over = terminated or truncated
    return {
        "env_seed": seed,
        "return": sum(rewards),
        "steps": len(rewards),
        "cost": float(np.mean(costs)),
        "died": not bool(info["alive"]),
        "model_calls": float(np.mean(calls)),
        "seconds": float(np.mean(seconds)),
        "cpu_seconds": float(np.mean(cpu_seconds)),
        "nonfinite": nonfinite,
        "refused": refused,
        "rewards": [round(reward, 6) for reward in rewards],
        "treatments": given,
    }


@lru_cache(maxsize=32)
def made(world: str, arguments: str) -> gym.Env:
    """The env of these arguments (as canonical JSON), made once per process and used by one agent after another."""
    return gym.make(IDS[world], disable_env_checker=True, **json.loads(arguments))
