"""What spoils a recording, added at the electrodes, so that Einthoven's law survives it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from ecg_gym.compiled import compiled
from ecg_gym.virtual_patient.draws import below, normal, stream, uniform
from ecg_gym.virtual_patient.population import population

_BANK_S = 1200.0
_WHOLE_BAND_HZ = 512.0  # sampled so fast or nearly, a recording holds all of the noise
_STARTS, _MOTION = 7, 8  # purposes of a row's streams of random numbers


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
        bank = _make(np.random.default_rng(int(rng.integers(1 << 62))), rate_hz, 8 * samples)
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
    return _make(np.random.default_rng(17), rate_hz, round(_BANK_S * rate_hz))


def _make(rng: np.random.Generator, rate_hz: float, samples: int) -> np.ndarray:
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


def add_noise(keys: np.ndarray, level: np.ndarray, rate_hz: float, strip: np.ndarray, out: np.ndarray) -> None:
    """The twelve leads ``out (B, 12, T)`` of ``strip (B, T, 8)`` [mV] with noise of nine electrodes, ``level (B,)``.

    Each row's noise is drawn by its key ``(B,)``: nine cuts out of one long recording, which closes to a circle.
    """
    motion = population()["recording"]["motion"]
    figures = np.array([motion[name] for name in ("from_level", "step_mv", "per_s", "decay_s")], float)
    _add_noise(keys, level, _strip_bank(rate_hz), rate_hz, figures, strip, out)


@lru_cache(maxsize=4)
def _strip_bank(rate_hz: float) -> np.ndarray:
    """Twenty minutes of one electrode's noise ``(T,)`` float32 [mV] as a recording sampled at that rate holds it."""
    if rate_hz > 0.8 * _WHOLE_BAND_HZ:
        return _bank(rate_hz)
    whole, n = _bank(_WHOLE_BAND_HZ), round(_BANK_S * rate_hz)
    spectrum = rfft(whole.astype(float))[: n // 2 + 1]
    hz = np.arange(len(spectrum)) / (len(whole) / _WHOLE_BAND_HZ)
    fade = 0.5 * (1 + np.cos(np.pi * np.clip((hz / rate_hz - 0.42) / 0.08, 0, 1)))
    return (irfft(spectrum * fade, n) * (n / len(whole))).astype(np.float32)


@compiled
def _add_noise(
    keys: np.ndarray, level: np.ndarray, bank: np.ndarray, rate: float, motion: np.ndarray, strip: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    samples, n, electrodes = strip.shape[1], len(bank), 9
    noise, third, half = np.zeros((electrodes, samples), np.float32), np.float32(1 / 3), np.float32(0.5)
    for b in range(len(keys)):
        s, size = stream(keys[b], _STARTS), np.float32(level[b])
        if size > 0:
            for e in range(electrodes):
                at = below(s, n)
                for j in range(samples):
                    noise[e, j] = size * bank[at]
                    at = at + 1 if at + 1 < n else 0
            if size > motion[0]:
                _move(keys[b], level[b], rate, motion, noise)
        else:
            noise[:] = 0
        for j in range(samples):
            ra, la, ll = noise[0, j], noise[1, j], noise[2, j]
            wilson = (ra + la + ll) * third
            one, two = strip[b, j, 0] + la - ra, strip[b, j, 1] + ll - ra
            out[b, 0, j], out[b, 1, j], out[b, 2, j] = one, two, two - one
            out[b, 3, j], out[b, 4, j], out[b, 5, j] = -(one + two) * half, one - two * half, two - one * half
            for v in range(6):
                out[b, 6 + v, j] = strip[b, j, 2 + v] + noise[3 + v, j] - wilson


@compiled
def _move(key: np.uint64, level: float, rate: float, motion: np.ndarray, noise: np.ndarray) -> None:
    """Steps of the offset of two electrodes that decay, as when a cable is pulled."""
    s = stream(key, _MOTION)
    decay, chance = math.exp(-1 / (motion[3] * rate)), motion[2] / rate
    for _ in range(2):
        e, offset = below(s, len(noise)), 0.0
        for j in range(noise.shape[1]):
            offset *= decay
            if uniform(s) < chance:
                offset += normal(s) * level * motion[1]
            noise[e, j] += np.float32(offset)
