"""What spoils a recording, added at the electrodes, so that Einthoven's law survives it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len

from ecg_gym.virtual_patient.population import population

_BANK_S = 1200.0


def electrode_noise(
    rng: np.random.Generator, electrodes: int, samples: int, rate_hz: float, level: float = 1.0
) -> np.ndarray:
    """``(electrodes, samples)`` float32 [mV]: baseline wander and muscle noise, times ``level``.

    Each electrode's is cut from a long recording that is made once for the rate. Recordings worse than the table's
    ``motion`` level also have electrodes that move.
    """
    if level == 0:
        return np.zeros((electrodes, samples), np.float32)
    bank = _bank(rate_hz)
    if samples > len(bank) // 8:
        bank = _made(np.random.default_rng(int(rng.integers(1 << 62))), rate_hz, 8 * samples)
    starts = rng.integers(len(bank) - samples, size=electrodes)
    noise = np.stack([bank[start : start + samples] for start in starts])
    noise *= np.float32(level)
    motion = population()["recording"]["motion"]
    if level > motion["from_level"]:
        noise[rng.integers(electrodes, size=2)] += _motion(rng, samples, rate_hz) * (level * motion["step_mv"])
    return noise


@lru_cache(maxsize=8)
def _bank(rate_hz: float) -> np.ndarray:
    """Twenty minutes of one electrode's noise at level 1, ``(T,)`` float32 [mV]; always the same for a rate."""
    return _made(np.random.default_rng(17), rate_hz, round(_BANK_S * rate_hz))


def _made(rng: np.random.Generator, rate_hz: float, samples: int) -> np.ndarray:
    """Gaussian noise with the spectra of the table."""
    n = next_fast_len(samples, real=True)
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    slow, fast = population()["recording"]["wander"], population()["recording"]["muscle"]
    muscle = np.exp(-((hz / fast["high_hz"]) ** 4)) * (1 - np.exp(-((hz / fast["low_hz"]) ** 2)))
    wander = np.where((hz > slow["low_hz"]) & (hz < slow["high_hz"]), np.exp(-((hz / slow["hz"]) ** 2)), 0.0)
    parts = ((wander, slow["rms_mv"]), (muscle, fast["rms_mv"]))
    scaled = [shape * rms * n / (2 * np.linalg.norm(shape)) for shape, rms in parts]
    spectrum = np.hypot(*scaled) * rng.standard_normal((len(hz), 2)).view(complex)[:, 0]  # independent: powers add
    return irfft(spectrum, n).astype(np.float32)


def _motion(rng: np.random.Generator, samples: int, rate_hz: float) -> np.ndarray:
    """``(2, samples)``: steps of an electrode's offset that decay, as when a cable is pulled; unit size."""
    motion = population()["recording"]["motion"]
    chance = motion["per_s"] / rate_hz
    jumps = np.where(rng.random((2, samples)) < chance, rng.standard_normal((2, samples)), 0.0)
    decay = np.exp(-np.arange(round(4 * motion["decay_s"] * rate_hz)) / (motion["decay_s"] * rate_hz))
    size = next_fast_len(samples + len(decay), real=True)
    return irfft(np.fft.rfft(jumps, size) * np.fft.rfft(decay, size), size)[:, :samples]
