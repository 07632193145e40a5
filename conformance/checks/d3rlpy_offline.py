"""d3rlpy trains DiscreteCQL on the data set that Minari kept, and its policy acts in the env."""

from __future__ import annotations

import os

import gymnasium as gym
import numpy as np

from conformance.checks.minari_roundtrip import FOLDER, NAME
from conformance.script import CHEAP, ORACLE, Skip, need, run


def check() -> str:
    d3rlpy, minari = need("d3rlpy", "minari")
    if not FOLDER.exists():
        raise Skip("there is no data set of Minari's; run the check minari_roundtrip first")
    os.environ["MINARI_DATASETS_PATH"] = str(FOLDER)
    data = minari.load_dataset(NAME)
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
    learner = d3rlpy.algos.DiscreteCQLConfig(batch_size=16).create(device="cpu:0")
    quiet = d3rlpy.logging.NoopAdapterFactory()
    learner.fit(value, n_steps=20, n_steps_per_epoch=10, logger_adapter=quiet, show_progress=False)
    env = gym.make(f"ecg_gym:{ORACLE}", **CHEAP)
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        action = int(learner.predict(obs[None])[0])
        obs, *_ = env.step(action)
    return f"d3rlpy {d3rlpy.__version__}: DiscreteCQL on {sum(len(e.actions) for e in episodes)} steps, and it acts"


if __name__ == "__main__":
    run(check)
