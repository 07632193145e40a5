"""Strips of the model grid as other groups' networks expect them; every number is a row of ``preprocessing.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import butter, filtfilt, iirnotch

from ecg_gym.core import MODEL_RATE_HZ, as_twelve_leads
from ecg_gym.waveform.filters import resample
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("preprocessing.yaml")
SMALLEST_SD = 1e-8  # [mV] keeps a flat strip from dividing by zero, as published for ECGFounder


@cache
def _number(model: str, name: str) -> float:
    return float(read_yaml(TABLE)[model][name]["value"])


def founder_input(strips: np.ndarray) -> np.ndarray:
    """``(B, 12, 5000)`` float32 for ECGFounder, from strips ``(B, 12 or 8, 1024)`` [mV] on the model grid.

    500 Hz; a notch at the mains frequency and a Butterworth band-pass, both forwards and backwards; minus the running
    median; then one mean and one SD over all leads of the strip.
    """
    rate = _number("ecgfounder", "rate")
    x = at_rate(strips, rate)
    notch = iirnotch(_number("ecgfounder", "notch"), _number("ecgfounder", "notch_quality"), rate)
    band = [_number("ecgfounder", "low"), _number("ecgfounder", "high")]
    for b, a in (notch, butter(int(_number("ecgfounder", "order")), band, "bandpass", fs=rate)):
        x = filtfilt(b, a, x)
    x = x - running_median(x, odd(int(_number("ecgfounder", "median") * rate) + 1))
    axes = (1, 2)
    return ((x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + SMALLEST_SD)).astype(np.float32)


def fm_input(strips: np.ndarray) -> np.ndarray:
    """``(B, 2, 12, 2500)`` float32 for ECG-FM: both halves of each strip at 500 Hz.

    Every lead has mean 0 and SD 1 over the whole strip, before it is halved; a flat lead stays 0.
    """
    x = at_rate(strips, _number("ecg_fm", "rate"))
    sd = x.std(-1, keepdims=True)
    x = (x - x.mean(-1, keepdims=True)) / np.where(sd > SMALLEST_SD, sd, 1.0)
    b, leads, samples = x.shape
    halves = x.reshape(b, leads, 2, samples // 2)
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3), dtype=np.float32)


def at_rate(strips: np.ndarray, rate_hz: float) -> np.ndarray:
    """Twelve leads ``(B, 12, T)`` float64 [mV] at another rate; the strip is taken as periodic, without its step.

    The straight line between the first and the last sample is taken out before resampling and put back, so that the
    ends do not ring. ValueError for strips that are not on the model grid.
    """
    x = as_twelve_leads(strips).astype(float)
    line = np.linspace(0.0, 1.0, x.shape[-1])
    first, last = x[..., :1], x[..., -1:]
    calm = resample(x - first - (last - first) * line, MODEL_RATE_HZ, rate_hz)
    return calm + first + (last - first) * np.linspace(0.0, 1.0, calm.shape[-1])


def running_median(x: np.ndarray, window: int) -> np.ndarray:
    """The median of ``window`` (odd) samples around each, ``(B, C, T)``, with zeros beyond both ends."""
    result = np.empty_like(x)
    for place in np.ndindex(x.shape[:-1]):
        result[place] = median_filter(x[place], window, mode="constant")
    return result


def odd(number: int) -> int:
    """``number``, or the next one where it is even."""
    return number + (number % 2 == 0)
