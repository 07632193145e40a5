"""An offline data set in Minari's format, and a policy learned from it by d3rlpy without touching the env again.

    pip install 'ecg-gym[rl,offline]'
    python examples/offline_dataset.py

The behaviour is a careless doctor: half the time the guideline's advice, half the time anything that is allowed, so
that every treatment is seen. The probability of each action is recorded with it, for off-policy evaluation.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any

import d3rlpy
import gymnasium as gym
import minari
import numpy as np
import structlog

import ecg_gym  # noqa: F401 - makes the ids known
from planners import GuidelinePlanner

NAME, SCENARIO = "ecg/af-rapid-response/careless-v0", "af_rapid_response"
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # d3rlpy says a lot


class Probabilities(minari.StepDataCallback):
    """Keeps the behaviour's probability of each action beside the env's own infos."""

    probability = 1.0

    def __call__(self, env: gym.Env, **step: Any) -> minari.StepData:
        data = super().__call__(env, **step)
        data["info"]["action_probability"] = self.probability
        return data


def careless(env: gym.Env, rng: np.random.Generator) -> Iterator[tuple[int, float]]:
    """An action and its probability, whenever asked."""
    doctor = GuidelinePlanner(env)
    while True:
        allowed = np.flatnonzero(env.unwrapped.action_masks())
        advice = env.unwrapped.action(doctor.choose(env.unwrapped, env.unwrapped.state).treatment)
        action = advice if rng.random() < 0.5 else int(rng.choice(allowed))
        yield action, 0.5 * (action == advice) + 0.5 / len(allowed)


def collect(episodes: int, seed: int) -> minari.MinariDataset:
    env = gym.make("ecg_gym:ECGInterventionOracle-v0", scenario=SCENARIO, risk="limits")
    recorded = minari.DataCollector(env, step_data_callback=Probabilities, record_infos=True)
    for episode in range(episodes):
        recorded.reset(seed=seed + episode)
        behaviour, over = careless(env, np.random.default_rng([seed, episode])), False
        while not over:
            action, Probabilities.probability = next(behaviour)
            _, _, terminated, truncated, _ = recorded.step(action)
            over = terminated or truncated
    if NAME in minari.list_local_datasets():
        minari.delete_dataset(NAME)
    about = {"algorithm_name": "guideline and dice, half and half", "author": "you", "author_email": "you@example.org"}
    return recorded.create_dataset(NAME, description="Virtual patients; research only.", code_permalink="none", **about)


def learn(data: minari.MinariDataset, steps: int) -> Any:
    episodes = list(data.iterate_episodes())
    value = d3rlpy.dataset.MDPDataset(
        observations=np.concatenate([e.observations[:-1] for e in episodes]),
        actions=np.concatenate([e.actions for e in episodes]),
        rewards=np.concatenate([e.rewards for e in episodes]).astype(np.float32),
        terminals=np.concatenate([e.terminations for e in episodes]),
        timeouts=np.concatenate([e.truncations for e in episodes]),
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=int(data.action_space.n),
    )
    learner = d3rlpy.algos.DiscreteCQLConfig(batch_size=32).create(device="cpu:0")
    quiet = d3rlpy.logging.NoopAdapterFactory()
    learner.fit(value, n_steps=steps, n_steps_per_epoch=steps, logger_adapter=quiet, show_progress=False)
    return learner


def main(episodes: int = 64, steps: int = 2000, tested: int = 8, seed: int = 0) -> dict[str, float]:
    """Mean returns of the behaviour and of what was learned from it."""
    data = collect(episodes, seed)
    learner = learn(data, steps)
    env = data.recover_environment()
    returns = []
    for episode in range(tested):
        obs, info = env.reset(seed=10_000 + seed + episode)
        total, over = 0.0, False
        while not over:
            value = learner.predict_value(np.repeat(obs[None], env.action_space.n, 0), np.arange(env.action_space.n))
            action = int(np.argmax(np.where(info["action_mask"] == 1, value, -np.inf)))  # best of what is allowed
            obs, reward, terminated, truncated, info = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    means = {
        f"behaviour ({episodes} recorded episodes)": float(np.mean([e.rewards.sum() for e in data.iterate_episodes()])),
        f"DiscreteCQL ({tested} new patients)": float(np.mean(returns)),
    }
    for name, value in means.items():
        print(f"{name:40s} mean return {value:6.2f}")
    print(
        f"data set {NAME} of {data.total_steps} steps in {os.environ.get('MINARI_DATASETS_PATH', '~/.minari/datasets')}"
    )
    return means


if __name__ == "__main__":
    main()
