"""Whether the atria ever rest: what tells flutter, and other waves that turn without an end, from P waves.

Read off the median beat ``(8, W)`` before its P wave is looked for. A wave that turns round the atria moves at nearly
the same speed all the time, while a P wave is followed by a PQ segment; and it comes again within a flutter's cycle.
"""

from __future__ import annotations

import math

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.waveform.arrays import slope_at, smoothed, sort
from ecg_gym.waveform.p_marks import stand_out
from ecg_gym.waveform.rules import MS, Numbers

_BEFORE, _ASIDE, _AROUND = round(240 * MS), round(10 * MS), round(80 * MS)
_LEAST, _PAIRS = round(100 * MS), round(70 * MS)  # columns that must be seen


@compiled
def restlessness(
    signal: np.ndarray, r: int, onset: int, rr_mean_ms: float, rr_sd_ms: float, rules: Numbers
) -> float:  # fmt: skip
    """10th over 90th percentile of the spatial velocity before the QRS: 0 is perfect rest.

    0 as well for a beat that the conduction system did not fire and for short irregular cycles, which are no flutter.
    """
    irregular = rr_mean_ms < rules.fastest_flutter_ms and rr_sd_ms > rules.regular * rr_mean_ms
    first, last = max(0, onset - _BEFORE), onset - _ASIDE
    if last - first < _LEAST or irregular or sharpness(signal, r, rules) < rules.conducted_sharpness:
        return 0.0
    width = onset + round(30 * MS)
    part, smooth = signal[:, :width].copy(), np.empty((signal.shape[0], width), np.float32)
    smoothed(part, width, rules.wave_kernel, smooth)
    speed = np.empty(last - first, np.float32)
    for i in range(first, last):
        speed[i - first] = _speed(smooth, i, 0, width)
    n = len(speed)
    sort(speed, n)
    return float(speed[n // 10]) / (float(speed[n * 9 // 10]) + 1e-9)


@compiled
def sharpness(signal: np.ndarray, r: int, rules: Numbers) -> float:
    """Largest spatial velocity of the QRS over its size [1/s]: what the conduction system fires is sharp."""
    width = 2 * _AROUND
    part, smooth = signal[:, r - _AROUND : r + _AROUND].copy(), np.empty((signal.shape[0], width), np.float32)
    smoothed(part, width, rules.qrs_kernel, smooth)
    fastest, size = 0.0, 0.0
    for i in range(width):
        fastest = max(fastest, _speed(smooth, i, 0, width))
    for lead in range(signal.shape[0]):
        low, high = smooth[lead, 0], smooth[lead, 0]
        for i in range(width):
            low, high = min(low, smooth[lead, i]), max(high, smooth[lead, i])
        size += (high - low) ** 2
    return 1000 * MS * fastest / (math.sqrt(size) + 1e-9)


@compiled
def recurrence(signal: np.ndarray, onset: int, end: int, rr_ms: float, rules: Numbers) -> float:
    """Largest correlation of one cycle, its QRS bridged, with itself a flutter cycle later."""
    leads, width = signal.shape
    first, last = onset - _ASIDE, end + round(24 * MS)
    if last >= width:
        return 0.0
    bridged, bump = signal.copy(), np.empty((leads, width), np.float32)
    for lead in range(leads):
        for i in range(first, last):
            share = np.float32(i - first) / np.float32(last - first - 1)
            bridged[lead, i] = signal[lead, first] * (1 - share) + signal[lead, last] * share
    stand_out(bridged, 0, width, rules, bump)
    begin, stop = max(0, onset - round(min(480.0, rr_ms) * MS)), min(width, onset + round((rr_ms - 16) * MS))
    hidden_from, hidden_to = first - rules.p_half // 2, last + rules.p_half // 2
    best = 0.0
    for lag in range(rules.again_first, rules.again_last, 2):
        count, dot, one, other = 0, 0.0, 0.0, 0.0
        for i in range(begin, stop - lag):
            j = i + lag
            if (hidden_from <= i < hidden_to) or (hidden_from <= j < hidden_to):
                continue
            count += 1
            for lead in range(leads):
                x, y = bump[lead, i], bump[lead, j]
                dot += x * y
                one += x * x
                other += y * y
        if count >= _PAIRS:
            best = max(best, dot / math.sqrt(one * other + 1e-12))
    return best


@compiled
def _speed(smooth: np.ndarray, i: int, first: int, last: int) -> float:
    total = 0.0
    for lead in range(smooth.shape[0]):
        step = slope_at(smooth[lead], i, first, last)
        total += step * step
    return math.sqrt(total)
