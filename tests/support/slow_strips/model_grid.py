"""``model_strip``: the slow strip at 512 Hz, filtered and thinned to the model grid."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from scipy.fft import irfft, rfft

from ecg_gym.core import (
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.truth import Truth
from slow_strips.strip import RATE_HZ, Marks, synthesise

_SECONDS = MODEL_SAMPLES / MODEL_RATE_HZ
_SPARE_S = 3.0  # simulated on top, so that a beat to begin with can be found
_STRIDE = round(RATE_HZ / MODEL_RATE_HZ)
_WINDOW = 1600  # model samples that are filtered at once: a quick length
_AROUND = _STRIDE * (_WINDOW - MODEL_SAMPLES) // 2  # of them before the first that is kept, and behind the last


def model_strip(
    heart: Heart, change: Modulation, rng: np.random.Generator, potassium: float | None = None
) -> tuple[np.ndarray, Truth]:
    """A strip on the model grid, ``(12, 1024)`` float32 [mV], R_PEAK_OFFSET_S before an R peak, and its truth."""
    signal, truth = synthesise(heart, change, rng, RATE_HZ, _SECONDS + _SPARE_S, potassium)
    first = _first_r(signal, truth)
    start = first - round(R_PEAK_OFFSET_S * RATE_HZ)
    strip = limb_from_independent(_decimated(independent_from_leads(signal), start))
    shift = start / RATE_HZ
    assert isinstance(truth.fiducials, Marks)
    marks = truth.fiducials.moved(-shift)
    return strip, replace(truth, qrs_s=truth.qrs_s - shift, p_s=truth.p_s - shift, fiducials=marks)


def _first_r(signal: np.ndarray, truth: Truth) -> int:
    """Column of the first R peak that leaves room before it; without beats, a fixed place."""
    offset = R_PEAK_OFFSET_S + 0.05
    usable = truth.qrs_s[(truth.qrs_s > offset) & (truth.qrs_s < offset + _SPARE_S - 0.6)]
    if not len(usable):
        return round((offset + 0.1) * RATE_HZ)
    at = round(float(usable[0]) * RATE_HZ)
    window = independent_from_leads(signal[:, at : at + round(0.16 * RATE_HZ)])
    return at + int(np.argmax(np.linalg.norm(window, axis=0)))


def _decimated(signal: np.ndarray, start: int) -> np.ndarray:
    """``(8, 1024)`` float32: every fifth sample of ``signal (8, T)`` from ``start`` on, without what lies above 0.5 of
    the model rate.

    The strip is continued around its ends, and the window that is filtered fades far outside the part that is kept.
    """
    columns = np.arange(start - _AROUND, start - _AROUND + _STRIDE * _WINDOW) % signal.shape[1]
    spectrum = rfft(signal[:, columns] * _fade(), axis=1)[:, : _WINDOW // 2 + 1]
    kept = irfft(spectrum * _low_pass(), _WINDOW, axis=1)
    return kept[:, _AROUND // _STRIDE : _AROUND // _STRIDE + MODEL_SAMPLES]


@cache
def _low_pass() -> np.ndarray:
    hz = np.arange(_WINDOW // 2 + 1) * (MODEL_RATE_HZ / _WINDOW)
    low, high = 0.42 * MODEL_RATE_HZ, 0.5 * MODEL_RATE_HZ
    return (0.5 * (1 + np.cos(np.pi * np.clip((hz - low) / (high - low), 0, 1))) / _STRIDE).astype(np.float32)


@cache
def _fade() -> np.ndarray:
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_AROUND // 4) + 0.5) / (_AROUND // 4))
    return np.concatenate([edge, np.ones(_STRIDE * _WINDOW - 2 * len(edge)), edge[::-1]]).astype(np.float32)
