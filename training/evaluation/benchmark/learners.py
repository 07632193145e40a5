"""Agents that are trained first: PPO and DQN of SB3, MaskablePPO, QR-DQN and RecurrentPPO of sb3-contrib.

They are trained in the learned model or in the virtual patient, on patients that nobody is judged on. Those without
masks (all but MaskablePPO) give a noop for what is not allowed. A training killed at any time goes on from its last
checkpoint with the same command; the episodes under way are begun anew.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.io import write_bytes
from planners import PlanInfo
from training.evaluation.benchmark.base import Prepared, Setting
from training.evaluation.benchmark.episodes import Agent
from training.evaluation.benchmark.protocol import IDS, TRAINED, Protocol

DIARY = "diary.json"
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class Learned:
    """A trained policy, asked for its most likely action."""

    def __init__(self, env: Any, algorithm: str, artefact: bytes) -> None:
        self.env, self.masked = env, algorithm == "maskable-ppo"
        self.model = algorithm_named(algorithm).load(io.BytesIO(artefact), device="cpu")

    def reset(self, seed: int | None = None) -> None:
        """It keeps nothing and draws nothing."""

    def act(self, obs: Any, info: Mapping[str, Any]) -> tuple[Any, PlanInfo]:
        """The action, and the treatment that it means."""
        row = {"action_masks": np.asarray(info["action_mask"], bool)} if self.masked else {}
        action, _ = self.model.predict(obs, deterministic=True, **row)
        return int(action), PlanInfo(self.env.unwrapped.treatment(int(action)))


def learned(env: Any, setting: Setting, row: Mapping[str, Any]) -> Agent:
    """The agent of a trained policy."""
    return Learned(env, row["algorithm"], setting.artefact)


def train(setting: Setting, row: Mapping[str, Any], folder: Path) -> Prepared:
    """Trains to the budget of ``told``: ``algorithm``, ``world``, ``steps``, ``envs``; and says how it went.

    Checkpoints are written to ``folder`` every ``every`` steps and removed at the end.
    """
    venv = vector_env(setting.protocol, setting.scenario, row["world"], int(row["envs"]))
    start = setting.protocol.seed(setting.seed, 0, TRAINED)
    model, diary = fit(venv, row["algorithm"], row["learning"], int(row["steps"]), int(row["every"]), start, folder)
    content = io.BytesIO()
    model.save(content)
    shutil.rmtree(folder)
    returns, part = diary["returns"], max(1, len(diary["returns"]) // 4)
    return content.getvalue(), {
        **{name: row[name] for name in ("algorithm", "world", "envs")},
        "steps": int(model.num_timesteps),
        "episodes": len(returns),
        "cpu_seconds": round(diary["cpu_seconds"], 1),
        "return_first_quarter": float(np.mean(returns[:part])) if returns else None,
        "return_last_quarter": float(np.mean(returns[-part:])) if returns else None,
    }


def vector_env(protocol: Protocol, scenario: str, world: str, n: int) -> Any:
    """``n`` envs of the scenario as one batch for SB3, which remembers the return of each episode."""
    from ecg_gym.envs.sb3 import sb3_vec_env

    row = {name: value for name, value in protocol.arguments(scenario, world).items() if name != "reward_timing"}
    return sb3_vec_env(IDS[world], n, **row)


def fit(
    venv: Any, algorithm: str, settings: Mapping[str, Any], steps: int, every: int, seed: int, folder: Path
) -> tuple[Any, dict[str, Any]]:
    """Trains to ``steps`` from the last checkpoint in ``folder``, one ``every`` so many steps; closes the envs.

    Returns the model and its diary: ``steps``, ``returns`` of all episodes, ``cpu_seconds`` and ``curve``, a row
    ``[steps, mean return, episodes]`` per checkpoint. Patients have seeds from ``seed`` + steps on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model, diary = _begin(venv, algorithm, settings, seed, folder)
        if (left := steps - model.num_timesteps) > 0:
            venv.seed(seed + model.num_timesteps)
            keeper = _keeper(diary, folder, every)
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
        if (kept := folder / f"{diary['steps']}.npz").is_file():
            with np.load(kept) as arrays:
                for name in REPLAY:
                    getattr(model.replay_buffer, name)[:] = arrays[name]
                model.replay_buffer.pos, model.replay_buffer.full = int(arrays["pos"]), bool(arrays["full"])
        return model, diary
    policy = "MlpLstmPolicy" if algorithm == "recurrent-ppo" else "MlpPolicy"
    model = kind(policy, venv, seed=seed, device="cpu", **settings)
    return model, {"steps": 0, "returns": [], "curve": [], "cpu_seconds": 0.0}


def _keeper(diary: dict[str, Any], folder: Path, every: int) -> Any:
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
            return True

        def _on_training_end(self) -> None:
            diary["cpu_seconds"] += time.process_time() - self.began

    return Keeper()


def _keep(model: Any, diary: dict[str, Any], folder: Path) -> None:
    """A new set of files, then the line that points to it; then the old set goes."""
    steps, old = int(model.num_timesteps), diary["steps"]
    told = sum(n for *_, n in diary["curve"])
    if fresh := diary["returns"][told:]:
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
