"""``fit``: PPO and DQN of SB3, MaskablePPO, QR-DQN and RecurrentPPO of sb3-contrib, with checkpoints.

Those without masks (all but MaskablePPO) give a noop for what is not allowed. A training killed at any time goes on
from its last checkpoint with the same call; the episodes under way are begun anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import write_bytes

DIARY = "diary.json"
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def fit(
    venv: Any, algorithm: str, settings: Mapping[str, Any], steps: int, every: int, seed: int, folder: Path,
    progress: Callable[[int], None] = lambda steps: None,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Trains to ``steps`` from the last checkpoint in ``folder``, one ``every`` so many steps; closes the envs.

    Returns the model and its diary: ``steps``, ``returns`` of all episodes, ``cpu_seconds`` and ``curve``, a row
    ``[steps, mean return, episodes]`` per checkpoint. Patients have seeds from ``seed`` + steps on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model, diary = _begin(venv, algorithm, settings, seed, folder)
        progress(model.num_timesteps)
        if (left := steps - model.num_timesteps) > 0:
            venv.seed(seed + model.num_timesteps)
            keeper = _keeper(diary, folder, every, progress)
            model.learn(left, callback=keeper, log_interval=None, reset_num_timesteps=False)  # schedules span it all
            _keep(model, diary, folder)
    finally:
        venv.close()
    return model, diary


def algorithm_named(name: str) -> Any:
    """The class behind the name; ``ValueError`` for another name."""
    import sb3_contrib
    import stable_baselines3

    classes = {
        "ppo": stable_baselines3.PPO, "dqn": stable_baselines3.DQN, "maskable-ppo": sb3_contrib.MaskablePPO,
        "qrdqn": sb3_contrib.QRDQN, "recurrent-ppo": sb3_contrib.RecurrentPPO,
    }  # fmt: skip
    if name not in classes:
        raise ValueError(f"algorithm is {name!r}; expected one of {', '.join(classes)}; check the spelling")
    return classes[name]


def _begin(
    venv: Any, algorithm: str, settings: Mapping[str, Any], seed: int, folder: Path
) -> tuple[Any, dict[str, Any]]:
    """The model of the last checkpoint, or a new one; and what is known of its training."""
    kind = algorithm_named(algorithm)
    if (folder / DIARY).is_file():
        diary = json.loads((folder / DIARY).read_text(encoding="utf-8"))
        model = kind.load(folder / f"{diary['steps']}.zip", env=venv, device="cpu")
        if (checkpoint := folder / f"{diary['steps']}.npz").is_file():
            with np.load(checkpoint) as arrays:
                for name in REPLAY:
                    getattr(model.replay_buffer, name)[:] = arrays[name]
                model.replay_buffer.pos, model.replay_buffer.full = int(arrays["pos"]), bool(arrays["full"])
        return model, diary
    policy = "MlpLstmPolicy" if algorithm == "recurrent-ppo" else "MlpPolicy"
    model = kind(policy, venv, seed=seed, device="cpu", **settings)
    return model, {"steps": 0, "returns": [], "curve": [], "cpu_seconds": 0.0}


def _keeper(diary: dict[str, Any], folder: Path, every: int, progress: Callable[[int], None]) -> Any:
    """A callback that notes the returns and keeps a checkpoint between two rollouts, when one is due."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Keeper(BaseCallback):
        began = time.process_time()

        def _on_rollout_start(self) -> None:
            if self.num_timesteps - diary["steps"] >= every:
                now = time.process_time()
                diary["cpu_seconds"] += now - self.began
                self.began = now
                _keep(self.model, diary, folder)

        def _on_step(self) -> bool:
            ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
            diary["returns"].extend(round(float(r), 4) for r in ended)
            progress(self.training_env.num_envs)
            return True

        def _on_training_end(self) -> None:
            diary["cpu_seconds"] += time.process_time() - self.began

    return Keeper()


def _keep(model: Any, diary: dict[str, Any], folder: Path) -> None:
    """A new set of files, then the line that points to it; then the old set goes."""
    steps, old = int(model.num_timesteps), diary["steps"]
    n_curve = sum(n for *_, n in diary["curve"])
    if fresh := diary["returns"][n_curve:]:
        diary["curve"].append([steps, round(float(np.mean(fresh)), 4), len(fresh)])
    model.save(folder / f"{steps}.zip")
    if (replay := getattr(model, "replay_buffer", None)) is not None:
        arrays = {name: getattr(replay, name) for name in REPLAY}
        np.savez(folder / f"{steps}.npz", **arrays, pos=replay.pos, full=replay.full)
    diary["steps"] = steps
    write_bytes(folder / DIARY, json.dumps(diary).encode())
    if old != steps:
        for path in folder.glob(f"{old}.*"):
            path.unlink()
