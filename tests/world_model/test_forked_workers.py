"""Workers forked from a process that has used torch with several threads answer, instead of waiting for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import gymnasium as gym, numpy as np, ecg_gym
if __name__ == "__main__":
    one = gym.make("ECGIntervention-v0")
    one.reset(seed=0)
    one.step(0)
    many = gym.make_vec("ECGIntervention-v0", num_envs=2, vectorization_mode="async")
    many.reset(seed=0)
    print(len(many.step(np.zeros(2, int))[1]))
    many.close(terminate=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")
def test_async_vector_env_of_the_learned_world_works_with_default_threads(tmp_path) -> None:
    script = tmp_path / "run.py"
    script.write_text(CODE, encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-W", "ignore", str(script)], env=plain, capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == b"2"
