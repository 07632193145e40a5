"""What spoils a recording, added at the electrodes, so that Einthoven's law survives it."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len

WANDER_HZ = 0.35  # breathing and sweating skin
MUSCLE_HZ = (15.0, 140.0)
WANDER_MV, MUSCLE_MV = 0.018, 0.006  # RMS per electrode of a decent resting recording (confidence L: own judgement)


def electrode_noise(
    rng: np.random.Generator, electrodes: int, samples: int, rate_hz: float, level: float = 1.0
) -> np.ndarray:
    """``(electrodes, samples)`` [mV]: baseline wander below 0.35 Hz and muscle noise, times ``level``."""
    if level == 0:
        return np.zeros((electrodes, samples))
    n = next_fast_len(samples, real=True)
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    muscle = np.exp(-((hz / MUSCLE_HZ[1]) ** 4)) * (1 - np.exp(-((hz / MUSCLE_HZ[0]) ** 2)))
    wander = np.where((hz > 0.04) & (hz < 1.0), np.exp(-((hz / WANDER_HZ) ** 2)), 0.0)
    total = np.zeros((electrodes, len(hz)), complex)
    for shape, rms in ((wander, WANDER_MV), (muscle, MUSCLE_MV)):
        draws = rng.standard_normal((2, electrodes, len(hz)), dtype=np.float32)
        power = np.sqrt(2 * np.sum(shape**2) * 2) / n
        total += (draws[0] + 1j * draws[1]) * shape * (level * rms / power)
    return irfft(total, n, axis=1)[:, :samples]
