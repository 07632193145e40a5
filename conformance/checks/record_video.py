"""Gymnasium's ``RecordVideo`` (moviepy) films an episode, single and vector."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gymnasium as gym
from gymnasium.wrappers import RecordVideo
from gymnasium.wrappers.vector import RecordVideo as RecordVectorVideo

from conformance.script import CHEAP, ORACLE, need, run


def check() -> str:
    (moviepy,) = need("moviepy")
    with tempfile.TemporaryDirectory() as folder:
        env = RecordVideo(gym.make(f"ecg_gym:{ORACLE}", render_mode="rgb_array", **CHEAP), folder)
        env.reset(seed=0)
        for _ in range(8):
            env.step(0)
        env.close()
        envs = gym.make_vec(ORACLE, num_envs=2, render_mode="rgb_array", **CHEAP)
        films = RecordVectorVideo(envs, f"{folder}/vector", episode_trigger=lambda _: True)
        films.reset(seed=0)
        for _ in range(9):
            films.step([0, 0])
        films.close()
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.mp4")]
        assert len(sizes) >= 2, f"{len(sizes)} films; expected one of the env and one of the batch"
        assert min(sizes) > 5_000, f"the films have {sizes} bytes; expected pictures in them"
    return f"moviepy {moviepy.__version__}: {len(sizes)} films, {sum(sizes) // 1000} kB"


if __name__ == "__main__":
    run(check)
