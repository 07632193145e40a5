"""T peak and T end: vector magnitude over the level before the QRS; the end where the steepest tangent of the descent
meets the level behind it (Lepeschkin 1952, on the vector magnitude as in Johannesen 2014 doi:10.1038/clpt.2014.155).
"""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.arrays import local_maxima, slope_at, smallest, sort
from ecg_gym.waveform.r_peaks import RATE_HZ
from ecg_gym.waveform.rules import MS, Numbers

FOUND, NO_PEAK, TOO_SMALL, STAYS_UP = range(4)  # what was made out of a T wave
_NAN = math.nan


@compiled
def t_marks(
    size: np.ndarray, r: int, rr_ms: float, j: int, last: int, next_p: int, tail: float, least_mv: float,
    rules: Numbers,
) -> tuple[float, float, float, int]:  # fmt: skip
    """T peak and T end [columns], amplitude [mV], and a code; nothing from ``last`` on belongs to this beat.

    T peaks before the next P wave begins (``next_p``; -1 for none) and falls before that one peaks; where there is
    none, T ends with its first deep valley, because one may hide behind it.
    """
    last = min(last, len(size) - round(10 * MS))
    before = last if next_p < 0 else min(last, next_p)
    peak = _top(size, r, rr_ms, j + round(50 * MS), before, rules)
    if peak < 0:  # a fast ventricular rhythm has no ST segment
        peak = _top(size, r, rr_ms, j + round(10 * MS), before, rules)
    if peak < 0:
        return _NAN, _NAN, _NAN, NO_PEAK
    height = float(size[peak])
    if height < least_mv:
        return _NAN, _NAN, _NAN, TOO_SMALL
    stop = min(last, peak + round(200 * MS))
    stop = min(stop, peak + _first_valley(size, peak, last) + 1) if next_p < 0 else min(stop, next_p + rules.p_half)
    stop = max(stop, peak + 2)
    steepest, fall = peak, slope_at(size, peak, peak, stop)
    for i in range(peak + 1, stop):
        slope = slope_at(size, i, peak, stop)
        if slope < fall:
            steepest, fall = i, slope
    level = _lowest(size, steepest, min(last, steepest + round(200 * MS)))
    if fall >= 0 or height - level < 0.3 * height:
        return float(peak), _NAN, height, STAYS_UP
    return float(peak), steepest + tail * (level - size[steepest]) / fall, height, FOUND


@compiled
def _top(size: np.ndarray, r: int, rr_ms: float, first: int, last: int, rules: Numbers) -> int:
    """The likeliest T peak between two columns; -1 where there is none or no room for a T wave.

    How usual a column is for a T peak is a broad bell in time after R over sqrt(RR). It decides between T and a U
    wave, wander or a plateau of the ST segment, and moves no fiducial.
    """
    if last - first <= round(60 * MS):
        return -1
    tops = np.empty((last - first) // 2 + 1, np.int64)
    best, peak = -1.0, -1
    for k in range(local_maxima(size, first, last, tops)):
        seconds = (tops[k] - r) / RATE_HZ / math.sqrt(rr_ms / 1000)
        weight = math.exp(-0.5 * ((seconds - rules.usual_t_peak_s) / rules.t_peak_spread_s) ** 2)
        if size[tops[k]] * weight > best:
            best, peak = size[tops[k]] * weight, tops[k]
    return peak


@compiled
def _first_valley(size: np.ndarray, peak: int, last: int) -> int:
    """How far behind the peak the first minimum lies that is more than half way down."""
    low = (size[peak] + size[smallest(size, peak, last)]) / 2
    for i in range(peak + 1, last - 1):
        if size[i] < low and size[i] <= size[i - 1] and size[i] <= size[i + 1]:
            return i - peak
    return last - peak - 1


@compiled
def _lowest(x: np.ndarray, first: int, last: int) -> float:
    """The mean of the lowest tenth of ``x[first:last]``, which noise moves less than it moves the minimum."""
    part = x[first:last].copy()
    sort(part, len(part))
    count, total = max(1, int(0.1 * len(part))), 0.0
    for i in range(count):
        total += part[i]
    return total / count
