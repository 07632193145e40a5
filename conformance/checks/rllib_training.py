"""RLlib trains PPO for one iteration: flat observations, Dict observations, drug x dose actions, our native batch."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym

from conformance.script import CHEAP, ORACLE, ROOT, need, run

SINGLE: dict[str, Any] = {}
BATCH: dict[str, Any] = {"gym_env_vectorize_mode": gym.VectorizeMode.VECTOR_ENTRY_POINT, "num_envs_per_env_runner": 2}
CASES: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (  # arguments of the env, and how RLlib runs it
    ({}, SINGLE),
    ({"obs": "waveform"}, SINGLE),
    ({"actions": "multidiscrete"}, SINGLE),
    ({}, BATCH),
)


def check() -> str:
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine starts it slowly
    ray, ppo, connectors = need("ray", "ray.rllib.algorithms.ppo", "ray.rllib.connectors.env_to_module")
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    for kwargs, manner in CASES:
        print(kwargs, manner, flush=True)
        config = ppo.PPOConfig().environment(f"ecg_gym:{ORACLE}", env_config={**CHEAP, **kwargs})
        config = config.env_runners(
            num_env_runners=0,
            env_to_module_connector=lambda *_args, **_kwargs: connectors.FlattenObservations(),
            **manner,
        )
        config = config.training(train_batch_size=32, minibatch_size=16, num_epochs=1)
        algorithm = config.build_algo()
        value = algorithm.train()
        steps = value["num_env_steps_sampled_lifetime"]
        assert steps >= 32, f"one iteration sampled {steps} steps; expected 32"
        algorithm.stop()
    ray.shutdown()
    return f"ray {ray.__version__}: PPO, {len(CASES)} kinds of env, one iteration each"


if __name__ == "__main__":
    run(check)
