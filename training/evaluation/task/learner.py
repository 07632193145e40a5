"""MaskablePPO in the truth on the default id: one policy for every scenario, its learning curve, and its episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.envs.config import EnvConfig, EnvSetup, make_setup
from ecg_gym.envs.dynamics import Task
from ecg_gym.envs.episode import Episode
from ecg_gym.io import write_bytes

ID = "ECGInterventionOracle-v0"
ENVS, STEPS = 64, 32
FASTEST = 1e-3  # learning rate at the start; it falls to 0 in a straight line
SETTINGS: dict[str, Any] = {
    "n_steps": STEPS, "batch_size": 256, "n_epochs": 8, "gamma": 0.97, "gae_lambda": 0.9, "ent_coef": 0.005,
    "policy_kwargs": {"net_arch": [128, 128]},
}  # fmt: skip
EVERY = 8  # rollouts between two checkpoints
SEED = 3_000_160  # of the env's patients while it learns


def train(
    folder: Path, steps: int, risk: str, progress: Callable[[int], None] = lambda n: None
) -> tuple[Any, list[dict[str, float]]]:
    """The policy after ``steps`` and its curve (steps, mean return and deaths per 1000 of the episodes of a rollout).

    A training that was stopped goes on from its last checkpoint in ``folder``.
    """
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.callbacks import BaseCallback

    from ecg_gym.envs.sb3 import sb3_vec_env

    folder.mkdir(parents=True, exist_ok=True)
    diary = folder / "curve.json"
    curve: list[dict[str, float]] = json.loads(diary.read_text()) if diary.is_file() else []
    done = int(curve[-1]["steps"]) if curve else 0
    envs = sb3_vec_env(ID, ENVS, fidelity="vitals", risk=risk, cost=False)
    envs.seed(SEED + done)
    if done:
        model = MaskablePPO.load(folder / f"{done}.zip", env=envs, device="cpu")
    else:
        model = MaskablePPO("MlpPolicy", envs, seed=0, device="cpu", learning_rate=slower, **SETTINGS)

    class Keeper(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.returns: list[float] = []
            self.deaths: list[bool] = []

        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    self.returns.append(float(info["episode"]["r"]))
                    self.deaths.append(bool(info["lost"]))
            progress(ENVS)
            return True

        def _on_rollout_end(self) -> None:
            if self.num_timesteps % (EVERY * ENVS * STEPS) == 0 and self.returns:
                self.keep()

        def keep(self) -> None:
            old = int(curve[-1]["steps"]) if curve else 0
            curve.append({
                "steps": self.num_timesteps, "return": float(np.mean(self.returns)),
                "deaths_per_1000": 1000 * float(np.mean(self.deaths)), "episodes": len(self.returns),
            })  # fmt: skip
            self.returns, self.deaths = [], []
            self.model.save(folder / f"{self.num_timesteps}.zip")
            write_bytes(diary, json.dumps(curve).encode())
            if old:
                (folder / f"{old}.zip").unlink(missing_ok=True)

    progress(done)
    if steps > done:
        model.learn(steps - done, callback=Keeper(), reset_num_timesteps=False)
        model.save(folder / "final.zip")
    envs.close()
    return model, curve


def slower(left: float) -> float:
    """The learning rate while this share of the training is left."""
    return FASTEST * left


class Learned:
    """The policy's most likely allowed action, out of the observation of the default id."""

    def __init__(self, model: Any, risk: str) -> None:
        self.model = model
        self.whole: EnvSetup = make_setup(EnvConfig("oracle", fidelity="vitals", risk=risk))

    def __call__(self, task: Task, episode: Episode, rng: np.random.Generator) -> np.ndarray:
        """The entries ``(B,)``; the episode must be of the whole menu."""
        seen = self.whole.observation(episode)
        action, _ = self.model.predict(seen, deterministic=True, action_masks=episode.allowed)
        return np.asarray(action, int)
