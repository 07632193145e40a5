"""Minari: collect episodes, load them in a process that never imported us, recover the environment and step it.

The data set stays where ``d3rlpy_offline`` finds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np

from conformance.script import CHEAP, HIDDEN, ORACLE, need, run

FOLDER = HIDDEN / "minari"
NAME = "ecg/conformance-v0"
EPISODES = 12
FRESH = """
import sys, numpy as np, minari
data = minari.load_dataset({name!r})
assert data.total_episodes == {episodes}, data.total_episodes
episodes = list(data.iterate_episodes())
assert all(len(e.observations) == len(e.actions) + 1 for e in episodes)
assert all(np.isfinite(e.rewards).all() and (e.rewards <= 0).all() for e in episodes)
assert "action_mask" in episodes[0].infos and "costs" in episodes[0].infos
assert "ecg_gym" not in sys.modules
env = data.recover_environment()
seen, info = env.reset(seed=0)
assert env.observation_space == data.observation_space and env.action_space == data.action_space
np.testing.assert_allclose(seen, episodes[0].observations[0], atol=1e-6)
for action, reward in zip(episodes[0].actions, episodes[0].rewards):
    assert abs(env.step(int(action))[1] - reward) < 1e-6
print("recovered", env.spec.id, env.spec.kwargs)
"""


def check() -> str:
    (minari,) = need("minari")
    need("jax")  # minari.create_dataset imports it
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.environ["MINARI_DATASETS_PATH"] = str(FOLDER)
    env = minari.DataCollector(gym.make(f"ecg_gym:{ORACLE}", **CHEAP), record_infos=True)
    dice = np.random.default_rng(0)
    for episode in range(EPISODES):
        _, info = env.reset(seed=episode)
        over = False
        while not over:
            action = int(dice.choice(np.flatnonzero(info["action_mask"])))
            _, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
    words = {"algorithm_name": "random among the allowed", "author": "ecg-gym", "author_email": "nobody@example.org"}
    env.create_dataset(NAME, description="Conformance run; research only.", code_permalink="none", **words)
    code = FRESH.format(name=NAME, episodes=EPISODES)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=dict(os.environ))
    return f"minari {minari.__version__}: {EPISODES} episodes, replayed to the same rewards in the recovered env"


if __name__ == "__main__":
    run(check)
