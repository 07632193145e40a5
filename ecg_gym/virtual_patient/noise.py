"""What spoils a recording, added at the electrodes, so that Einthoven's law survives it."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len

from ecg_gym.virtual_patient.population import population


def electrode_noise(
    rng: np.random.Generator, electrodes: int, samples: int, rate_hz: float, level: float = 1.0
) -> np.ndarray:
    """``(electrodes, samples)`` [mV]: baseline wander and muscle noise, times ``level``; see ``population.yaml``."""
    if level == 0:
        return np.zeros((electrodes, samples))
    n = next_fast_len(samples, real=True)
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    slow, fast = population()["recording"]["wander"], population()["recording"]["muscle"]
    muscle = np.exp(-((hz / fast["high_hz"]) ** 4)) * (1 - np.exp(-((hz / fast["low_hz"]) ** 2)))
    wander = np.where((hz > slow["low_hz"]) & (hz < slow["high_hz"]), np.exp(-((hz / slow["hz"]) ** 2)), 0.0)
    total = np.zeros((electrodes, len(hz)), complex)
    for shape, rms in ((wander, slow["rms_mv"]), (muscle, fast["rms_mv"])):
        draws = rng.standard_normal((2, electrodes, len(hz)), dtype=np.float32)
        power = np.sqrt(2 * np.sum(shape**2) * 2) / n
        total += (draws[0] + 1j * draws[1]) * shape * (level * rms / power)
    return irfft(total, n, axis=1)[:, :samples]
