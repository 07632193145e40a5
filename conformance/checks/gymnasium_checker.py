"""Gymnasium's ``check_env`` with warnings as errors, on our ids in every mode, and ``check_environments_match``."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match

import ecg_gym  # noqa: F401 - makes the ids known
from conformance.script import CHEAP, LEARNED, ORACLE, has_torch, run, strict

SCENARIO = "AFRapidResponse"  # in all tiers, in both worlds; with the word "all", every id of the virtual patient
MODES: tuple[dict[str, Any], ...] = (
    {"obs": "features"},
    {"obs": "waveform"},
    {"obs": "latent"},
    {"actions": "multidiscrete"},
    {"samples": 3, "risk_aversion": 0.6},
    {"invalid_action": "terminate"},
    {"privileged": True},
)


def ours() -> list[str]:
    """Every id of this package."""
    return sorted(name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("ecg_gym."))


def env_ids(every: bool) -> list[str]:
    """The two plain ids and one scenario in all tiers, of each world that runs here; or every id of the oracle."""
    names = [name for name in ours() if name in (ORACLE, LEARNED) or SCENARIO in name or (every and is_oracle(name))]
    return [name for name in names if is_oracle(name) or has_torch()]


def is_oracle(name: str) -> bool:
    """Whether the virtual patient stands behind an id, so that it needs no weights."""
    return gym.spec(name).kwargs.get("world") == "oracle"


def check() -> str:
    checked = 0
    ids = env_ids(every="all" in sys.argv[1:])
    jobs: list[tuple[str, dict[str, Any]]] = [(name, CHEAP if is_oracle(name) else {}) for name in ids]
    jobs += [(ORACLE, {**CHEAP, **mode}) for mode in MODES if mode.get("obs") != "latent"]
    jobs += [(LEARNED, mode) for mode in MODES if has_torch()]
    for name, kwargs in jobs:
        print(name, kwargs, flush=True)
        with strict():
            plain = (name, kwargs) in ((ORACLE, CHEAP), (LEARNED, {}))  # pictures take longest, and are the same in all
            check_env(gym.make(name, **kwargs).unwrapped, skip_render_check=not plain)
        checked += 1
    matched = [ORACLE, LEARNED] if has_torch() else [ORACLE]
    for name in matched:
        kwargs = CHEAP if name == ORACLE else {}
        with strict():
            check_environments_match(gym.make(name, **kwargs), gym.make(name, **kwargs), num_steps=12, seed=3)
    left_out = "" if has_torch() else "; the learned world needs torch, which this environment leaves out"
    return f"Gymnasium {gym.__version__}: {len(ids)} ids, {checked} checks, {len(matched)} pairs of twins{left_out}"


if __name__ == "__main__":
    run(check)
