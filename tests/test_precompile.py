"""After precompiling, an env's first steps compile nothing."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from numba.core import event
import gymnasium as gym, numpy as np, ecg_gym
from ecg_gym.precompile import precompile
precompile()
met = event.RecordingListener()
event.register("numba:compile", met)
for fidelity in ("vitals", "strip"):
    envs = gym.make_vec("ECGInterventionOracle-v0", num_envs=3, fidelity=fidelity, risk="limits")
    envs.reset(seed=1)
    envs.step(np.array([0, 1, 2]))
print(len(met.buffer))
"""


def test_after_it_the_first_steps_compile_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]
