"""``python -m ecg_gym.precompile`` compiles the loops of the virtual patient before anybody waits for them.

Compiled code is kept beside the package, so it is done once for a version. Two processes that begin at the same time
would both compile everything.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known

STEPS = 2
ENTRIES = (0, 1)  # watching and a treatment, so that both kinds of steps are met


def precompile() -> None:
    """Steps envs of every fidelity, alone and in a batch."""
    for fidelity in ("vitals", "strip"):
        words: dict[str, Any] = {"fidelity": fidelity, "risk": "limits"}
        batch = gym.make_vec("ECGInterventionOracle-v0", num_envs=2, **words)
        batch.reset(seed=0)
        alone = gym.make("ECGInterventionOracle-v0", **words)
        alone.reset(seed=0)
        for step in range(STEPS):
            batch.step(np.full(2, ENTRIES[step % 2]))
            alone.step(ENTRIES[step % 2])
        batch.close()
        alone.close()


if __name__ == "__main__":
    precompile()
