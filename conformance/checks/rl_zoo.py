"""RL Zoo trains PPO and DQN on our ids from its own command line, with a page of hyperparameters of ours."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from conformance.script import ORACLE, need, run

PAGE = """
{name}:
  n_timesteps: !!float 64
  policy: MlpPolicy
  {settings}
"""
ALGORITHMS = {"ppo": "n_steps: 16\n  batch_size: 16\n  n_epochs: 1", "dqn": "learning_starts: 16\n  batch_size: 16"}


def check() -> str:
    need("rl_zoo3")
    for algorithm, settings in ALGORITHMS.items():
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.yml"
            page.write_text(PAGE.format(name=ORACLE, settings=settings), encoding="utf-8")
            command = [sys.executable, "-m", "rl_zoo3.train", "--algo", algorithm, "--env", ORACLE]
            command += ["--gym-packages", "ecg_gym", "-conf", str(page), "--log-folder", folder, "--seed", "0"]
            command += [
                "--eval-freq",
                "32",
                "--eval-episodes",
                "1",
                "--env-kwargs",
                "risk:'limits'",
                "--num-threads",
                "1",
            ]
            subprocess.run([*command, "--eval-env-kwargs", "risk:'limits'"], check=True, cwd=folder)
            assert list(Path(folder).rglob(f"{ORACLE}.zip")), "RL Zoo trained and kept no policy"
            assert list(Path(folder).rglob("best_model.zip")), "RL Zoo evaluated nothing"
    return f"rl_zoo3 {version('rl_zoo3')}: {', '.join(ALGORITHMS)} trained, evaluated and saved"


if __name__ == "__main__":
    run(check)
