"""``ecg-gym train policy``: a learner on every scenario at once, in the truth or in the learned world, by vitals.

FOLDER/<seed>.zip           the policy of a training seed, for ``ecg-gym evaluate 'FOLDER/{seed}.zip' --seeds 5``
FOLDER/<seed>.json          settings, learning curve and CPU time
FOLDER/<seed>.part/         checkpoints of a training that has not ended
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ecg_gym.envs.patient_sets import STREAM, TRAIN
from ecg_gym.io import write_bytes, write_text
from training.evaluation.benchmark.learners import fit

IDS = {"truth": "ECGInterventionOracle-v0", "model": "ECGIntervention-v0"}
SEEDS_APART = 100_000_000  # of the training stream, between two training seeds
ENVS = 64
NET = {"policy_kwargs": {"net_arch": [128, 128]}}
ON_POLICY = {
    "n_steps": 32, "batch_size": 256, "n_epochs": 8, "gamma": 0.97, "gae_lambda": 0.9, "ent_coef": 0.005,
    "learning_rate": 1e-3,  # at the start; it falls to 0 in a straight line
}  # fmt: skip
OFF_POLICY = {
    "learning_starts": 5_000, "buffer_size": 200_000, "batch_size": 256, "train_freq": 4, "gradient_steps": 16,
    "target_update_interval": 2_000, "exploration_fraction": 0.3, "exploration_final_eps": 0.05,
    "learning_rate": 3e-4, "gamma": 0.99,
}  # fmt: skip
FALLING = ("ppo", "maskable-ppo", "recurrent-ppo")  # their learning rate falls
SETTINGS: dict[str, Mapping[str, Any]] = {
    "ppo": {**ON_POLICY, **NET},
    "maskable-ppo": {**ON_POLICY, **NET},
    "recurrent-ppo": {**ON_POLICY, **NET},
    "dqn": {**OFF_POLICY, **NET},
    "qrdqn": {**OFF_POLICY, **NET},
}


def train_policy(
    algorithm: str,
    folder: Path,
    steps: int = 500_000,
    seeds: int = 5,
    world: str = "truth",
    envs: int = ENVS,
    every: int = 20_000,
    env_arguments: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] = lambda steps: None,
) -> Iterator[Path]:
    """Trains one policy per training seed and yields each zip; what was trained before is not trained again.

    ``world`` is "truth" or "model"; ``env_arguments`` are further ones of the env; ``progress`` hears of the steps
    that are done. Raises ``ValueError`` for an algorithm or a world that there is not.
    """
    from ecg_gym.envs.sb3 import sb3_vec_env

    if algorithm not in SETTINGS or world not in IDS:
        raise ValueError(
            f"algorithm and world are {algorithm!r} and {world!r}; expected one of {', '.join(SETTINGS)}, and "
            f"{' or '.join(IDS)}; check the spelling"
        )
    arguments = {"fidelity": "vitals", "cost": False, **(env_arguments or {})}  # harm is for judges, who play again
    for seed in range(seeds):
        path, part = folder / f"{seed}.zip", folder / f"{seed}.part"
        if not path.is_file():
            venv = sb3_vec_env(IDS[world], envs, **arguments)
            start = TRAIN * STREAM + seed * SEEDS_APART
            model, diary = fit(venv, algorithm, _of_sb3(algorithm), steps, every, start, part, progress)
            described = {"algorithm": algorithm, "world": world, "steps": int(model.num_timesteps), "envs": envs,
                         "settings": SETTINGS[algorithm], "arguments": arguments, "curve": diary["curve"],
                         "cpu_seconds": round(diary["cpu_seconds"], 1)}  # fmt: skip
            write_text(folder / f"{seed}.json", json.dumps(described, indent=1) + "\n")
            write_bytes(path, (part / f"{diary['steps']}.zip").read_bytes())
            shutil.rmtree(part)
        else:
            progress(steps)
        yield path


def _of_sb3(algorithm: str) -> dict[str, Any]:
    """The settings as SB3 takes them: the learning rate of those that learn on policy falls in a straight line."""
    from stable_baselines3.common.utils import LinearSchedule

    settings = dict(SETTINGS[algorithm])
    if algorithm in FALLING:
        settings["learning_rate"] = LinearSchedule(settings["learning_rate"], 0.0, 1.0)
    return settings
