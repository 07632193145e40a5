"""``python -m ecg_gym.precompile`` compiles the loops of the virtual patient before anybody waits for them.

Compiled code is kept beside the package, so it is done once for a version. Two processes that begin at the same time
would both compile everything; here one compiles the patient while the other compiles what reads strips.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

import gymnasium as gym
import numpy as np

import ecg_gym  # noqa: F401 - makes the ids known
from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES
from ecg_gym.waveform import measure

STEPS = 2
ENTRIES = (0, 1)  # watching and a treatment, so that both kinds of steps are met
FIDELITIES = ("vitals", "strip")
IDS = ("ECGInterventionOracle-v0", "ECGOracle/AFRapidResponse-v0")  # fibrillation is drawn by loops of its own


def precompile() -> None:
    """Steps envs of every fidelity, alone and in a batch."""
    for fidelity in FIDELITIES:
        _step(fidelity)


def _step(fidelity: str) -> None:
    words: dict[str, Any] = {"fidelity": fidelity, "risk": "limits"}
    for name in IDS:
        batch = gym.make_vec(name, num_envs=2, **words)
        batch.reset(seed=0)
        alone = gym.make(name, **words)
        alone.reset(seed=0)
        for step in range(STEPS):
            batch.step(np.full(2, ENTRIES[step % 2]))
            alone.step(ENTRIES[step % 2])
        batch.close()
        alone.close()


def _read() -> None:
    """Measures a strip, which compiles what reads beats whatever the strip holds."""
    measure(ECG(np.zeros((1, 12, MODEL_SAMPLES), np.float32), MODEL_RATE_HZ))


def main() -> None:
    """As :func:`precompile`, in two processes that share the work; the strips of envs need what both have compiled."""
    reading = multiprocessing.get_context("spawn").Process(target=_read)
    reading.start()
    _step("vitals")
    reading.join()
    _step("strip")


if __name__ == "__main__":
    main()
