"""Stable-Baselines3's ``check_env`` with warnings as errors, wrapped and unwrapped, in every mode of both worlds."""

from __future__ import annotations

import gymnasium as gym
from stable_baselines3 import __version__
from stable_baselines3.common.env_checker import check_env

from conformance.checks.gymnasium_checker import MODES
from conformance.script import ORACLE, WORLDS, run, strict

STRIP = ".*unconventional shape.*"  # (12, 1024) and (4, 128) are strips and latents, not images; SB3 says so, rightly


def check() -> str:
    checked = 0
    for name, kwargs in WORLDS.items():
        for mode in MODES:
            if name == ORACLE and mode.get("obs") == "latent":
                continue  # the virtual patient has no latent
            print(name, mode, flush=True)
            env = gym.make(f"ecg_gym:{name}", **kwargs, **mode)
            with strict(STRIP):
                check_env(env)
                check_env(env.unwrapped)
            checked += 2
    return f"stable-baselines3 {__version__}: {checked} checks"


if __name__ == "__main__":
    run(check)
